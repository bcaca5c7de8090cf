package packet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

const (
	v0      = packet.Version(0)
	v31     = packet.V31
	v311    = packet.V311
	v5      = packet.V5
	malform = packet.MalformedPacket
	proto   = packet.ProtocolError
	version = packet.UnsupportedProtocolVersion
	topic   = packet.TopicNameInvalid
)

// malformed are packets that must be refused, and the reason code.
var malformed = []struct {
	name    string
	version packet.Version
	bytes   string
	reason  packet.Reason
}{
	// Fixed header.
	{"type 0", v311, "00 00", malform},
	{"type 0 in 5.0", v5, "00 00", malform},
	{"remaining length of five bytes", v311, "30 ffffffff7f", malform},
	{"remaining length without end", v5, "30 ffffffffff", malform},
	{"remaining length longer than needed in 5.0", v5, "c0 8000", malform},
	{"PUBLISH length longer than needed in 5.0", v5, "30 8500 0001 't' 00 'x'", malform},
	{"CONNECT length longer than needed in 5.0", v0, "10 8d00 0004 'MQTT' 05 00 0000 00 0000", malform},
	{"AUTH in 3.1.1", v311, "f0 00", malform},
	{"AUTH in 3.1", v31, "f0 00", malform},
	{"PUBLISH before CONNECT", v0, "30 03 0001 't'", proto},
	{"PINGREQ before CONNECT", v0, "c0 00", proto},
	{"AUTH before CONNECT", v0, "f0 00", proto},
	{"CONNECT with flags", v0, "11 0c 0004 'MQTT' 04 02 0000 0000", malform},
	{"CONNACK with flags", v311, "21 02 00 00", malform},
	{"PUBACK with flags", v311, "42 02 0001", malform},
	{"PUBREC with flags", v311, "51 02 0001", malform},
	{"PUBREL without its flags", v311, "60 02 0001", malform},
	{"PUBREL with DUP in 3.1.1", v311, "6a 02 0001", malform},
	{"PUBCOMP with flags", v5, "72 02 0001", malform},
	{"SUBSCRIBE without its flags", v311, "80 06 0001 0001 'a' 00", malform},
	{"SUBSCRIBE with DUP in 3.1.1", v311, "8a 06 0001 0001 'a' 00", malform},
	{"SUBACK with flags", v311, "92 03 0001 00", malform},
	{"UNSUBSCRIBE without its flags", v5, "a0 06 0001 00 0001 'a'", malform},
	{"UNSUBACK with flags", v311, "b1 02 0001", malform},
	{"PINGREQ with flags", v311, "c1 00", malform},
	{"PINGRESP with flags", v311, "d8 00", malform},
	{"DISCONNECT with flags", v311, "e1 00", malform},
	{"AUTH with flags", v5, "f1 00", malform},
	{"PINGREQ with a body", v311, "c0 01 00", malform},
	{"PINGRESP with a body", v5, "d0 01 00", malform},
	{"DISCONNECT with a body in 3.1.1", v311, "e0 01 00", malform},

	// CONNECT.
	{"CONNECT without body", v0, "10 00", malform},
	{"CONNECT that ends in the protocol name", v0, "10 04 0004 'MQ'", malform},
	{"CONNECT without version", v0, "10 06 0004 'MQTT'", malform},
	{"CONNECT that ends before the flags", v0, "10 07 0004 'MQTT' 04", malform},
	{"CONNECT that ends in the keep alive", v0, "10 09 0004 'MQTT' 04 02 00", malform},
	{"CONNECT without client identifier", v0, "10 0a 0004 'MQTT' 04 02 0000", malform},
	{"CONNECT of another protocol", v0, "10 0c 0004 'HTTP' 04 02 0000 0000", version},
	{"CONNECT of a protocol in lower case", v0, "10 0c 0004 'mqtt' 04 02 0000 0000", version},
	{"CONNECT with a protocol name that is not UTF-8", v0, "10 0c 0004 ffffffff 04 02 0000 0000", malform},
	{"CONNECT of MQTT with level 3", v0, "10 0c 0004 'MQTT' 03 02 0000 0000", version},
	{"CONNECT of MQTT with level 6", v0, "10 0c 0004 'MQTT' 06 02 0000 0000", version},
	{"CONNECT of MQTT with level 0", v0, "10 0c 0004 'MQTT' 00 02 0000 0000", version},
	{"CONNECT of MQIsdp with level 4", v0, "10 0e 0006 'MQIsdp' 04 02 0000 0000", version},
	{"CONNECT with the bridge bit", v0, "10 0c 0004 'MQTT' 84 02 0000 0000", version},
	{"CONNECT with the reserved flag", v0, "10 0c 0004 'MQTT' 04 03 0000 0000", malform},
	{"CONNECT with will QoS and no will", v0, "10 0c 0004 'MQTT' 04 0a 0000 0000", malform},
	{"CONNECT with will retain and no will", v0, "10 0c 0004 'MQTT' 04 22 0000 0000", malform},
	{"CONNECT with will QoS 3", v0, "10 11 0004 'MQTT' 04 1e 0000 0000 0001 'w' 0000", malform},
	{"CONNECT of 3.1 with will QoS 3", v0, "10 13 0006 'MQIsdp' 03 1e 0000 0000 0001 'w' 0000", malform},
	{"CONNECT of 3.1.1 with password only", v0, "10 0f 0004 'MQTT' 04 42 0000 0000 0001 'p'", malform},
	{"CONNECT with will flag and no will", v0, "10 0c 0004 'MQTT' 04 06 0000 0000", malform},
	{"CONNECT with a will without payload", v0, "10 0f 0004 'MQTT' 04 06 0000 0000 0001 'w'", malform},
	{"CONNECT with a wildcard in the will topic", v0, "10 11 0004 'MQTT' 04 06 0000 0000 0001 '#' 0000", topic},
	{"CONNECT with an empty will topic", v0, "10 11 0004 'MQTT' 04 06 0000 0000 0000 0001 'x'", topic},
	{"CONNECT with user flag and no user", v0, "10 0c 0004 'MQTT' 04 82 0000 0000", malform},
	{"CONNECT with password flag and no password", v0, "10 0f 0004 'MQTT' 04 c2 0000 0000 0001 'u'", malform},
	{"CONNECT with bytes behind its end", v0, "10 0d 0004 'MQTT' 04 02 0000 0000 00", malform},
	{"CONNECT with NUL in the client identifier", v0, "10 0d 0004 'MQTT' 04 02 0000 0001 00", malform},
	{"CONNECT with a surrogate in the client identifier", v0, "10 0f 0004 'MQTT' 04 02 0000 0003 eda080", malform},
	{"CONNECT with an overlong character in the user name", v0, "10 10 0004 'MQTT' 04 82 0000 0000 0002 c0af", malform},
	{"CONNECT of 5.0 without properties", v0, "10 0c 0004 'MQTT' 05 02 0000 0000", malform},
	{"CONNECT with properties beyond its end", v0, "10 0d 0004 'MQTT' 05 02 0000 05 0000", malform},
	{"CONNECT with receive maximum 0", v0, "10 10 0004 'MQTT' 05 02 0000 03 21 0000 0000", proto},
	{"CONNECT with maximum packet size 0", v0, "10 12 0004 'MQTT' 05 02 0000 05 27 00000000 0000", proto},
	{"CONNECT with request response information 2", v0, "10 0f 0004 'MQTT' 05 02 0000 02 19 02 0000", proto},
	{"CONNECT with request problem information 2", v0, "10 0f 0004 'MQTT' 05 02 0000 02 17 02 0000", proto},
	{"CONNECT with session expiry twice", v0, "10 17 0004 'MQTT' 05 02 0000 0a 11 00000001 11 00000001 0000", proto},
	{"CONNECT with authentication data alone", v0, "10 11 0004 'MQTT' 05 02 0000 04 16 0001 00 0000", proto},
	{"CONNECT with a property of CONNACK", v0, "10 0f 0004 'MQTT' 05 02 0000 02 24 01 0000", malform},
	{"CONNECT with a property that ends early", v0, "10 10 0004 'MQTT' 05 02 0000 03 11 0000 0000", malform},
	{"CONNECT with will delay outside the will", v0, "10 12 0004 'MQTT' 05 02 0000 05 18 00000001 0000", malform},
	{"CONNECT with a topic alias in the will", v0, "10 16 0004 'MQTT' 05 06 0000 00 0000 03 23 0001 0001 'w' 0000", malform},
	{"CONNECT with a subscription identifier in the will", v0, "10 15 0004 'MQTT' 05 06 0000 00 0000 02 0b 01 0001 'w' 0000", malform},
	{"CONNECT with will delay twice", v0, "10 1d 0004 'MQTT' 05 06 0000 00 0000 0a 18 00000001 18 00000001 0001 'w' 0000", proto},
	{"CONNECT with a wildcard in the will's response topic", v0, "10 17 0004 'MQTT' 05 06 0000 00 0000 04 08 0001 '+' 0001 'w' 0000", proto},

	// CONNACK.
	{"CONNACK of one byte", v311, "20 01 00", malform},
	{"CONNACK with reserved flags", v311, "20 02 02 00", malform},
	{"CONNACK with return code 6", v311, "20 02 00 06", malform},
	{"CONNACK that refuses with session", v311, "20 02 01 05", proto},
	{"CONNACK that refuses with session in 5.0", v5, "20 03 01 87 00", proto},
	{"CONNACK with bytes behind its end", v311, "20 03 00 00 00", malform},
	{"CONNACK with a reason code of DISCONNECT", v5, "20 03 00 8b 00", malform},
	{"CONNACK with a reason code that does not exist", v5, "20 03 00 7f 00", malform},
	{"CONNACK with maximum QoS 2", v5, "20 05 00 00 02 24 02", proto},
	{"CONNACK with retain available 2", v5, "20 05 00 00 02 25 02", proto},
	{"CONNACK with receive maximum 0", v5, "20 06 00 00 03 21 0000", proto},
	{"CONNACK with maximum packet size 0", v5, "20 08 00 00 05 27 00000000", proto},
	{"CONNACK with authentication data alone", v5, "20 06 00 00 03 16 0000", proto},
	{"CONNACK with server keep alive twice", v5, "20 09 00 00 06 13 0001 13 0001", proto},
	{"CONNACK with a property of CONNECT", v5, "20 05 00 00 02 17 01", malform},

	// PUBLISH.
	{"PUBLISH of QoS 3", v311, "36 06 0001 't' 0001 'x'", malform},
	{"PUBLISH of QoS 3 with DUP", v5, "3e 06 0001 't' 0001 00", malform},
	{"PUBLISH of QoS 0 with DUP", v311, "38 03 0001 't'", malform},
	{"PUBLISH without body", v311, "30 00", malform},
	{"PUBLISH that ends in the topic", v311, "30 03 0002 't'", malform},
	{"PUBLISH of QoS 1 without identifier", v311, "32 03 0001 't'", malform},
	{"PUBLISH of QoS 1 with identifier 0", v311, "32 05 0001 't' 0000", proto},
	{"PUBLISH of QoS 2 with identifier 0", v5, "34 06 0001 't' 0000 00", proto},
	{"PUBLISH with an empty topic in 3.1.1", v311, "30 03 0000 'x'", topic},
	{"PUBLISH with an empty topic and no alias", v5, "30 03 0000 00", proto},
	{"PUBLISH with + in the topic", v311, "30 05 0003 'a/+'", topic},
	{"PUBLISH with # in the topic", v5, "30 06 0003 'a/#' 00", topic},
	{"PUBLISH with + inside a level", v311, "30 05 0003 'a+b'", topic},
	{"PUBLISH with NUL in the topic", v311, "30 05 0003 610062", malform},
	{"PUBLISH with a surrogate in the topic", v311, "30 05 0003 edbfbf", malform},
	{"PUBLISH with a topic that is not UTF-8", v5, "30 05 0002 c328 00", malform},
	{"PUBLISH with topic alias 0", v5, "30 07 0001 't' 03 23 0000", packet.TopicAliasInvalid},
	{"PUBLISH with topic alias twice", v5, "30 0a 0001 't' 06 23 0001 23 0001", proto},
	{"PUBLISH with payload format 2", v5, "30 06 0001 't' 02 01 02", proto},
	{"PUBLISH with payload format twice", v5, "30 08 0001 't' 04 01 01 01 01", proto},
	{"PUBLISH with subscription identifier 0", v5, "30 06 0001 't' 02 0b 00", proto},
	{"PUBLISH with a subscription identifier of five bytes", v5, "30 0a 0001 't' 06 0b ffffffff01", malform},
	{"PUBLISH with a subscription identifier longer than needed", v5, "30 07 0001 't' 03 0b 8100", malform},
	{"PUBLISH with a wildcard in the response topic", v5, "30 08 0001 't' 04 08 0001 '#'", proto},
	{"PUBLISH with an empty response topic", v5, "30 07 0001 't' 03 08 0000", proto},
	{"PUBLISH with a property of SUBACK", v5, "30 07 0001 't' 03 1f 0000", malform},
	{"PUBLISH with property 0", v5, "30 05 0001 't' 01 00", malform},
	{"PUBLISH with property 43", v5, "30 06 0001 't' 02 2b 00", malform},
	{"PUBLISH with property 127", v5, "30 06 0001 't' 02 7f 00", malform},
	{"PUBLISH with property 1 written in two bytes", v5, "30 07 0001 't' 03 8100 01", malform},
	{"PUBLISH with property 129", v5, "30 07 0001 't' 03 8101 01", malform},
	{"PUBLISH with a property length that cuts a property", v5, "30 07 0001 't' 01 23 0001", malform},
	{"PUBLISH with a property length beyond its end", v5, "30 04 0001 't' 01", malform},
	{"PUBLISH with a property length longer than needed", v5, "30 05 0001 't' 8000", malform},
	{"PUBLISH without property length", v5, "30 03 0001 't'", malform},
	{"PUBLISH with a user property that has no value", v5, "30 08 0001 't' 04 26 0001 'k'", malform},
	{"PUBLISH with NUL in a user property", v5, "30 0a 0001 't' 06 26 0001 00 0000", malform},
	{"PUBLISH with correlation data twice", v5, "30 0a 0001 't' 06 09 0000 09 0000", proto},

	// PUBACK, PUBREC, PUBREL, PUBCOMP.
	{"PUBACK without body", v311, "40 00", malform},
	{"PUBACK of one byte", v311, "40 01 01", malform},
	{"PUBACK with identifier 0", v311, "40 02 0000", proto},
	{"PUBACK of three bytes in 3.1.1", v311, "40 03 0001 00", malform},
	{"PUBACK with a reason code of SUBACK", v5, "40 03 0001 01", malform},
	{"PUBREC with a reason code of PUBREL", v5, "50 03 0001 92", malform},
	{"PUBREL with a reason code of PUBREC", v5, "62 03 0001 10", malform},
	{"PUBCOMP with a reason code that does not exist", v5, "70 03 0001 ff", malform},
	{"PUBACK with a reason string twice", v5, "40 0a 0001 00 06 1f 0000 1f 0000", proto},
	{"PUBACK with a property of PUBLISH", v5, "40 06 0001 00 02 01 01", malform},
	{"PUBREL with bytes behind its properties", v5, "62 05 0001 00 00 00", malform},
	{"PUBCOMP with properties beyond its end", v5, "70 04 0001 00 01", malform},

	// SUBSCRIBE and UNSUBSCRIBE, and their answers.
	{"SUBSCRIBE without filter", v311, "82 02 0001", proto},
	{"SUBSCRIBE without filter in 5.0", v5, "82 03 0001 00", proto},
	{"SUBSCRIBE with identifier 0", v311, "82 06 0000 0001 'a' 00", proto},
	{"SUBSCRIBE without options", v311, "82 05 0001 0001 'a'", malform},
	{"SUBSCRIBE of QoS 3", v311, "82 06 0001 0001 'a' 03", malform},
	{"SUBSCRIBE of QoS 3 in 5.0", v5, "82 07 0001 00 0001 'a' 03", proto},
	{"SUBSCRIBE of 3.1 with QoS 3", v31, "82 06 0001 0001 'a' 03", malform},
	{"SUBSCRIBE with no local in 3.1.1", v311, "82 06 0001 0001 'a' 04", malform},
	{"SUBSCRIBE with reserved option bits", v5, "82 07 0001 00 0001 'a' 40", malform},
	{"SUBSCRIBE with retain handling 3", v5, "82 07 0001 00 0001 'a' 30", proto},
	{"SUBSCRIBE with no local on a shared subscription", v5, "82 10 0001 00 000a '$share/g/a' 04", proto},
	{"SUBSCRIBE with subscription identifier 0", v5, "82 09 0001 02 0b 00 0001 'a' 00", proto},
	{"SUBSCRIBE with two subscription identifiers", v5, "82 0b 0001 04 0b 01 0b 02 0001 'a' 00", proto},
	{"SUBSCRIBE with a reason string", v5, "82 0a 0001 03 1f 0000 0001 'a' 00", malform},
	{"SUBSCRIBE with NUL in a filter", v311, "82 06 0001 0001 00 00", malform},
	{"SUBSCRIBE with a bad second filter", v311, "82 09 0001 0001 'a' 00 0002 'b'", malform},
	{"UNSUBSCRIBE without filter", v311, "a2 02 0001", proto},
	{"UNSUBSCRIBE without filter in 5.0", v5, "a2 03 0001 00", proto},
	{"UNSUBSCRIBE with identifier 0", v311, "a2 05 0000 0001 'a'", proto},
	{"UNSUBSCRIBE that ends in a filter", v311, "a2 05 0001 0002 'a'", malform},
	{"UNSUBSCRIBE with a subscription identifier", v5, "a2 08 0001 02 0b 01 0001 'a'", malform},
	{"SUBACK without code", v311, "90 02 0001", proto},
	{"SUBACK without code in 5.0", v5, "90 03 0001 00", proto},
	{"SUBACK with identifier 0", v311, "90 03 0000 00", proto},
	{"SUBACK with code 3", v311, "90 03 0001 03", malform},
	{"SUBACK with a 5.0 code in 3.1.1", v311, "90 03 0001 87", malform},
	{"SUBACK with a code of UNSUBACK", v5, "90 04 0001 00 11", malform},
	{"UNSUBACK with codes in 3.1.1", v311, "b0 03 0001 00", malform},
	{"UNSUBACK without code in 5.0", v5, "b0 03 0001 00", proto},
	{"UNSUBACK with a code of SUBACK", v5, "b0 04 0001 00 01", malform},
	{"UNSUBACK with identifier 0", v5, "b0 04 0000 00 00", proto},

	// DISCONNECT and AUTH.
	{"DISCONNECT with a code of CONNACK", v5, "e0 01 84", malform},
	{"DISCONNECT with a code that does not exist", v5, "e0 01 7e", malform},
	{"DISCONNECT with bytes behind its properties", v5, "e0 03 00 00 00", malform},
	{"DISCONNECT with session expiry twice", v5, "e0 0c 00 0a 11 00000001 11 00000001", proto},
	{"DISCONNECT with a property of AUTH", v5, "e0 06 00 04 15 0001 'm'", malform},
	{"AUTH with a code alone", v5, "f0 01 18", malform},
	{"AUTH without method", v5, "f0 02 18 00", proto},
	{"AUTH with an empty method", v5, "f0 05 18 03 15 0000", proto},
	{"AUTH with a method twice", v5, "f0 0a 18 08 15 0001 'm' 15 0001 'm'", proto},
	{"AUTH with a code of DISCONNECT", v5, "f0 06 04 04 15 0001 'm'", malform},
	{"AUTH with a property of DISCONNECT", v5, "f0 0b 18 09 15 0001 'm' 11 00000000", malform},
}

func TestReadRefuses(t *testing.T) {
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			b := raw(c.bytes)
			if n, ok := announced(b); ok && n != len(b) {
				t.Fatalf("the row itself is wrong: it has %d bytes and announces %d", len(b), n)
			}
			p, err := read(b, c.version)
			if err != error(c.reason) { //nolint:errorlint // the very value is promised
				t.Errorf("error %v, want %v", err, c.reason)
			}
			if _, ok := p.(*packet.Connect); p != nil && !ok {
				t.Errorf("packet %#v next to an error", p)
			}
		})
	}
}

// announced is the size of a packet by its own fixed header.
func announced(b []byte) (n int, ok bool) {
	for i, c := range b[1:] {
		n |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n + i + 2, i < 4
		}
	}
	return 0, false
}

func TestReadLeavesFiltersToTheirAnswer(t *testing.T) {
	// Each filter of a SUBSCRIBE has an answer of its own, so a filter that is
	// not valid is not a malformed packet.
	p, err := read(raw("82 05 0001 0000 00"), v311)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.(*packet.Subscribe).Filters[0].Filter; got != "" {
		t.Errorf("filter %q", got)
	}
}

func TestARefusedConnectSaysItsVersion(t *testing.T) {
	for _, c := range []struct {
		bytes   string
		version packet.Version // 0 is no packet
	}{
		{"10 0c 0004 'MQTT' 06 02 0000 0000", 6},
		{"10 0c 0004 'MQTT' 84 02 0000 0000", 0x84},
		{"10 0c 0004 'MQTT' 04 03 0000 0000", 4},
		{"10 0d 0004 'MQTT' 05 02 0000 05 0000", 5},
		{"10 13 0006 'MQIsdp' 03 1e 0000 0000 0001 'w' 0000", 3},
		{"10 0c 0004 'HTTP' 04 02 0000 0000", 0},
		{"10 06 0004 'MQTT'", 0},
	} {
		p, err := read(raw(c.bytes), 0)
		if err == nil {
			t.Fatalf("%s: no error", c.bytes)
		}
		var got packet.Version
		if connect, ok := p.(*packet.Connect); ok {
			got = connect.Version
		} else if p != nil {
			t.Errorf("%s: packet %#v", c.bytes, p)
		}
		if got != c.version {
			t.Errorf("%s: version %v, want %v", c.bytes, got, c.version)
		}
	}
}

func TestUserPropertiesAreBounded(t *testing.T) {
	write := func(n int) []byte {
		p := &packet.Publish{Topic: "t"}
		p.Properties.UserProperties = make([]message.Property, n)
		b, err := packet.Append(nil, p, v5)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := read(write(packet.MaxUserProperties), v5); err != nil {
		t.Errorf("the most: %v", err)
	}
	if _, err := read(write(packet.MaxUserProperties+1), v5); !errors.Is(err, packet.QuotaExceeded) {
		t.Errorf("one more: %v", err)
	}
}

func TestTheLimitCountsTheWholePacket(t *testing.T) {
	for _, c := range []struct {
		bytes string
		size  int
	}{
		{"30 05 0001 't' 'xy'", 7},
		{"30 8001 0001 't'" + strings.Repeat(" 00", 125), 131},
		{"c0 00", 2},
	} {
		b := raw(c.bytes)
		if _, err := packet.Read(reader(b), v311, c.size); err != nil {
			t.Errorf("%d bytes with limit %d: %v", len(b), c.size, err)
		}
		if _, err := packet.Read(reader(b), v311, c.size-1); !errors.Is(err, packet.PacketTooLarge) {
			t.Errorf("%d bytes with limit %d: %v", len(b), c.size-1, err)
		}
	}
}
