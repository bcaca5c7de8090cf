package packet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// sameMeaning overlooks the one difference that a packet's bytes cannot show: a
// payload that is nil and one that is empty. (An empty property is not an absent
// one.)
var sameMeaning = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Payload" }, cmpopts.EquateEmpty()),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Password" }, cmpopts.EquateEmpty()),
	cmp.Comparer(func(a, b message.Property) bool { return a == b }),
}

// FuzzRead reads bytes as a packet of each version. What is accepted must come
// back the same after writing and reading it.
func FuzzRead(f *testing.F) {
	for _, v := range vectors {
		f.Add(raw(v.bytes))
	}
	for _, m := range malformed {
		f.Add(raw(m.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, version := range []packet.Version{0, v31, v311, v5} {
			first, err := packet.Read(reader(b), version, 1<<20)
			if err != nil {
				if c, ok := first.(*packet.Connect); first != nil && (!ok || c.Version == 0) {
					t.Errorf("packet %#v next to error %v", first, err)
				}
				continue
			}
			written, err := packet.Append(nil, first, version)
			if err != nil {
				t.Fatalf("Append of %#v: %v", first, err)
			}
			if len(written) > len(b) {
				t.Errorf("written with %d bytes, read from at most %d", len(written), len(b))
			}
			second, err := packet.Read(reader(written), version, len(written))
			if err != nil {
				t.Fatalf("Read of what Append wrote, %x: %v", written, err)
			}
			if diff := cmp.Diff(first, second, sameMeaning); diff != "" {
				t.Errorf("after writing and reading (-first +second):\n%s", diff)
			}
		}
	})
}
