package packet_test

import (
	"bufio"
	"bytes"
	"strconv"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

var benchPublish = packet.Publish{
	Topic: "home/hall/door/state", QoS: 1, ID: 7, Payload: bytes.Repeat([]byte("x"), 100),
}

// again gives the same bytes for ever.
type again struct {
	b    []byte
	next int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.b[a.next:])
	a.next = (a.next + n) % len(a.b)
	return n, nil
}

func BenchmarkRead(b *testing.B) {
	rich := benchPublish
	rich.Properties = packet.PublishProperties{ContentType: "application/json", UserProperties: []message.Property{{Key: "k", Value: "v"}}}
	for _, c := range []struct {
		name    string
		packet  packet.Packet
		version packet.Version
	}{
		{"publish/v4", &benchPublish, packet.V311},
		{"publish/v5", &benchPublish, packet.V5},
		{"publish/v5/properties", &rich, packet.V5},
		{"puback/v4", &packet.Ack{Kind: packet.PUBACK, ID: 7}, packet.V311},
		{"puback/v5", &packet.Ack{Kind: packet.PUBACK, ID: 7, Reason: packet.NoMatchingSubscribers}, packet.V5},
	} {
		b.Run(c.name, func(b *testing.B) {
			written, err := packet.Append(nil, c.packet, c.version)
			if err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReader(&again{b: written})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := packet.Read(r, c.version, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	ack := packet.Ack{Kind: packet.PUBACK, ID: 7}
	for _, version := range []packet.Version{packet.V311, packet.V5} {
		for _, p := range []packet.Packet{&benchPublish, &ack} {
			b.Run(p.Type().String()+"/v"+strconv.Itoa(int(version)), func(b *testing.B) {
				buf := make([]byte, 0, 4096)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := packet.Append(buf, p, version); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
