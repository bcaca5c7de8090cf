package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// frame is a control packet as it lies in a buffer.
type frame struct {
	kind  packet.Type
	flags byte
	body  []byte // what follows the fixed header
	size  int    // of the whole packet in bytes
}

var errFrame = errors.New("what came is no control packet")

// nextFrame looks at the first packet of b; its size is 0 if not all of it is there.
func nextFrame(b []byte) (f frame, err error) {
	if len(b) < 2 {
		return f, nil
	}
	length, n := varint(b[1:])
	switch {
	case n < 0:
		return f, errFrame
	case n == 0 || len(b) < 1+n+length:
		return f, nil
	}
	return frame{kind: packet.Type(b[0] >> 4), flags: b[0] & 15, body: b[1+n : 1+n+length], size: 1 + n + length}, nil
}

// varint reads a variable byte integer of n bytes; n is 0 if it does not end, and
// below 0 if it is too long.
func varint(b []byte) (v, n int) {
	for i, c := range b {
		if i == 4 {
			return 0, -1
		}
		v |= int(c&127) << (7 * i)
		if c < 128 {
			return v, i + 1
		}
	}
	return 0, 0
}

// delivery is a PUBLISH that came; its slices are of the buffer that it was read into.
type delivery struct {
	topic, payload []byte
	qos            message.QoS
	id             uint16
}

func (f frame) delivery(version packet.Version) (d delivery, err error) {
	d.qos = message.QoS(f.flags >> 1 & 3)
	b := f.body
	if len(b) < 2 {
		return d, errFrame
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return d, errFrame
	}
	d.topic, b = b[:n], b[n:]
	if d.qos > message.AtMostOnce {
		if len(b) < 2 {
			return d, errFrame
		}
		d.id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if version == packet.V5 {
		length, n := varint(b)
		if n <= 0 || len(b) < n+length {
			return d, errFrame
		}
		b = b[n+length:]
	}
	d.payload = b
	return d, nil
}

// ack is the packet identifier of a PUBACK, PUBREC, PUBREL or PUBCOMP. One that
// says that it failed is an error.
func (f frame) ack() (uint16, error) {
	if len(f.body) < 2 {
		return 0, errFrame
	}
	if len(f.body) > 2 {
		if r := packet.Reason(f.body[2]); r.Failed() {
			return 0, fmt.Errorf("%s says %w", f.kind, r)
		}
	}
	return binary.BigEndian.Uint16(f.body), nil
}

// appendAck adds an acknowledgement without a reason code, which is the same in
// all versions.
func appendAck(b []byte, kind packet.Type, id uint16) []byte {
	flags := byte(0)
	if kind == packet.PUBREL {
		flags = 2
	}
	return append(b, byte(kind)<<4|flags, 2, byte(id>>8), byte(id))
}

// template is a PUBLISH of which the topic, the packet identifier and the payload
// are overwritten for each message.
type template struct {
	bytes              []byte
	topic, id, payload int // where they begin; id is 0 at QoS 0
}

func newTemplate(topic string, qos message.QoS, retain bool, size int, version packet.Version) (t template, err error) {
	p := &packet.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: make([]byte, size)}
	if qos > message.AtMostOnce {
		p.ID = 1
	}
	if t.bytes, err = packet.Append(nil, p, version); err != nil {
		return t, err
	}
	f, err := nextFrame(t.bytes)
	if err != nil {
		return t, err
	}
	t.topic = f.size - len(f.body) + 2
	t.payload = f.size - size
	if qos > message.AtMostOnce {
		t.id = t.topic + len(topic)
	}
	return t, nil
}

func (t template) setID(id uint16) { binary.BigEndian.PutUint16(t.bytes[t.id:], id) }
