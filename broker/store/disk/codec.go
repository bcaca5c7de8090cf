package disk

import (
	"bytes"
	"encoding/binary"
	"time"
	"unsafe"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Bits of a message's first byte, after its QoS.
const (
	bitRetain = 1 << (iota + 2)
	bitUTF8
	bitExpires
	bitAt
	bitContent   // content type
	bitRest      // response topic, correlation data, user properties
	qosBits      = 3
	deliverShare = 1 << 3
	deliverIDs   = 1 << 4
)

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes a point in time: seconds, then nanoseconds.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// appendMaybe writes a point in time that may be zero.
func appendMaybe(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return appendTime(append(b, 1), t)
}

// appendMessage writes a message. When it expires is written twice: as the store's
// time, and as what has passed since the start of this run.
func appendMessage(b []byte, m *message.Message, at *epoch) []byte {
	bits := byte(m.QoS) & qosBits
	for _, f := range []struct {
		set bool
		bit byte
	}{
		{m.Retain, bitRetain},
		{m.UTF8, bitUTF8},
		{!m.Expires.IsZero(), bitExpires},
		{!m.At.IsZero(), bitAt},
		{m.ContentType != "", bitContent},
		{m.ResponseTopic != "" || len(m.CorrelationData) > 0 || len(m.UserProperties) > 0, bitRest},
	} {
		if f.set {
			bits |= f.bit
		}
	}
	b = append(b, bits, m.Hops)
	b = appendText(b, m.Topic)
	b = appendOrigin(b, m)
	if bits&bitExpires != 0 {
		b = appendTime(b, at.Keep(m.Expires))
		b = binary.AppendUvarint(b, uint64(at.run))
		b = binary.AppendVarint(b, int64(m.Expires.Sub(at.Start)))
	}
	if bits&bitAt != 0 {
		b = appendTime(b, m.At)
	}
	if bits&bitContent != 0 {
		b = appendText(b, m.ContentType)
	}
	if bits&bitRest != 0 {
		b = appendText(b, m.ResponseTopic)
		b = appendText(b, m.CorrelationData)
		b = binary.AppendUvarint(b, uint64(len(m.UserProperties)))
		for _, p := range m.UserProperties {
			b = appendText(b, p.Key)
			b = appendText(b, p.Value)
		}
	}
	return append(b, m.Payload...)
}

// appendOrigin writes the origin of a message, and its order behind a zero byte: a program
// from before there was one takes that for a part of the origin, in which there is none
// else, and reads the rest as it was.
func appendOrigin(b []byte, m *message.Message) []byte {
	if m.Order == 0 {
		return appendText(b, m.Origin)
	}
	var room [binary.MaxVarintLen64]byte
	order := binary.AppendUvarint(room[:0], m.Order) // has no byte that is zero
	b = binary.AppendUvarint(b, uint64(len(m.Origin)+1+len(order)))
	b = append(append(b, m.Origin...), 0)
	return append(b, order...)
}

// origin reads what appendOrigin has written.
func (d *decoder) origin() (origin string, order uint64) {
	b := d.bytes()
	if i := bytes.LastIndexByte(b, 0); i >= 0 {
		if v, n := binary.Uvarint(b[i+1:]); n > 0 && i+1+n == len(b) {
			b, order = b[:i], v
		}
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), order
}

// decoder reads what the append functions wrote. After the first thing that is not
// as it should be everything is zero, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(v)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes is part of what is read, not a copy; nil if it is empty.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// text shares the memory of what is read, which nobody may write any more.
func (d *decoder) text() string {
	v := d.bytes()
	return unsafe.String(unsafe.SliceData(v), len(v))
}

func (d *decoder) time() time.Time {
	seconds, nanos := d.varint(), d.uvarint()
	if nanos >= 1e9 {
		d.fail()
		return time.Time{}
	}
	if d.bad {
		return time.Time{}
	}
	return time.Unix(seconds, int64(nanos))
}

func (d *decoder) maybe() time.Time {
	if d.byte() == 0 {
		return time.Time{}
	}
	return d.time()
}

// message reads a message to the end of the bytes, whose memory it shares.
func (d *decoder) message(at *epoch) *message.Message {
	bits := d.byte()
	m := &message.Message{
		QoS:    message.QoS(bits & qosBits),
		Retain: bits&bitRetain != 0,
		UTF8:   bits&bitUTF8 != 0,
		Hops:   d.byte(),
		Topic:  d.text(),
	}
	m.Origin, m.Order = d.origin()
	if bits&bitExpires != 0 {
		kept, run, passed := d.time(), d.uint32(), time.Duration(d.varint())
		if !d.bad {
			m.Expires = at.expires(kept, run, passed)
		}
	}
	if bits&bitAt != 0 {
		m.At = d.time()
	}
	if bits&bitContent != 0 {
		m.ContentType = d.text()
	}
	if bits&bitRest != 0 {
		m.ResponseTopic, m.CorrelationData = d.text(), d.bytes()
		m.UserProperties = d.properties()
	}
	m.Payload = d.b[:len(d.b):len(d.b)]
	if m.QoS > message.ExactlyOnce {
		d.fail()
	}
	return m
}

func (d *decoder) properties() []message.Property {
	n := d.uvarint()
	if n > uint64(len(d.b)/2) { // each has two lengths
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	properties := make([]message.Property, n)
	for i := range properties {
		properties[i] = message.Property{Key: d.text(), Value: d.text()}
	}
	return properties
}

// appendDelivery writes how a session gets a message.
func appendDelivery(b []byte, v *store.Delivery) []byte {
	bits := byte(v.QoS) & qosBits
	if v.Retain {
		bits |= bitRetain
	}
	if v.Share != "" {
		bits |= deliverShare
	}
	if len(v.SubscriptionIDs) > 0 {
		bits |= deliverIDs
	}
	b = append(b, bits)
	if v.Share != "" {
		b = appendText(b, v.Share)
	}
	if len(v.SubscriptionIDs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(v.SubscriptionIDs)))
		for _, id := range v.SubscriptionIDs {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return b
}

func (d *decoder) delivery() (v store.Delivery) {
	bits := d.byte()
	v.QoS, v.Retain = message.QoS(bits&qosBits), bits&bitRetain != 0
	if bits&deliverShare != 0 {
		v.Share = d.text()
	}
	if bits&deliverIDs != 0 {
		n := d.uvarint()
		if n == 0 || n > uint64(len(d.b)) {
			d.fail()
			return v
		}
		v.SubscriptionIDs = make([]uint32, n)
		for i := range v.SubscriptionIDs {
			v.SubscriptionIDs[i] = d.uint32()
		}
	}
	if v.QoS > message.ExactlyOnce {
		d.fail()
	}
	return v
}

// appendSession writes a session's record, but for its client identifier, which is
// the name of the part.
func appendSession(b []byte, r *store.SessionRecord, at *epoch) []byte {
	b = appendText(b, r.Principal)
	b = binary.AppendVarint(b, int64(r.Expiry))
	ended := at
	if r.Ended.IsZero() { // its will counts from the Unix epoch
		ended = asItIs
	}
	b = appendMaybe(b, at.Keep(r.Ended))
	b = appendMaybe(b, ended.Keep(r.WillAt))
	if r.Will == nil {
		return append(b, 0)
	}
	return appendMessage(append(b, 1), r.Will, asItIs)
}

// session reads a session's record. The memory of b is shared.
func (d *decoder) session(id string, at *epoch) (r store.SessionRecord) {
	r.ClientID, r.Principal, r.Expiry = id, d.text(), time.Duration(d.varint())
	r.Ended, r.WillAt = at.Kept(d.maybe()), d.maybe()
	if !r.Ended.IsZero() {
		r.WillAt = at.Kept(r.WillAt)
	}
	if d.byte() != 0 {
		r.Will = d.message(asItIs)
	} else if len(d.b) != 0 {
		d.fail()
	}
	return r
}

// Bits of a subscription.
const (
	subNoLocal = 1 << (iota + 2)
	subAsPublished
	subHandling // two bits
)

func appendSubscription(b []byte, s *store.Subscription) []byte {
	bits := byte(s.QoS)&qosBits | s.RetainHandling&qosBits*subHandling
	if s.NoLocal {
		bits |= subNoLocal
	}
	if s.RetainAsPublished {
		bits |= subAsPublished
	}
	return binary.AppendUvarint(append(b, bits), uint64(s.ID))
}

func (d *decoder) subscription(filter string) store.Subscription {
	bits := d.byte()
	s := store.Subscription{
		Filter: filter, QoS: message.QoS(bits & qosBits), ID: d.uint32(),
		NoLocal: bits&subNoLocal != 0, RetainAsPublished: bits&subAsPublished != 0,
		RetainHandling: bits / subHandling & qosBits,
	}
	if s.QoS > message.ExactlyOnce || len(d.b) != 0 {
		d.fail()
	}
	return s
}
