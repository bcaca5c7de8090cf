package packet

import (
	"bufio"
	"errors"
	"io"
)

// MaxSize is the largest packet that can be written down, in bytes: a remaining
// length of 268,435,455 and the fixed header (MQTT 5.0 §2.1.4).
const MaxSize = maxRemaining + 5

const maxRemaining = 1<<28 - 1

// readAhead is how much memory is taken for bytes that have been announced and
// have not come; from then on it doubles with what did come.
const readAhead = 4096

// header is a fixed header (MQTT 5.0 §2.1.1).
type header struct {
	kind    Type
	flags   byte
	length  int  // the remaining length
	size    int  // of the header itself
	minimal bool // the length took no more bytes than it needs
}

// Read takes one packet off r. A CONNECT says its version itself; to all others
// version applies, and 0 means that a CONNECT is the only packet allowed yet.
//
// Limit is the size in bytes, fixed header included, up to which a packet is
// accepted; 0 means [MaxSize]. It is compared with the announced length before
// memory is taken, and memory then grows with the bytes that come.
//
// A packet that the standard, or limit, does not allow gives a [Reason] as error.
// A CONNECT that is refused comes back next to its error if its Version was
// readable, so that it can be answered in its own version; nothing but Version is
// meaningful then, and it may be one that does not exist. The reader's errors are
// returned as they are: io.EOF only between packets, io.ErrUnexpectedEOF within
// one. After an error the stream is of no more use.
//
// The strings and slices of a [Publish] share one buffer, which belongs to the
// packet alone and is never reused, so they may be kept and handed on, but not be
// written. All other packets hold copies.
func Read(r *bufio.Reader, version Version, limit int) (Packet, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	if reason := h.check(version, limit); reason != Success {
		return nil, reason
	}
	if h.kind != PUBLISH && h.length <= r.Size() {
		body, err := r.Peek(h.length)
		if err != nil {
			return nil, within(err)
		}
		p, err := decode(h, body, version, nil)
		_, _ = r.Discard(h.length) // cannot fail: the bytes are there
		return p, err
	}
	body, err := readBody(r, h.length)
	if err != nil {
		return nil, err
	}
	return decode(h, body, version, nil)
}

func readHeader(r *bufio.Reader) (h header, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return h, err
	}
	h.kind, h.flags = Type(first>>4), first&0x0f
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return h, within(err)
		}
		h.length |= int(b&0x7f) << shift
		if b < 0x80 {
			h.size = 2 + shift/7
			h.minimal = b != 0 || shift == 0
			return h, nil
		}
		if shift == 21 { // a fifth byte would follow
			return h, MalformedPacket
		}
	}
}

// within turns the end of the stream into what it is inside a packet.
func within(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// check judges a packet by its fixed header alone.
func (h header) check(version Version, limit int) Reason {
	if limit <= 0 || limit > MaxSize {
		limit = MaxSize
	}
	switch {
	case h.kind == 0, h.kind == AUTH && version != V5 && version != 0:
		return MalformedPacket
	case !h.flagsAllowed(version):
		return MalformedPacket
	case h.kind != CONNECT && version == 0: // [MQTT-3.1.0-1], [MQTT3-3.1.0-1]
		return ProtocolError
	case h.kind != CONNECT && version == V5 && !h.minimal: // [MQTT-1.5.5-1]
		return MalformedPacket
	case h.length > limit-h.size: // [MQTT-3.2.2-15]
		return PacketTooLarge
	default:
		return Success
	}
}

func (h header) flagsAllowed(version Version) bool {
	switch h.kind {
	case PUBLISH:
		qos := h.flags >> 1 & 3
		return qos != 3 && // [MQTT-3.3.1-4], [MQTT3-3.3.1-4]
			(qos != 0 || h.flags&8 == 0) // [MQTT-3.3.1-2], [MQTT3-3.3.1-2]
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE: // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT3-3.6.1-1], [MQTT3-3.8.1-1], [MQTT3-3.10.1-1]
		// In MQTT 3.1 these carry QoS 1, and DUP when sent again.
		return h.flags == 2 || h.flags == 10 && version == V31
	default: // [MQTT-2.1.3-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1], [MQTT3-2.2.2-1], [MQTT3-2.2.2-2], [MQTT3-3.14.1-1]
		return h.flags == 0
	}
}

// readBody reads n bytes into memory of their own.
func readBody(r *bufio.Reader, n int) ([]byte, error) {
	body := make([]byte, min(n, r.Buffered()+readAhead))
	for have := 0; ; {
		got, err := io.ReadFull(r, body[have:])
		if err != nil {
			return nil, within(err)
		}
		have += got
		if have == n {
			return body, nil
		}
		more := make([]byte, min(n, 2*have))
		copy(more, body)
		body = more
	}
}

// decode turns the bytes after the fixed header into a packet; s may be nil.
func decode(h header, body []byte, version Version, s *Scratch) (Packet, error) {
	d := decoder{buf: body, version: version, share: h.kind == PUBLISH, scratch: s}
	p := d.packet(h)
	if len(d.buf) > 0 { // [MQTT-3.1.2-16], [MQTT-3.1.2-18], [MQTT3-3.1.2-18], [MQTT3-3.1.2-20]
		d.fail(MalformedPacket)
	}
	if h.kind == CONNECT && d.version == V5 && !h.minimal { // [MQTT-1.5.5-1]
		d.fail(MalformedPacket)
	}
	if d.failed == Success {
		return p, nil
	}
	if c, ok := p.(*Connect); ok && c.Version != 0 {
		return c, d.failed
	}
	return nil, d.failed
}

func (d *decoder) packet(h header) Packet {
	switch h.kind {
	case CONNECT:
		return d.connect()
	case CONNACK:
		return d.connack()
	case PUBLISH:
		return d.publish(h.flags)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return d.ack(h.kind)
	case SUBSCRIBE:
		return d.subscribe()
	case SUBACK:
		return d.suback()
	case UNSUBSCRIBE:
		return d.unsubscribe()
	case UNSUBACK:
		return d.unsuback()
	case PINGREQ:
		return &Pingreq{}
	case PINGRESP:
		return &Pingresp{}
	case DISCONNECT:
		return d.disconnect()
	default: // AUTH; check let no other through
		return d.auth()
	}
}
