package packet_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// FuzzNext compares Next with Read on the same bytes, and takes the same packets
// from a stream that comes one byte after the other.
func FuzzNext(f *testing.F) {
	for _, v := range vectors {
		f.Add(raw(v.bytes))
	}
	for _, m := range malformed {
		f.Add(raw(m.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		for _, version := range []packet.Version{0, v31, v311, v5} {
			var scratch packet.Scratch
			want, wantErr := packet.Read(reader(b), version, limit)
			got, n, gotErr := packet.Next(b, version, limit, &scratch)
			var reason packet.Reason
			if !errors.As(wantErr, &reason) && wantErr != nil { // the end of the stream
				if n != 0 || gotErr != nil {
					t.Fatalf("Next took %d bytes with error %v, Read said %v", n, gotErr, wantErr)
				}
				continue
			}
			if !errors.Is(gotErr, wantErr) {
				t.Fatalf("Next said %v, Read %v", gotErr, wantErr)
			}
			if diff := cmp.Diff(want, got, sameMeaning); diff != "" {
				t.Errorf("Next (+) and Read (-):\n%s", diff)
			}
			if wantErr != nil {
				continue
			}
			for i := range n {
				if _, took, err := packet.Next(b[:i], version, limit, &scratch); took != 0 || err != nil {
					t.Fatalf("Next took %d of %d bytes, error %v", took, i, err)
				}
			}
		}
	})
}

func TestNextTakesPacketsInOrder(t *testing.T) {
	var stream []byte
	for _, p := range []packet.Packet{
		&packet.Publish{Topic: "a", Payload: []byte("1")}, &packet.Pingreq{}, &packet.Publish{Topic: "b", Payload: []byte("2")},
	} {
		var err error
		if stream, err = packet.Append(stream, p, v5); err != nil {
			t.Fatal(err)
		}
	}
	var scratch packet.Scratch
	var topics []string
	for len(stream) > 0 {
		p, n, err := packet.Next(stream, v5, 0, &scratch)
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, error %v", n, err)
		}
		if p, ok := p.(*packet.Publish); ok {
			topics = append(topics, p.Topic)
		}
		stream = stream[n:]
	}
	if diff := cmp.Diff([]string{"a", "b"}, topics); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
}

func TestNextRefusesWhatIsAnnouncedTooLarge(t *testing.T) {
	var scratch packet.Scratch
	_, _, err := packet.Next([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, v5, 1<<20, &scratch)
	if !errors.Is(err, packet.PacketTooLarge) {
		t.Errorf("error %v, want %v", err, packet.PacketTooLarge)
	}
	if _, n, err := packet.Next([]byte{0x30, 0xff, 0xff}, v5, 1<<20, &scratch); n != 0 || err != nil {
		t.Errorf("half a header: %d bytes, error %v", n, err)
	}
}

func TestNextPublishNeedsNoMemory(t *testing.T) {
	encoded, err := packet.Append(nil, &packet.Publish{Topic: "a/b", Payload: make([]byte, 100)}, v5)
	if err != nil {
		t.Fatal(err)
	}
	var scratch packet.Scratch
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := packet.Next(encoded, v5, 0, &scratch); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a PUBLISH, want none", n)
	}
}
