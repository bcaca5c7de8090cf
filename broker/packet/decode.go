package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
	"unsafe"

	"github.com/gatehouse/gatehouse/broker/message"
)

// decoder reads the parts of a packet. The first failure stands; after it the
// buffer is empty and every value zero, so that callers need not look each time.
type decoder struct {
	buf     []byte // what is left
	version Version
	share   bool // strings and slices share buf's memory
	failed  Reason
	at      section
	scratch *Scratch // nil: packets get memory of their own
}

func (d *decoder) fail(r Reason) {
	if d.failed == Success {
		d.failed = r
	}
	d.buf = nil
}

// take cuts n bytes off, or fails and returns nil.
func (d *decoder) take(n int) []byte {
	if n > len(d.buf) {
		d.fail(MalformedPacket)
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer, at most four bytes and no more than it
// needs ([MQTT-1.5.5-1]).
func (d *decoder) varint() uint32 {
	var v uint32
	for i, b := range d.buf[:min(4, len(d.buf))] {
		v |= uint32(b&0x7f) << (7 * i)
		if b >= 0x80 {
			continue
		}
		if b == 0 && i > 0 {
			break
		}
		d.buf = d.buf[i+1:]
		return v
	}
	d.fail(MalformedPacket)
	return 0
}

// flag reads a byte that must be 0 or 1.
func (d *decoder) flag() bool {
	v := d.byte()
	if v > 1 {
		d.fail(ProtocolError)
	}
	return v == 1
}

// positive passes on a value that must not be 0.
func positive[T uint16 | uint32](d *decoder, v T) T {
	if v == 0 {
		d.fail(ProtocolError)
	}
	return v
}

// packetID reads a packet identifier, which is never 0 ([MQTT-2.2.1-3],
// [MQTT3-2.3.1-1]).
func (d *decoder) packetID() uint16 { return positive(d, d.uint16()) }

// binary reads binary data (MQTT 5.0 §1.5.6); it returns nil only after a failure.
func (d *decoder) binary() []byte {
	b := d.take(int(d.uint16()))
	if d.share || b == nil {
		return b
	}
	return append(make([]byte, 0, len(b)), b...)
}

// text reads a UTF-8 encoded string (MQTT 5.0 §1.5.4). A byte order mark in it stays
// ([MQTT-1.5.4-3], [MQTT3-1.5.3-3]).
func (d *decoder) text() string {
	b := d.take(int(d.uint16()))
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 { // [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT3-1.5.3-1], [MQTT3-1.5.3-2]
		d.fail(MalformedPacket)
		return ""
	}
	if d.share {
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	return string(b)
}

// topicName reads a topic name, which may be empty if the caller says so.
func (d *decoder) topicName() string {
	name := d.text()
	if wildcards(name) { // [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT3-3.3.2-2], [MQTT3-4.7.1-1]
		d.fail(TopicNameInvalid)
	}
	return name
}

func wildcards(name string) bool {
	for i := range len(name) {
		if name[i] == '+' || name[i] == '#' {
			return true
		}
	}
	return false
}

// reason reads a reason code that a packet of type t may carry.
func (d *decoder) reason(t Type) Reason {
	r := Reason(d.byte())
	if !r.ValidIn(t) && d.failed == Success {
		d.fail(MalformedPacket)
	}
	return r
}

// MaxUserProperties is how many user properties a packet may have. The standard
// sets no bound; a packet with more fails with [QuotaExceeded].
const MaxUserProperties = 1000

func (d *decoder) userProperty(to *[]message.Property) {
	if len(*to) == MaxUserProperties {
		d.fail(QuotaExceeded)
		return
	}
	*to = append(*to, message.Property{Key: d.text(), Value: d.text()}) // [MQTT-1.5.7-1]
}
