package packet

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
)

// encoder writes the parts of a packet behind b. The first error stands.
type encoder struct {
	b       []byte
	version Version
	err     error
}

// begin opens a packet and returns where end is to write its length.
func (e *encoder) begin(kind Type, flags byte) int {
	e.b = append(e.b, byte(kind)<<4|flags)
	return e.open()
}

// open leaves room for a length of one byte and returns its place. Where nothing
// follows, it stays 0 ([MQTT-2.2.2-1]).
func (e *encoder) open() int {
	e.b = append(e.b, 0)
	return len(e.b) - 1
}

// end writes the length of what follows place at, and of more bytes that are yet
// to come, into that place. A length of several bytes moves what follows.
func (e *encoder) end(at, more int) {
	n := len(e.b) - at - 1 + more
	if n < 0x80 {
		e.b[at] = byte(n)
		return
	}
	if n > maxRemaining {
		if e.err == nil {
			e.err = PacketTooLarge
		}
		return
	}
	var length [4]byte
	size := len(appendVarint(length[:0], uint32(n)))
	e.b = append(e.b, length[1:size]...)
	copy(e.b[at+size:], e.b[at+1:])
	copy(e.b[at:], length[:size])
}

func appendVarint(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func (e *encoder) uint16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }

func (e *encoder) uint32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

func (e *encoder) packetID(id uint16) {
	if id == 0 { // [MQTT-2.2.1-3]
		e.fail("cannot write a packet identifier of 0")
	}
	e.uint16(id)
}

func (e *encoder) reason(r Reason, t Type) {
	if !r.ValidIn(t) {
		e.fail("cannot write a reason code that does not belong to " + t.String())
	}
	e.b = append(e.b, byte(r))
}

// text writes a UTF-8 encoded string (MQTT 5.0 §1.5.4).
func (e *encoder) text(s string) {
	if len(s) > 0xffff {
		e.fail("cannot write a string of more than 65,535 bytes")
		return
	}
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 { // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
		e.fail("cannot write a string that is not UTF-8 or has a NUL in it")
	}
	e.uint16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) topicName(s string) {
	if wildcards(s) { // [MQTT-3.3.2-2]
		e.fail("cannot write a topic name with a wildcard")
	}
	e.text(s)
}

// binary writes binary data (MQTT 5.0 §1.5.6).
func (e *encoder) binary(v []byte) {
	if len(v) > 0xffff {
		e.fail("cannot write binary data of more than 65,535 bytes")
		return
	}
	e.uint16(uint16(len(v)))
	e.b = append(e.b, v...)
}

// The rest writes properties, each unless it is absent.

func (e *encoder) string(id byte, s string) {
	if s != "" {
		e.b = append(e.b, id)
		e.text(s)
	}
}

func (e *encoder) bytes(id byte, v []byte) {
	if v != nil {
		e.b = append(e.b, id)
		e.binary(v)
	}
}

func (e *encoder) number16(id byte, v uint16) {
	if v != 0 {
		e.b = append(e.b, id)
		e.uint16(v)
	}
}

func (e *encoder) number32(id byte, v uint32) {
	if v != 0 {
		e.b = append(e.b, id)
		e.uint32(v)
	}
}

func (e *encoder) optional32(id byte, v *uint32) {
	if v != nil {
		e.b = append(e.b, id)
		e.uint32(*v)
	}
}

func (e *encoder) trueFlag(id byte, v bool) {
	if v {
		e.b = append(e.b, id, 1)
	}
}

func (e *encoder) optionalFlag(id byte, v *bool) {
	if v == nil {
		return
	}
	var b byte
	if *v {
		b = 1
	}
	e.b = append(e.b, id, b)
}

func (e *encoder) subscriptionID(id uint32) {
	if id == 0 || id > maxRemaining {
		e.fail("cannot write a subscription identifier of 0 or above 268,435,455")
		return
	}
	e.b = appendVarint(append(e.b, propSubscriptionID), id)
}

func (e *encoder) userProperties(user []message.Property) {
	for i := range user {
		e.b = append(e.b, propUserProperty)
		e.text(user[i].Key)
		e.text(user[i].Value)
	}
}
