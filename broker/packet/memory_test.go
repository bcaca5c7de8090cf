package packet_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// taken is how many bytes f takes from the heap in all.
func taken(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemoryGrowsWithWhatCameAndNotWithWhatWasAnnounced(t *testing.T) {
	const announced = "ffffff7f" // 256 MiB
	for _, c := range []struct {
		name, start string
		version     packet.Version
	}{
		{"PUBLISH", "30" + announced + " 0001 't'", v5},
		{"CONNECT", "10" + announced + " 0004 'MQTT' 05", 0},
		{"SUBSCRIBE", "82" + announced + " 0001", v311},
	} {
		for _, more := range []int{0, 100_000} {
			b := append(raw(c.start), make([]byte, more)...)
			n := taken(func() {
				if _, err := read(b, c.version); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s: error %v", c.name, err)
				}
			})
			if most := uint64(32<<10 + 5*more); n > most {
				t.Errorf("%s, %d bytes came: %d bytes of memory, want at most %d", c.name, len(b), n, most)
			}
		}
	}
}

func TestAPacketBeyondTheLimitTakesNoMemory(t *testing.T) {
	b := append(raw("30 80808001"), make([]byte, 8<<20)...)
	n := uint64(math.MaxUint64) // the least of some: what others take meanwhile counts, too
	for range 5 {
		r := bufio.NewReader(bytes.NewReader(b))
		n = min(n, taken(func() {
			if _, err := packet.Read(r, v311, 1<<20); !errors.Is(err, packet.PacketTooLarge) {
				t.Errorf("error %v", err)
			}
		}))
	}
	if n > 4096 {
		t.Errorf("%d bytes of memory", n)
	}
}

func TestAPacketOfManySmallPartsTakesAFewTimesItsSize(t *testing.T) {
	filters := &packet.Subscribe{ID: 1, Filters: make([]packet.Filter, 200_000)}
	ids := &packet.Publish{Topic: "t"}
	for range 400_000 {
		ids.Properties.SubscriptionIDs = append(ids.Properties.SubscriptionIDs, 1)
	}
	for _, p := range []packet.Packet{filters, ids} {
		b, err := packet.Append(nil, p, v5)
		if err != nil {
			t.Fatal(err)
		}
		n := taken(func() {
			if _, err := read(b, v5); err != nil {
				t.Error(err)
			}
		})
		if n > 50*uint64(len(b)) {
			t.Errorf("%s of %d bytes: %d bytes of memory", p.Type(), len(b), n)
		}
	}
}

func TestAllocationsOfRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		packet  packet.Packet
		version packet.Version
		most    float64
	}{
		{"PUBLISH", &packet.Publish{Topic: "a/b", Payload: make([]byte, 100)}, v311, 2},
		{"PUBLISH in 5.0", &packet.Publish{Topic: "a/b", Payload: make([]byte, 100), Properties: packet.PublishProperties{
			ContentType: "text", UserProperties: []message.Property{{Key: "k", Value: "v"}},
		}}, v5, 3},
		{"PUBACK", &packet.Ack{Kind: packet.PUBACK, ID: 1}, v5, 1},
		{"PINGREQ", &packet.Pingreq{}, v5, 0},
	} {
		written, err := packet.Append(nil, c.packet, c.version)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(&again{b: written})
		n := testing.AllocsPerRun(100, func() {
			if _, err := packet.Read(r, c.version, 0); err != nil {
				t.Fatal(err)
			}
		})
		if n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.most)
		}
	}
}

func TestOnlyAPublishSharesMemoryAndNotWithTheReader(t *testing.T) {
	var stream []byte
	for _, p := range []packet.Packet{
		&packet.Publish{Topic: "first", Payload: []byte("kept")},
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "kept"}}},
		&packet.Publish{Topic: "other", Payload: []byte("lost")},
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "lost"}}},
	} {
		var err error
		if stream, err = packet.Append(stream, p, v311); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReaderSize(bytes.NewReader(stream), 16) // the least there is
	var got []packet.Packet
	for range 4 {
		p, err := packet.Read(r, v311, 0)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	publish := got[0].(*packet.Publish)
	_ = append(publish.Payload, "more"...) // must not reach anything of ours
	if publish.Topic != "first" || string(publish.Payload) != "kept" {
		t.Errorf("PUBLISH changed to %q %q", publish.Topic, publish.Payload)
	}
	if f := got[1].(*packet.Subscribe).Filters[0].Filter; f != "kept" {
		t.Errorf("SUBSCRIBE changed to %q", f)
	}
}
