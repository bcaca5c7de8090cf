package topic_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// house is a tree with n filters as people write them: mostly exact, some with
// "+", a few with "#".
func house(n int) *topic.Tree[int] {
	var tree topic.Tree[int]
	for i := range n {
		switch {
		case i%50 == 49:
			tree.Add(fmt.Sprintf("floor%d/#", i), i)
		case i%10 == 9:
			tree.Add(fmt.Sprintf("floor%d/+/door%d/state", i%100, i), i)
		default:
			tree.Add(fmt.Sprintf("floor%d/room%d/door%d/state", i%100, i%1000, i), i)
		}
	}
	return &tree
}

func BenchmarkTreeMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 10000, 100000} {
		b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
			tree := house(n)
			found := 0
			b.ReportAllocs()
			for b.Loop() {
				for range tree.Match("floor8/room8/door8/state") {
					found++
				}
			}
			if found == 0 {
				b.Error("nothing matches")
			}
		})
	}
}

// BenchmarkTreeMatchWide is the worst case: one message for very many.
func BenchmarkTreeMatchWide(b *testing.B) {
	var tree topic.Tree[int]
	for i := range 1000 {
		tree.Add("a/+", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range tree.Match("a/b") {
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !topic.Match("floor8/+/door8/#", "floor8/room8/door8/state") {
			b.Fatal("no match")
		}
	}
}
