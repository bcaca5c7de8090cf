package disk_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

var sizes = regexp.MustCompile(`of \d+ bytes`)

// unsized takes the sizes of queues out of a dump: a store knows them when it is opened.
func unsized(text string) string { return sizes.ReplaceAllString(text, "") }

// TestHistory makes random changes, in small segments that are rewritten all the time,
// and compares with a store in memory, before and after opening again.
func TestHistory(t *testing.T) {
	disk.Verify(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, fs, h := newWork(seed), crashfs.New(), newHistory(t)
			for round := range 5 {
				s := open(t, small(fs))
				if got, want := dump(t, s), h.dumps[len(h.dumps)-1]; got != want {
					t.Fatalf("round %d, opened:\n%s", round, near([]string{want}, got))
				}
				h.run(t, s, fs, w, 300)
				if got, want := unsized(dump(t, s)), unsized(h.dumps[len(h.dumps)-1]); got != want {
					t.Fatalf("round %d, before it is closed:\n%s", round, near([]string{want}, got))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
