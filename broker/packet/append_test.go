package packet_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

type strange struct{ packet.Pingreq }

func TestAppendRefuses(t *testing.T) {
	long := strings.Repeat("x", 65536)
	one := []packet.Filter{{Filter: "a"}}
	user := func(key, value string) []message.Property { return []message.Property{{Key: key, Value: value}} }
	props := func(p packet.PublishProperties) *packet.Publish { return &packet.Publish{Topic: "t", Properties: p} }
	for _, c := range []struct {
		name    string
		packet  packet.Packet
		version packet.Version
	}{
		{"a packet without version", &packet.Pingreq{}, 0},
		{"a CONNECT without version", &packet.Connect{}, v5},
		{"a packet that is not of this package", &strange{}, v5},
		{"no packet", nil, v5},
		{"a topic that is too long", &packet.Publish{Topic: long}, v311},
		{"a topic that is not UTF-8", &packet.Publish{Topic: "a\xff"}, v311},
		{"a topic with NUL", &packet.Publish{Topic: "a\x00"}, v311},
		{"a topic with a wildcard", &packet.Publish{Topic: "a/+"}, v311},
		{"an empty topic", &packet.Publish{}, v311},
		{"an empty topic in 5.0", &packet.Publish{}, v5},
		{"an alias alone in 3.1.1", &packet.Publish{Properties: packet.PublishProperties{TopicAlias: 1}}, v311},
		{"QoS 3", &packet.Publish{Topic: "t", QoS: 3, ID: 1}, v311},
		{"QoS 1 without identifier", &packet.Publish{Topic: "t", QoS: 1}, v311},
		{"QoS 0 with identifier", &packet.Publish{Topic: "t", ID: 1}, v311},
		{"QoS 0 with DUP", &packet.Publish{Topic: "t", Dup: true}, v5},
		{"subscription identifier 0", props(packet.PublishProperties{SubscriptionIDs: []uint32{1, 0}}), v5},
		{"a subscription identifier that is too large", props(packet.PublishProperties{SubscriptionIDs: []uint32{1 << 28}}), v5},
		{"a response topic with a wildcard", props(packet.PublishProperties{ResponseTopic: "#"}), v5},
		{"correlation data that is too long", props(packet.PublishProperties{CorrelationData: []byte(long)}), v5},
		{"a content type that is not UTF-8", props(packet.PublishProperties{ContentType: "\xed\xa0\x80"}), v5},
		{"a user property whose name is too long", props(packet.PublishProperties{UserProperties: user(long, "")}), v5},
		{"a user property whose value has a NUL", props(packet.PublishProperties{UserProperties: user("", "\x00")}), v5},
		{"an acknowledgement of no kind", &packet.Ack{ID: 1}, v311},
		{"an acknowledgement of PUBLISH", &packet.Ack{Kind: packet.PUBLISH, ID: 1}, v311},
		{"an acknowledgement of identifier 0", &packet.Ack{Kind: packet.PUBACK}, v311},
		{"a PUBACK with a reason of PUBREL", &packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: packet.PacketIdentifierNotFound}, v5},
		{"a SUBSCRIBE without filter", &packet.Subscribe{ID: 1}, v5},
		{"a SUBSCRIBE of identifier 0", &packet.Subscribe{Filters: one}, v5},
		{"a SUBSCRIBE of QoS 3", &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "a", Options: packet.SubscribeOptions{QoS: 3}}}}, v5},
		{"a SUBSCRIBE with retain handling 3", &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "a", Options: packet.SubscribeOptions{RetainHandling: 3}}}}, v5},
		{"a SUBSCRIBE with too large an identifier", &packet.Subscribe{ID: 1, Filters: one, SubscriptionID: 1 << 28}, v5},
		{"a SUBACK without reason", &packet.Suback{ID: 1}, v311},
		{"a SUBACK with a reason of PUBACK", &packet.Suback{ID: 1, Reasons: []packet.Reason{packet.NoMatchingSubscribers}}, v311},
		{"an UNSUBSCRIBE without filter", &packet.Unsubscribe{ID: 1}, v311},
		{"an UNSUBACK without reason in 5.0", &packet.Unsuback{ID: 1}, v5},
		{"an UNSUBACK of identifier 0", &packet.Unsuback{}, v311},
		{"a DISCONNECT with a reason of CONNACK", &packet.Disconnect{Reason: packet.Banned}, v5},
		{"an AUTH in 3.1.1", &packet.Auth{}, v311},
		{"an AUTH without method", &packet.Auth{Reason: packet.ReAuthenticate}, v5},
		{"a CONNACK that refuses with a session", &packet.Connack{SessionPresent: true, Reason: packet.Banned}, v311},
		{"a CONNACK with a reason of DISCONNECT", &packet.Connack{Reason: packet.KeepAliveTimeout}, v5},
		{"a CONNACK with maximum QoS 2", &packet.Connack{Properties: packet.ConnackProperties{MaximumQoS: ref[uint8](2)}}, v5},
		{"a CONNACK with authentication data alone", &packet.Connack{Properties: packet.ConnackProperties{AuthenticationData: []byte{}}}, v5},
		{"a CONNECT with authentication data alone", &packet.Connect{Version: v5, Properties: packet.ConnectProperties{AuthenticationData: []byte{1}}}, v5},
		{"a CONNECT of 3.1.1 with password only", &packet.Connect{Version: v311, HasPassword: true}, v311},
		{"a password that is too long", &packet.Connect{Version: v5, HasPassword: true, Password: []byte(long)}, v5},
		{"a will of QoS 3", &packet.Connect{Version: v5, Will: &packet.Will{Topic: "w", QoS: 3}}, v5},
		{"a will without topic", &packet.Connect{Version: v5, Will: &packet.Will{}}, v5},
		{"a will with a topic alias", &packet.Connect{Version: v5, Will: &packet.Will{Topic: "w", Properties: packet.WillProperties{
			PublishProperties: packet.PublishProperties{TopicAlias: 1},
		}}}, v5},
		{"a will whose payload is too long", &packet.Connect{Version: v311, Will: &packet.Will{Topic: "w", Payload: []byte(long)}}, v311},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := packet.Append([]byte("before"), c.packet, c.version)
			if err == nil {
				t.Fatalf("no error, bytes %x", got)
			}
			if string(got) != "before" {
				t.Errorf("the buffer came back as %q", got)
			}
			if p, ok := c.packet.(*packet.Publish); ok {
				if _, err := packet.AppendPublish(nil, p, c.version); err == nil {
					t.Error("AppendPublish has no error")
				}
			}
		})
	}
}

func TestAppendLeavesOutWhat3xDoesNotKnow(t *testing.T) {
	user := []message.Property{{Key: "k", Value: "v"}}
	for _, c := range []struct {
		packet packet.Packet
		bytes  string
	}{
		{&packet.Publish{Topic: "t", Properties: packet.PublishProperties{UTF8: true, TopicAlias: 1, UserProperties: user}}, "30 03 0001 't'"},
		{&packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: packet.QuotaExceeded, ReasonString: "r"}, "40 02 0001"},
		{&packet.Suback{ID: 1, Reasons: []packet.Reason{0, packet.NotAuthorized}, ReasonString: "r"}, "90 04 0001 00 80"},
		{&packet.Unsuback{ID: 1, Reasons: []packet.Reason{0}, UserProperties: user}, "b0 02 0001"},
		{&packet.Disconnect{Reason: packet.ServerShuttingDown, ServerReference: "s"}, "e0 00"},
		{&packet.Subscribe{ID: 1, SubscriptionID: 3, Filters: []packet.Filter{{Filter: "a", Options: packet.SubscribeOptions{QoS: 1, NoLocal: true}}}}, "82 06 0001 0001 'a' 01"},
		{&packet.Connack{Properties: packet.ConnackProperties{AssignedClientID: "x"}}, "20 02 00 00"},
		{&packet.Connect{Version: v311, Clean: true, Properties: packet.ConnectProperties{ReceiveMaximum: 1}}, "10 0c 0004 'MQTT' 04 02 0000 0000"},
	} {
		got, err := packet.Append(nil, c.packet, v311)
		if err != nil {
			t.Errorf("%s: %v", c.packet.Type(), err)
		} else if want := raw(c.bytes); !bytes.Equal(got, want) {
			t.Errorf("%s\n got %x\nwant %x", c.packet.Type(), got, want)
		}
	}
	got, err := packet.Append(nil, &packet.Connack{SessionPresent: true}, v31)
	if want := raw("20 02 00 00"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("CONNACK of 3.1 with session: %x, %v, want %x", got, err, want)
	}
}

func TestAppendMapsReasonsToReturnCodes(t *testing.T) {
	for reason, code := range map[packet.Reason]byte{
		packet.Success:                    0,
		packet.UnsupportedProtocolVersion: 1,
		packet.ClientIdentifierNotValid:   2,
		packet.ServerUnavailable:          3,
		packet.ServerBusy:                 3,
		packet.QuotaExceeded:              3,
		packet.MalformedPacket:            3,
		packet.BadUserNameOrPassword:      4,
		packet.BadAuthenticationMethod:    4,
		packet.NotAuthorized:              5,
		packet.Banned:                     5,
	} {
		got, err := packet.Append(nil, &packet.Connack{Reason: reason}, v311)
		if want := []byte{0x20, 2, 0, code}; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %x, %v, want %x", reason, got, err, want)
		}
	}
}

func TestAppendRefusesMoreThanTheLargestPacket(t *testing.T) {
	// The payload's pages are never touched: it costs addresses, not memory.
	p := &packet.Publish{Topic: "t", Payload: make([]byte, 1<<28-3)} // the topic takes 3
	for range 2 {
		if _, err := packet.AppendPublish(nil, p, v311); !errors.Is(err, packet.PacketTooLarge) {
			t.Errorf("payload of %d bytes: %v", len(p.Payload), err)
		}
		p.Payload = make([]byte, 1<<28)
	}
}

func TestLengthsOfOneToFourBytes(t *testing.T) {
	for _, c := range []struct {
		remaining int
		length    string
	}{
		{127, "7f"},
		{128, "8001"},
		{16_383, "ff7f"},
		{16_384, "808001"},
		{2_097_151, "ffff7f"},
		{2_097_152, "80808001"},
	} {
		p := &packet.Publish{Topic: "t", Payload: make([]byte, c.remaining-3)}
		got, err := packet.AppendPublish(nil, p, v311)
		if err != nil {
			t.Fatal(err)
		}
		if want := raw("30 " + c.length + " 0001 't' 00"); !bytes.HasPrefix(got, want) {
			t.Errorf("remaining length %d begins with %x, want %x", c.remaining, got[:len(want)], want)
		}
		back, err := read(got, v311)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(back.(*packet.Publish).Payload); n != len(p.Payload) {
			t.Errorf("remaining length %d comes back with a payload of %d bytes", c.remaining, n)
		}
	}
}

func TestAppendTakesNoMemoryIfThereIsRoom(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, v := range vectors {
		n := testing.AllocsPerRun(100, func() {
			if _, err := packet.Append(buf, v.packet, v.version); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", v.name, n)
		}
	}
	n := testing.AllocsPerRun(100, func() {
		p := packet.Publish{Topic: "t", Payload: buf[:100]}
		b, err := packet.AppendPublish(buf, &p, v5)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = packet.Append(b, &packet.Ack{Kind: packet.PUBACK, ID: 1}, v5); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("packets on the stack: %v allocations", n)
	}
}

func TestSetPublishID(t *testing.T) {
	for _, size := range []int{0, 200, 20000} {
		for _, version := range []packet.Version{v311, v5} {
			p := &packet.Publish{Topic: "a/b", QoS: 1, ID: 1, Retain: true, Payload: make([]byte, size)}
			written, err := packet.Append(nil, p, version)
			if err != nil {
				t.Fatal(err)
			}
			for _, dup := range []bool{true, false} {
				packet.SetPublishID(written, 0xabcd, dup)
				got, err := read(written, version)
				if err != nil {
					t.Fatal(err)
				}
				want := *p
				want.ID, want.Dup = 0xabcd, dup
				if size == 0 {
					want.Payload = nil
				}
				if diff := cmp.Diff(&want, got); diff != "" {
					t.Errorf("size %d, version %v (-want +got):\n%s", size, version, diff)
				}
			}
		}
	}
}
