package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
)

// grouped is a fake whose device takes two points at once.
type grouped struct{ *fake }

func (g grouped) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	d, err := g.fake.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return groupDevice{d.(*fakeDevice)}, nil
}

type groupDevice struct{ *fakeDevice }

func (d groupDevice) WriteGroup(ctx context.Context, writes []drivers.PointWrite) (n int, err error) {
	f := d.fake
	for _, w := range writes[:2] {
		f.change(func(f *fake) { err = errors.Join(err, f.writeErrs[w.Point]) })
	}
	if err != nil && !f.took {
		return 2, err
	}
	for _, w := range writes[:2] {
		_ = d.Write(ctx, w.Point, w.Value)
	}
	return 2, err
}

// What is written at once has one fate, and the answer names that of each point.
func TestCommandTogetherThatIsWrittenAtOnce(t *testing.T) {
	refused, lost := errors.New("refused"), fmt.Errorf("%w: no answer", drivers.ErrUncertain)
	for _, c := range []struct {
		name, payload, want string
		errs                map[string]error
		took                bool
		writes              []string
	}{
		{
			name: "all of it", payload: `{"a":1,"b":2,"c":3}`, want: `{"ok":true,"value":{"a":1,"b":2,"c":3}}`,
			writes: []string{"a=1", "b=2", "c=3"},
		},
		{
			name: "the first two are refused", payload: `{"a":1,"b":2,"c":3}`, errs: map[string]error{"b": refused},
			want: `{"ok":false,"error":"refused","failed":["a","b"],"not_tried":["c"]}`,
		},
		{
			name: "the others are refused", payload: `{"a":1,"b":2,"c":3,"d":4}`, errs: map[string]error{"d": refused},
			want:   `{"ok":false,"error":"refused","written":["a","b"],"failed":["c","d"]}`,
			writes: []string{"a=1", "b=2"},
		},
		{
			name: "nobody answers", payload: `{"a":1,"b":2}`, errs: map[string]error{"a": lost},
			want: `{"ok":false,"error":"unknown: may have been written: no answer","unknown":true,"value":{"a":null,"b":null},"failed":["a","b"]}`,
		},
		{
			name: "nobody answers, and it is done", payload: `{"a":1,"b":2}`, errs: map[string]error{"a": lost}, took: true,
			want:   `{"ok":true,"value":{"a":1,"b":2},"warning":"points \"a\", \"b\": the write was not answered, but the device holds the value"}`,
			writes: []string{"a=1", "b=2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{writeErrs: c.errs, took: c.took}
			o := one(f)
			o.Drivers["fake"] = grouped{f}
			file := device("together: true", "a: {writable: true}", "b: {writable: true}", "c: {writable: true}", "d: {writable: true}")
			inHouse(t, o, files("lamp.yaml", file), func(h *house) {
				if got := h.set("lamp/set", c.payload); got != c.want {
					t.Errorf("want %s, got %s", c.want, got)
				}
				if !slices.Equal(f.writes, c.writes) {
					t.Errorf("want %q written, got %q", c.writes, f.writes)
				}
				if n := h.status("lamp").Counters.Writes; c.errs == nil && n != 3 {
					t.Errorf("want 3 writes counted, got %d", n)
				}
			})
		})
	}
}
