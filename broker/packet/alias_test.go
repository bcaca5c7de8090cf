package packet_test

import (
	"bufio"
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

func TestAppendAliased(t *testing.T) {
	expiry := uint32(7)
	for _, size := range []int{0, 1, 90, 110, 118, 122, 127, 128, 16_300, 16_380, 16_384, 70_000} {
		for _, qos := range []message.QoS{0, 1, 2} {
			for properties := range 4 {
				p := &packet.Publish{Topic: "home/hall/door", QoS: qos, Retain: size%2 == 0, Payload: bytes.Repeat([]byte("x"), size)}
				if qos > 0 {
					p.ID = 77
				}
				if properties > 0 {
					p.Properties.MessageExpiryInterval = &expiry
				}
				if properties > 1 { // 120 bytes and more: the length of the properties grows, or is of two bytes
					p.Properties.ContentType = string(bytes.Repeat([]byte("c"), 110*(properties-1)))
				}
				t.Run(fmt.Sprintf("size=%d/qos=%d/properties=%d", size, qos, properties), func(t *testing.T) { testAliased(t, p) })
			}
		}
	}
}

func testAliased(t *testing.T, p *packet.Publish) {
	plain, err := packet.Append(nil, p, packet.V5)
	if err != nil {
		t.Fatal(err)
	}
	if name := packet.PublishTopic(plain); string(name) != p.Topic {
		t.Errorf("topic is %q", name)
	}
	for _, keep := range []bool{true, false} {
		got := packet.AppendAliased([]byte("before"), plain, 300, keep)
		if !bytes.HasPrefix(got, []byte("before")) {
			t.Fatal("what was before is gone")
		}
		got = got[len("before"):]
		if grown := len(got) - len(plain); keep && grown > packet.AliasGrowth || !keep && grown > packet.AliasGrowth-len(p.Topic) {
			t.Errorf("it grows by %d bytes", grown)
		}
		want := *p
		want.Properties.TopicAlias = 300
		if !keep {
			want.Topic = ""
		}
		read, err := packet.Read(bufio.NewReader(bytes.NewReader(got)), packet.V5, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Payload) == 0 {
			want.Payload = nil
		}
		if diff := cmp.Diff(&want, read); diff != "" {
			t.Error(diff)
		}
	}
}

func TestPublishTopicOfAnotherPacket(t *testing.T) {
	b, err := packet.Append(nil, &packet.Pingresp{}, packet.V5)
	if err != nil {
		t.Fatal(err)
	}
	if name := packet.PublishTopic(b); name != nil {
		t.Errorf("got %q", name)
	}
}

// BenchmarkAppendAliased copies one encoded PUBLISH as it is, and with an alias in
// place of its topic name.
func BenchmarkAppendAliased(b *testing.B) {
	written, err := packet.Append(nil, &packet.Publish{Topic: "house/floor/1/room/7/temperature", Payload: make([]byte, 64)}, packet.V5)
	if err != nil {
		b.Fatal(err)
	}
	to := make([]byte, 0, 256)
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			to = append(to[:0], written...)
		}
	})
	known := map[string]uint16{"house/floor/1/room/7/temperature": 1}
	b.Run("aliased", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			to = packet.AppendAliased(to[:0], written, known[string(packet.PublishTopic(written))], false)
		}
	})
}
