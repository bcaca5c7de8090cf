package discovery

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// FuzzCommand reads commands: what is read can be written, and is the same when it is
// read again.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		"", "ff", "080112200a01611003180720034a0f0a075175616c69747912040803180050fbffffff0f12070a0162200b7001",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseCommand(b)
		if err != nil {
			return
		}
		if len(all) > maxCommandMetrics {
			t.Fatalf("%d metrics", len(all))
		}
		for i := range all {
			all[i].at = time.UnixMilli(1)
			all[i].kind = sparkplugType(&point{kind: kindOf(all[i].value)})
		}
		again, err := parseCommand(appendPayload(nil, time.UnixMilli(1), 1, all))
		if err != nil || len(again) != len(all) {
			t.Fatalf("want %d metrics again, got %d, %v", len(all), len(again), err)
		}
		for i := range all {
			a, b := all[i].value, again[i].value
			x, _ := a.Float()
			y, _ := b.Float()
			if !a.Equal(b) && (a.Kind() != drivers.Decimal || x != y) {
				t.Errorf("want %v again, got %v", a, b)
			}
		}
	})
}
