package topic_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/topic"
)

func matching(tree *topic.Tree[string], name string) []string {
	return slices.Sorted(tree.Match(name))
}

func TestTreeYieldsEachPairThatMatches(t *testing.T) {
	var tree topic.Tree[string]
	for _, filter := range []string{"a/b", "a/+", "a/#", "+/b", "#", "a/b/#", "+/+", "x", "a/b/c", "+"} {
		tree.Add(filter, "1 "+filter)
		tree.Add(filter, "2 "+filter)
	}
	want := []string{"#", "+/+", "+/b", "a/#", "a/+", "a/b", "a/b/#"}
	for i := range len(want) {
		want = append(want, "2 "+want[i])
		want[i] = "1 " + want[i]
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, matching(&tree, "a/b")); diff != "" {
		t.Errorf("a/b (-want +got):\n%s", diff)
	}
}

func TestTreeYieldsAValueOncePerFilter(t *testing.T) {
	var tree topic.Tree[string]
	tree.Add("a/+", "v")
	tree.Add("a/#", "v")
	if tree.Add("a/+", "v") {
		t.Error("the same pair was new a second time")
	}
	if got := matching(&tree, "a/b"); len(got) != 2 || tree.Len() != 2 {
		t.Errorf("values %q, length %d", got, tree.Len())
	}
}

func TestTreeMatchCanBeLeftEarly(t *testing.T) {
	var tree topic.Tree[string]
	filters := []string{"#", "+/b", "a/#", "a/+", "a/b", "a/b/#"}
	for _, f := range filters {
		tree.Add(f, f)
		tree.Add(f, "again "+f)
	}
	for n := 1; n <= 2*len(filters); n++ {
		got := 0
		for range tree.Match("a/b") {
			if got++; got == n {
				break
			}
		}
		if got != n {
			t.Errorf("%d values, want %d", got, n)
		}
	}
}

func TestTreeOfTheDeepestFilters(t *testing.T) {
	var tree topic.Tree[string]
	name := strings.Repeat("/", topic.MaxLevels-1)
	deep := []string{
		name,
		strings.Repeat("+/", topic.MaxLevels-1) + "+",
		strings.Repeat("+/", topic.MaxLevels-1) + "#",
	}
	for _, f := range deep {
		if !topic.ValidFilter(f) || !tree.Add(f, f) {
			t.Fatalf("%q cannot be added", f)
		}
	}
	want := slices.Sorted(slices.Values(deep))
	if diff := cmp.Diff(want, matching(&tree, name)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, f := range deep {
		if !tree.Remove(f, f) {
			t.Errorf("%q was not there", f)
		}
	}
	if !tree.Empty() {
		t.Error("branches are left of an empty tree")
	}
}

func TestTreeForgetsTheBranchesThatItLeavesEmpty(t *testing.T) {
	filters := []string{"a/b/c", "a/b", "a/+/c/#", "#", "+/+", "$SYS/#", "/", "a/b/d"}
	var tree topic.Tree[string]
	for _, f := range filters {
		tree.Add(f, "v")
	}
	for i, f := range filters {
		if tree.Remove(f, "w") {
			t.Errorf("%q had a value that nobody added", f)
		}
		if !tree.Remove(f, "v") || tree.Remove(f, "v") {
			t.Errorf("%q must go once and not twice", f)
		}
		if left := len(filters) - i - 1; tree.Len() != left || tree.Empty() != (left == 0) {
			t.Errorf("without %q: length %d, empty %v, want %d", f, tree.Len(), tree.Empty(), left)
		}
	}
}

func TestTreeKeepsNoneOfTheCallersMemory(t *testing.T) {
	// Filters may be parts of a large packet: the tree copies what it keeps.
	packet := []byte("a/b")
	var tree topic.Tree[string]
	tree.Add(unsafe.String(&packet[0], len(packet)), "v")
	packet[0] = 'x'
	if got := matching(&tree, "a/b"); len(got) != 1 {
		t.Errorf("values %q", got)
	}
}

func TestTreeMatchTakesNoMemory(t *testing.T) {
	tree := house(1000)
	n := testing.AllocsPerRun(100, func() {
		for range tree.Match("floor8/room8/door8/state") {
			continue
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// levels are few, so that filters meet names often.
var (
	nameLevel   = rapid.SampledFrom([]string{"a", "b", "", "$a", "客厅"})
	filterLevel = rapid.SampledFrom([]string{"a", "b", "", "$a", "客厅", "+", "+"})
)

func drawName(t *rapid.T) string {
	name := strings.Join(rapid.SliceOfN(nameLevel, 1, 5).Draw(t, "name"), "/")
	if name == "" {
		name = "a"
	}
	return name
}

func drawFilter(t *rapid.T) string {
	levels := rapid.SliceOfN(filterLevel, 1, 5).Draw(t, "filter")
	if rapid.Bool().Draw(t, "hash") {
		levels[len(levels)-1] = "#"
	}
	filter := strings.Join(levels, "/")
	if filter == "" {
		filter = "a"
	}
	return filter
}

// TestTreeAgainstAModel adds, removes and looks up at random; the model is a map.
func TestTreeAgainstAModel(t *testing.T) {
	type pair struct {
		filter string
		value  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var tree topic.Tree[pair]
		model := map[pair]bool{}
		draw := func(t *rapid.T) pair { return pair{drawFilter(t), rapid.IntRange(0, 2).Draw(t, "value")} }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				p := draw(t)
				if got := tree.Add(p.filter, p); got == model[p] {
					t.Fatalf("Add of %v: %v", p, got)
				}
				model[p] = true
			},
			"remove": func(t *rapid.T) {
				p := draw(t)
				if len(model) > 0 && rapid.Bool().Draw(t, "one that is there") {
					all := slices.SortedFunc(maps.Keys(model), func(a, b pair) int {
						return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
					})
					p = rapid.SampledFrom(all).Draw(t, "pair")
				}
				if got := tree.Remove(p.filter, p); got != model[p] {
					t.Fatalf("Remove of %v: %v", p, got)
				}
				delete(model, p)
			},
			"match": func(t *rapid.T) {
				name := drawName(t)
				want, got := map[pair]int{}, map[pair]int{}
				for p := range model {
					if matchLevels(strings.Split(p.filter, "/"), strings.Split(name, "/"), true) {
						want[p] = 1
					}
				}
				for p := range tree.Match(name) {
					got[p]++
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(pair{})); diff != "" {
					t.Fatalf("%q (-want +got):\n%s", name, diff)
				}
			},
			"": func(t *rapid.T) {
				if tree.Len() != len(model) || tree.Empty() != (len(model) == 0) {
					t.Fatalf("length %d, empty %v, want %d", tree.Len(), tree.Empty(), len(model))
				}
			},
		})
	})
}

// FuzzTreeMatch compares three matchers that share no code: the tree, Match and
// the definition in matchLevels. The filters come separated by line feeds.
func FuzzTreeMatch(f *testing.F) {
	for _, c := range matches {
		f.Add(c.filter+"\n+/#\na", c.name)
	}
	f.Fuzz(func(t *testing.T, filters, name string) {
		if !topic.ValidName(name) {
			return
		}
		if !topic.ValidFilter(name) || !topic.Match(name, name) {
			t.Errorf("name %q is not a filter for itself", name)
		}
		var tree topic.Tree[string]
		var want []string
		added := map[string]bool{}
		for filter := range strings.SplitSeq(filters, "\n") {
			if !topic.ValidFilter(filter) || added[filter] {
				continue
			}
			added[filter] = true
			tree.Add(filter, filter)
			match := topic.Match(filter, name)
			if matchLevels(strings.Split(filter, "/"), strings.Split(name, "/"), true) != match {
				t.Errorf("Match(%q, %q) is %v", filter, name, match)
			}
			if match {
				want = append(want, filter)
			}
		}
		slices.Sort(want)
		if got := matching(&tree, name); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
		for filter := range added {
			if !tree.Remove(filter, filter) {
				t.Errorf("%q was not there", filter)
			}
		}
		if !tree.Empty() {
			t.Error("branches are left of an empty tree")
		}
	})
}

// FuzzValid compares the checks with the definition of MQTT 5.0 §4.7, level by level.
func FuzzValid(f *testing.F) {
	for _, c := range matches {
		f.Add(c.filter)
		f.Add(c.name)
	}
	f.Add("a\x00")
	f.Add("\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		levels := strings.Split(s, "/")
		text := s != "" && len(s) <= 65535 && len(levels) <= topic.MaxLevels && strings.ToValidUTF8(s, "") == s
		name, filter := text, text
		for i, level := range levels {
			if strings.Contains(level, "\x00") {
				name, filter = false, false
			}
			if strings.ContainsRune(level, '+') || strings.ContainsRune(level, '#') {
				name = false
				if level != "+" && (level != "#" || i != len(levels)-1) {
					filter = false
				}
			}
		}
		if got := topic.ValidName(s); got != name {
			t.Errorf("ValidName(%q): %v", s, got)
		}
		if got := topic.ValidFilter(s); got != filter {
			t.Errorf("ValidFilter(%q): %v", s, got)
		}
	})
}
