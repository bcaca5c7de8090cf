package packet_test

import (
	"encoding/hex"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// raw turns "30 05 0001 'a' 'hi'" into bytes: hexadecimal, and text in quotes.
func raw(s string) []byte {
	var b []byte
	for word := range strings.FieldsSeq(s) {
		if text, ok := strings.CutPrefix(word, "'"); ok {
			b = append(b, strings.TrimSuffix(text, "'")...)
			continue
		}
		part, err := hex.DecodeString(word)
		if err != nil {
			panic(err)
		}
		b = append(b, part...)
	}
	return b
}

func ref[T any](v T) *T { return &v }

type vector struct {
	name    string
	version packet.Version
	bytes   string
	packet  packet.Packet
	long    bool // a longer form than the one that Append writes
}

// vectors are packets written by hand from the standard.
var vectors = []vector{
	{
		name: "CONNECT of 3.1", version: packet.V31,
		bytes:  "10 0f  0006 'MQIsdp' 03  02  003c  0001 'c'",
		packet: &packet.Connect{Version: packet.V31, Clean: true, KeepAlive: 60, ClientID: "c"},
	},
	{
		name: "CONNECT of 3.1 with meaningless flags", version: packet.V31, long: true,
		bytes:  "10 0f  0006 'MQIsdp' 03  3b  003c  0001 'c'",
		packet: &packet.Connect{Version: packet.V31, Clean: true, KeepAlive: 60, ClientID: "c"},
	},
	{
		name: "CONNECT of 3.1.1, the least", version: packet.V311,
		bytes:  "10 0c  0004 'MQTT' 04  00  0000  0000",
		packet: &packet.Connect{Version: packet.V311},
	},
	{
		name: "CONNECT of 3.1.1 with all", version: packet.V311,
		bytes: "10 1f  0004 'MQTT' 04  f6  000a  0002 'id'" +
			" 0003 'w/t' 0003 'bye' 0001 'u' 0002 00ff",
		packet: &packet.Connect{
			Version: packet.V311, Clean: true, KeepAlive: 10, ClientID: "id",
			Will:        &packet.Will{Topic: "w/t", Payload: []byte("bye"), QoS: 2, Retain: true},
			HasUsername: true, Username: "u", HasPassword: true, Password: []byte{0, 0xff},
		},
	},
	{
		name: "CONNECT of 5.0, the least", version: packet.V5,
		bytes:  "10 0d  0004 'MQTT' 05  00  0000  00  0000",
		packet: &packet.Connect{Version: packet.V5},
	},
	{
		name: "CONNECT of 5.0 with every property", version: packet.V5,
		bytes: "10 66  0004 'MQTT' 05  ee  003c" +
			" 26 11 00000e10  21 0014  27 00010000  22 000a  19 01  17 00  15 0003 'jwt' 16 0002 abcd  26 0001 'k' 0001 'v'" +
			" 0002 'id'" +
			" 25 18 00000005  01 01  02 0000003c  03 0004 'text'  08 0003 'r/t'  09 0002 0102  26 0001 'a' 0001 'b'" +
			" 0001 'w' 0000  0001 'u'  0001 'p'",
		packet: &packet.Connect{
			Version: packet.V5, Clean: true, KeepAlive: 60, ClientID: "id",
			Properties: packet.ConnectProperties{
				SessionExpiryInterval: 3600, ReceiveMaximum: 20, MaximumPacketSize: 65536, TopicAliasMaximum: 10,
				RequestResponseInfo: true, NoProblemInfo: true, AuthenticationMethod: "jwt",
				AuthenticationData: []byte{0xab, 0xcd}, UserProperties: []message.Property{{Key: "k", Value: "v"}},
			},
			Will: &packet.Will{
				Topic: "w", Payload: []byte{}, QoS: 1, Retain: true,
				Properties: packet.WillProperties{DelayInterval: 5, PublishProperties: packet.PublishProperties{
					UTF8: true, MessageExpiryInterval: ref[uint32](60), ContentType: "text", ResponseTopic: "r/t",
					CorrelationData: []byte{1, 2}, UserProperties: []message.Property{{Key: "a", Value: "b"}},
				}},
			},
			HasUsername: true, Username: "u", HasPassword: true, Password: []byte("p"),
		},
	},
	{
		name: "CONNECT of 5.0 with password only", version: packet.V5,
		bytes:  "10 10  0004 'MQTT' 05  40  0000  00  0000  0001 'p'",
		packet: &packet.Connect{Version: packet.V5, HasPassword: true, Password: []byte("p")},
	},
	{
		name: "CONNACK of 3.1", version: packet.V31, bytes: "20 02  00 00",
		packet: &packet.Connack{},
	},
	{
		name: "CONNACK of 3.1.1 with session", version: packet.V311, bytes: "20 02  01 00",
		packet: &packet.Connack{SessionPresent: true},
	},
	{
		name: "CONNACK of 3.1.1 that refuses", version: packet.V311, bytes: "20 02  00 05",
		packet: &packet.Connack{Reason: packet.NotAuthorized},
	},
	{
		name: "CONNACK of 5.0, the least", version: packet.V5, bytes: "20 03  00 00 00",
		packet: &packet.Connack{},
	},
	{
		name: "CONNACK of 5.0 that refuses", version: packet.V5, bytes: "20 08  00 87  05 1f 0002 'no'",
		packet: &packet.Connack{Reason: packet.NotAuthorized, Properties: packet.ConnackProperties{ReasonString: "no"}},
	},
	{
		name: "CONNACK of 5.0 with every property", version: packet.V5,
		bytes: "20 47  01 00  44" +
			" 11 00000000  21 0064  24 01  25 00  27 00100000  12 0002 'x1'  22 0008  1f 0002 'ok'" +
			" 28 01  29 00  2a 01  13 001e  1a 0001 'r'  1c 0001 's'  15 0001 'm'  16 0000" +
			" 26 0001 'a' 0001 '1'  26 0001 'a' 0001 '2'",
		packet: &packet.Connack{SessionPresent: true, Properties: packet.ConnackProperties{
			SessionExpiryInterval: ref[uint32](0), ReceiveMaximum: 100, MaximumQoS: ref[uint8](1),
			RetainAvailable: ref(false), MaximumPacketSize: 1 << 20, AssignedClientID: "x1", TopicAliasMaximum: 8,
			ReasonString: "ok", WildcardAvailable: ref(true), SubscriptionIDAvailable: ref(false),
			SharedAvailable: ref(true), ServerKeepAlive: ref[uint16](30), ResponseInformation: "r",
			ServerReference: "s", AuthenticationMethod: "m", AuthenticationData: []byte{},
			UserProperties: []message.Property{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
		}},
	},
	{
		name: "PUBLISH of QoS 0", version: packet.V311, bytes: "30 07  0003 'a/b' 'hi'",
		packet: &packet.Publish{Topic: "a/b", Payload: []byte("hi")},
	},
	{
		name: "PUBLISH without payload, retained", version: packet.V31, bytes: "31 05  0003 'a/b'",
		packet: &packet.Publish{Topic: "a/b", Retain: true},
	},
	{
		name: "PUBLISH of QoS 1, again", version: packet.V311, bytes: "3a 08  0003 'a/b' 0102 'x'",
		packet: &packet.Publish{Topic: "a/b", QoS: 1, Dup: true, ID: 0x102, Payload: []byte("x")},
	},
	{
		name: "PUBLISH of QoS 2 to a Chinese topic", version: packet.V311,
		bytes:  "34 19  0014 'devices/light/' e5aea2e58e85  ffff '1'",
		packet: &packet.Publish{Topic: "devices/light/客厅", QoS: 2, ID: 65535, Payload: []byte("1")},
	},
	{
		name: "PUBLISH of 128 bytes", version: packet.V311, bytes: "30 8001  0001 't' " + strings.Repeat("2e", 125),
		packet: &packet.Publish{Topic: "t", Payload: []byte(strings.Repeat(".", 125))},
	},
	{
		name: "PUBLISH of 3.1.1 with a length longer than needed", version: packet.V311, long: true,
		bytes:  "30 848000  0001 't' 'x'",
		packet: &packet.Publish{Topic: "t", Payload: []byte("x")},
	},
	{
		name: "PUBLISH of 5.0 without properties", version: packet.V5, bytes: "30 05  0001 't' 00 'x'",
		packet: &packet.Publish{Topic: "t", Payload: []byte("x")},
	},
	{
		name: "PUBLISH of 5.0 with every property", version: packet.V5,
		bytes: "35 32  0001 't' 0007" +
			" 2b 01 01  02 00000001  03 0001 'c'  08 0001 'r'  09 0000  26 0000 0000  26 0001 'k' 0001 'v'  23 0001" +
			" 0b 01  0b 8001  0b ffffff7f" +
			" 'x'",
		packet: &packet.Publish{
			QoS: 2, Retain: true, Topic: "t", ID: 7, Payload: []byte("x"),
			Properties: packet.PublishProperties{
				UTF8: true, MessageExpiryInterval: ref[uint32](1), TopicAlias: 1, ResponseTopic: "r", ContentType: "c",
				CorrelationData: []byte{}, UserProperties: []message.Property{{}, {Key: "k", Value: "v"}},
				SubscriptionIDs: []uint32{1, 128, 268435455},
			},
		},
	},
	{
		name: "PUBLISH of 5.0 by topic alias", version: packet.V5, bytes: "30 07  0000  03 23 ffff 'x'",
		packet: &packet.Publish{Payload: []byte("x"), Properties: packet.PublishProperties{TopicAlias: 65535}},
	},
	{
		name: "PUBLISH of 5.0 with properties of 128 bytes", version: packet.V5,
		bytes: "30 8701  0001 't'  8001 03 007d " + strings.Repeat("63", 125) + " 'xy'",
		packet: &packet.Publish{
			Topic: "t", Payload: []byte("xy"),
			Properties: packet.PublishProperties{ContentType: strings.Repeat("c", 125)},
		},
	},
	{
		name: "PUBLISH that says its payload is bytes", version: packet.V5, long: true, bytes: "30 06  0001 't'  02 01 00",
		packet: &packet.Publish{Topic: "t"},
	},
	{name: "PUBACK of 3.1.1", version: packet.V311, bytes: "40 02 0001", packet: &packet.Ack{Kind: packet.PUBACK, ID: 1}},
	{name: "PUBREC of 3.1.1", version: packet.V311, bytes: "50 02 0001", packet: &packet.Ack{Kind: packet.PUBREC, ID: 1}},
	{name: "PUBREL of 3.1.1", version: packet.V311, bytes: "62 02 0001", packet: &packet.Ack{Kind: packet.PUBREL, ID: 1}},
	{name: "PUBREL of 3.1, again", version: packet.V31, long: true, bytes: "6a 02 0001", packet: &packet.Ack{Kind: packet.PUBREL, ID: 1}},
	{name: "PUBCOMP of 3.1.1", version: packet.V311, bytes: "70 02 ffff", packet: &packet.Ack{Kind: packet.PUBCOMP, ID: 65535}},
	{name: "PUBACK of 5.0, two bytes", version: packet.V5, bytes: "40 02 0001", packet: &packet.Ack{Kind: packet.PUBACK, ID: 1}},
	{
		name: "PUBACK of 5.0, three bytes", version: packet.V5, bytes: "40 03 0001 10",
		packet: &packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: packet.NoMatchingSubscribers},
	},
	{
		name: "PUBACK of 5.0, four bytes that say nothing", version: packet.V5, long: true, bytes: "40 04 0001 00 00",
		packet: &packet.Ack{Kind: packet.PUBACK, ID: 1},
	},
	{
		name: "PUBREC of 5.0 that fails", version: packet.V5, bytes: "50 08 0001 97 04 1f 0001 'q'",
		packet: &packet.Ack{Kind: packet.PUBREC, ID: 1, Reason: packet.QuotaExceeded, ReasonString: "q"},
	},
	{
		name: "PUBREL of 5.0 with a user property", version: packet.V5, bytes: "62 0b 0001 92 07 26 0001 'a' 0001 'b'",
		packet: &packet.Ack{
			Kind: packet.PUBREL, ID: 1, Reason: packet.PacketIdentifierNotFound,
			UserProperties: []message.Property{{Key: "a", Value: "b"}},
		},
	},
	{
		name: "PUBCOMP of 5.0 with success and a reason string", version: packet.V5, bytes: "70 08 0001 00 04 1f 0001 'q'",
		packet: &packet.Ack{Kind: packet.PUBCOMP, ID: 1, ReasonString: "q"},
	},
	{
		name: "SUBSCRIBE of 3.1.1", version: packet.V311, bytes: "82 0e 000a  0003 'a/b' 01  0003 'c/#' 02",
		packet: &packet.Subscribe{ID: 10, Filters: []packet.Filter{
			{Filter: "a/b", Options: packet.SubscribeOptions{QoS: 1}},
			{Filter: "c/#", Options: packet.SubscribeOptions{QoS: 2}},
		}},
	},
	{
		name: "SUBSCRIBE of 3.1, again", version: packet.V31, long: true, bytes: "8a 06 000a  0001 'a' fd",
		packet: &packet.Subscribe{ID: 10, Filters: []packet.Filter{{Filter: "a", Options: packet.SubscribeOptions{QoS: 1}}}},
	},
	{
		name: "SUBSCRIBE of 5.0 with all", version: packet.V5,
		bytes: "82 17 000a  0b 0b ffff03 26 0001 'k' 0001 'v'  0001 '+' 2e  0002 '+/' 11",
		packet: &packet.Subscribe{
			ID: 10, SubscriptionID: 65535, UserProperties: []message.Property{{Key: "k", Value: "v"}},
			Filters: []packet.Filter{
				{Filter: "+", Options: packet.SubscribeOptions{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: packet.NoRetained}},
				{Filter: "+/", Options: packet.SubscribeOptions{QoS: 1, RetainHandling: packet.SendRetainedIfNew}},
			},
		},
	},
	{
		name: "SUBACK of 3.1.1", version: packet.V311, bytes: "90 06 000a 00 01 02 80",
		packet: &packet.Suback{ID: 10, Reasons: []packet.Reason{0, 1, 2, packet.UnspecifiedError}},
	},
	{
		name: "SUBACK of 5.0", version: packet.V5, bytes: "90 10 000a  0b 1f 0001 'r' 26 0001 'k' 0001 'v'  01 8f",
		packet: &packet.Suback{
			ID: 10, Reasons: []packet.Reason{packet.GrantedQoS1, packet.TopicFilterInvalid},
			ReasonString: "r", UserProperties: []message.Property{{Key: "k", Value: "v"}},
		},
	},
	{
		name: "UNSUBSCRIBE of 3.1.1", version: packet.V311, bytes: "a2 08 000b 0001 'a' 0001 '#'",
		packet: &packet.Unsubscribe{ID: 11, Filters: []string{"a", "#"}},
	},
	{
		name: "UNSUBSCRIBE of 5.0", version: packet.V5, bytes: "a2 0d 000b 07 26 0001 'k' 0001 'v' 0001 'a'",
		packet: &packet.Unsubscribe{ID: 11, Filters: []string{"a"}, UserProperties: []message.Property{{Key: "k", Value: "v"}}},
	},
	{name: "UNSUBACK of 3.1.1", version: packet.V311, bytes: "b0 02 000b", packet: &packet.Unsuback{ID: 11}},
	{
		name: "UNSUBACK of 5.0", version: packet.V5, bytes: "b0 09 000b 04 1f 0001 'r' 00 11",
		packet: &packet.Unsuback{ID: 11, Reasons: []packet.Reason{packet.Success, packet.NoSubscriptionExisted}, ReasonString: "r"},
	},
	{name: "PINGREQ", version: packet.V311, bytes: "c0 00", packet: &packet.Pingreq{}},
	{name: "PINGREQ of 5.0", version: packet.V5, bytes: "c0 00", packet: &packet.Pingreq{}},
	{name: "PINGRESP", version: packet.V311, bytes: "d0 00", packet: &packet.Pingresp{}},
	{name: "DISCONNECT of 3.1.1", version: packet.V311, bytes: "e0 00", packet: &packet.Disconnect{}},
	{name: "DISCONNECT of 5.0, empty", version: packet.V5, bytes: "e0 00", packet: &packet.Disconnect{}},
	{
		name: "DISCONNECT of 5.0, one byte", version: packet.V5, bytes: "e0 01 04",
		packet: &packet.Disconnect{Reason: packet.DisconnectWithWill},
	},
	{
		name: "DISCONNECT of 5.0 with every property", version: packet.V5,
		bytes: "e0 15 9c 13 11 ffffffff 1f 0001 'r' 1c 0001 's' 26 0001 'k' 0000",
		packet: &packet.Disconnect{
			Reason: packet.UseAnotherServer, SessionExpiryInterval: ref[uint32](0xffffffff),
			ReasonString: "r", ServerReference: "s", UserProperties: []message.Property{{Key: "k"}},
		},
	},
	{name: "AUTH, empty", version: packet.V5, bytes: "f0 00", packet: &packet.Auth{}},
	{
		name: "AUTH with every property", version: packet.V5,
		bytes: "f0 14 18 12 15 0001 'm' 16 0001 00 1f 0001 'r' 26 0000 0001 'v'",
		packet: &packet.Auth{
			Reason: packet.ContinueAuthentication, AuthenticationMethod: "m", AuthenticationData: []byte{0},
			ReasonString: "r", UserProperties: []message.Property{{Value: "v"}},
		},
	},
}
