package pieces_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/rules/pieces"
)

// Whatever is added, dropped and saved, what is found is what there was when it was saved
// last, with nothing but what was dropped before it.
func TestWhatIsFoundIsWhatWasSaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most, size := rapid.IntRange(1, 40).Draw(t, "most"), rapid.IntRange(1, 9).Draw(t, "size")
		l := pieces.Of(most, size)
		records := make(map[int]pieces.Found[int64])
		first, saved, end := int64(0), int64(0), int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			end += int64(rapid.IntRange(0, 2*most).Draw(t, "added"))
			first = max(first, end-int64(most))
			first = min(end, first+int64(rapid.SampledFrom([]int{0, 0, 0, 1, most}).Draw(t, "dropped")))
			written := 0
			for p := range l.Changed(first, saved, end) {
				f := pieces.Found[int64]{Slot: p.Slot, From: p.From}
				for i := p.From; i < p.To; i++ {
					f.Items = append(f.Items, i)
				}
				records[p.Slot] = f
				written += len(f.Items)
			}
			if added := int(end - max(first, saved)); written > added+size {
				t.Fatalf("%d items are written for %d", written, added)
			}
			saved = end
			var found []pieces.Found[int64]
			for _, f := range records {
				found = append(found, f)
			}
			if len(found) > l.Slots() {
				t.Fatalf("%d records are more than %d", len(found), l.Slots())
			}
			from, items, fits := pieces.Join(l, found)
			if !fits {
				t.Fatalf("%v does not fit", found)
			}
			for i, v := range items {
				if v != from+int64(i) {
					t.Fatalf("item %d is %d", from+int64(i), v)
				}
			}
			if have := from + int64(len(items)); end > first && (have != end || from > first) {
				t.Fatalf("there are %d to %d, not %d to %d", from, have, first, end)
			}
		}
	})
}

func TestJoin(t *testing.T) {
	type found = pieces.Found[string]
	l := pieces.Of(4, 2) // slots 0 to 2
	for name, c := range map[string]struct {
		found []found
		first int64
		want  []string
		fits  bool
	}{
		"nothing":               {nil, 0, nil, true},
		"one":                   {[]found{{1, 2, []string{"c"}}}, 2, []string{"c"}, true},
		"next to each other":    {[]found{{2, 4, []string{"e"}}, {1, 2, []string{"c", "d"}}}, 2, []string{"c", "d", "e"}, true},
		"what is left of older": {[]found{{0, 0, []string{"a", "b"}}, {2, 4, []string{"e"}}}, 4, []string{"e"}, true},
		"in another slot":       {[]found{{3, 2, []string{"c"}}}, 2, []string{"c"}, false},
		"across two pieces":     {[]found{{0, 1, []string{"b", "c"}}}, 1, []string{"b", "c"}, false},
		"too many":              {[]found{{0, 0, []string{"a", "b", "c"}}}, 0, nil, false},
		"below zero":            {[]found{{0, -1, []string{"a"}}}, 0, nil, false},
		"empty":                 {[]found{{0, 0, nil}}, 0, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			first, items, fits := pieces.Join(l, slices.Clone(c.found))
			if diff := cmp.Diff(c.want, items); diff != "" || first != c.first || fits != c.fits {
				t.Errorf("from %d, fits %t: %s", first, fits, diff)
			}
		})
	}
}
