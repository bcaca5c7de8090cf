package serial

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// delimited are frames that end with a delimiter. A line is one without the carriage
// returns around it.
type delimited struct {
	delimiter []byte
	line      bool
	most      int // bytes before the delimiter
}

func (d delimited) cut(b []byte, seen int) piece {
	from := max(0, seen-len(d.delimiter)+1)
	i := bytes.Index(b[from:], d.delimiter)
	if i < 0 {
		if len(b) <= d.most+len(d.delimiter) {
			return piece{}
		}
		return piece{ // the delimiter may have begun
			used: len(b) - len(d.delimiter) + 1, rest: true,
			err: wrongFrame(errTooLong, "a %s is longer than %d bytes", d.noun(), d.most),
		}
	}
	frame := b[:from+i]
	used := from + i + len(d.delimiter)
	if d.line {
		if frame = bytes.Trim(frame, "\r"); frame == nil {
			frame = b[:0] // an empty one ends a line that was too long, too
		}
	}
	if len(frame) > d.most {
		return piece{used: used, err: wrongFrame(errTooLong, "a %s is longer than %d bytes", d.noun(), d.most)}
	}
	return piece{used: used, frame: frame}
}

func (d delimited) noun() string {
	if d.line {
		return "line"
	}
	return "frame"
}

func (d delimited) wrap(dst, frame []byte) ([]byte, error) {
	if bytes.Contains(append(frame[:len(frame):len(frame)], d.delimiter[:len(d.delimiter)-1]...), d.delimiter) {
		return dst, errors.New("what is sent has the delimiter in it")
	}
	return append(append(dst, frame...), d.delimiter...), nil
}

var errStart = errors.New("what is sent does not begin as frames do")

// fixed are frames of one length, which may begin with a mark.
type fixed struct {
	start  []byte
	length int
}

func (f fixed) cut(b []byte, _ int) piece {
	if n := beginning(b, f.start); n > 0 {
		return piece{used: n, noise: true}
	}
	if len(b) < f.length {
		return piece{}
	}
	return piece{used: f.length, frame: b[:f.length]}
}

func (f fixed) wrap(dst, frame []byte) ([]byte, error) {
	if len(frame) != f.length {
		return dst, fmt.Errorf("what is sent has %d bytes, not %d", len(frame), f.length)
	}
	if !bytes.HasPrefix(frame, f.start) {
		return dst, errStart
	}
	return append(dst, frame...), nil
}

// beginning is how many bytes come before a mark, or what may become one.
func beginning(b, mark []byte) int {
	if i := bytes.Index(b, mark); i >= 0 {
		return i
	}
	for n := min(len(mark)-1, len(b)); n > 0; n-- {
		if bytes.HasPrefix(mark, b[len(b)-n:]) {
			return len(b) - n
		}
	}
	return len(b)
}

// prefixed are frames that say how long they are.
type prefixed struct {
	start  []byte
	offset int // of the length
	size   int // of the length: 1, 2 or 4
	order  binary.ByteOrder
	more   int // the frame's bytes that the length does not count
	least  int // bytes of a frame
	most   int
}

func (p prefixed) cut(b []byte, _ int) piece {
	if n := beginning(b, p.start); n > 0 {
		return piece{used: n, noise: true}
	}
	if len(b) < p.offset+p.size {
		return piece{}
	}
	n := p.length(b) + int64(p.more)
	if n < int64(p.least) || n > int64(p.most) {
		return piece{used: 1, err: wrongFrame(errTooLong, "a frame says that it has %d bytes", n)}
	}
	if int64(len(b)) < n {
		return piece{}
	}
	return piece{used: int(n), frame: b[:n]}
}

func (p prefixed) length(b []byte) int64 {
	switch at := b[p.offset:]; p.size {
	case 1:
		return int64(at[0])
	case 2:
		return int64(p.order.Uint16(at))
	default:
		return int64(p.order.Uint32(at))
	}
}

// put says how long a frame is.
func (p prefixed) put(frame []byte) error {
	n := len(frame) - p.more
	if len(frame) < p.least || n < 0 || int64(n) >= 1<<(8*p.size) {
		return fmt.Errorf("a frame of %d bytes cannot say how long it is", len(frame))
	}
	switch at := frame[p.offset:]; p.size {
	case 1:
		at[0] = byte(n)
	case 2:
		p.order.PutUint16(at, uint16(n))
	default:
		p.order.PutUint32(at, uint32(n))
	}
	return nil
}

func (p prefixed) wrap(dst, frame []byte) ([]byte, error) {
	if !bytes.HasPrefix(frame, p.start) {
		return dst, errStart
	}
	return append(dst, frame...), nil
}

// plain are frames between silences.
type plain struct{}

func (plain) cut(b []byte, _ int) piece { return piece{used: len(b), frame: b} }

func (plain) wrap(dst, frame []byte) ([]byte, error) { return append(dst, frame...), nil }

// marked are frames with a mark at both ends, and after bytes of checksum behind.
type marked struct {
	start, end []byte
	after      int
	most       int
}

func (m marked) cut(b []byte, seen int) piece {
	if n := beginning(b, m.start); n > 0 {
		return piece{used: n, noise: !blank(b[:n])}
	}
	if len(b) < len(m.start) {
		return piece{}
	}
	from := max(len(m.start), seen-len(m.end)-m.after)
	i := bytes.Index(b[min(from, len(b)):], m.end)
	if i < 0 {
		if len(b) > m.most {
			return piece{used: 1, err: wrongFrame(errTooLong, "a frame is longer than %d bytes", m.most)}
		}
		return piece{}
	}
	end := from + i
	if again := bytes.LastIndex(b[1:end], m.start); again >= 0 { // the end of the one before is missing
		return piece{used: again + 1, noise: true}
	}
	if end += len(m.end) + m.after; len(b) < end {
		return piece{}
	}
	return piece{used: end, frame: b[:end]}
}

func (m marked) wrap(dst, frame []byte) ([]byte, error) {
	said := frame[len(m.start) : len(frame)-m.after-len(m.end)]
	if bytes.Contains(said, m.start) || bytes.Contains(said, m.end) {
		return dst, errors.New("what is sent has the mark of a frame's start or end in it")
	}
	return append(dst, frame...), nil
}

// blank reports whether bytes are what equipment likes to send between frames.
func blank(b []byte) bool { return len(bytes.Trim(b, "\r\n \x00")) == 0 }

// dle is the character that announces another one (ISO 1745, data link escape).
const dle = 0x10

// stuffed are marked frames in which DLE goes before the marks, and before itself.
type stuffed struct{ marked }

func (s stuffed) cut(b []byte, _ int) piece {
	start := []byte{dle, s.start[0]}
	if n := beginning(b, start); n > 0 {
		return piece{used: n, noise: !blank(b[:n])}
	}
	frame := append([]byte(nil), s.start...)
	for i := len(start); i < len(b); i++ {
		if len(frame) > s.most {
			return piece{used: 1, err: wrongFrame(errTooLong, "a frame is longer than %d bytes", s.most)}
		}
		if b[i] != dle {
			frame = append(frame, b[i])
			continue
		}
		if i++; i == len(b) {
			break
		}
		switch b[i] {
		case dle:
			frame = append(frame, dle)
		case s.start[0]:
			return piece{used: i - 1, noise: true}
		case s.end[0]:
			if i++; len(b) < i+s.after {
				return piece{}
			}
			return piece{used: i + s.after, frame: append(append(frame, s.end[0]), b[i:i+s.after]...)}
		default:
			return piece{used: 1, err: wrongFrame(errBroken, "the character 0x%02x follows DLE", b[i])}
		}
	}
	return piece{}
}

func (s stuffed) wrap(dst, frame []byte) ([]byte, error) {
	end := len(frame) - s.after - 1
	dst = append(dst, dle, s.start[0])
	for _, c := range frame[1:end] {
		if c == dle {
			dst = append(dst, dle)
		}
		dst = append(dst, c)
	}
	return append(append(dst, dle), frame[end:]...), nil
}

// slip are the frames of RFC 1055.
type slip struct{ delimited }

// The characters of RFC 1055.
const (
	slipEnd       = 0xc0
	slipEscape    = 0xdb
	slipEscEnd    = 0xdc
	slipEscEscape = 0xdd
)

func (s slip) cut(b []byte, seen int) piece {
	p := s.delimited.cut(b, seen)
	if p.frame == nil {
		return p
	}
	frame := make([]byte, 0, len(p.frame))
	for i := 0; i < len(p.frame); i++ {
		c := p.frame[i]
		if c == slipEscape {
			i++
			switch {
			case i < len(p.frame) && p.frame[i] == slipEscEnd:
				c = slipEnd
			case i < len(p.frame) && p.frame[i] == slipEscEscape:
			default:
				return piece{used: p.used, err: wrongFrame(errBroken, "a frame has a wrong escape")}
			}
		}
		frame = append(frame, c)
	}
	p.frame = frame
	return p
}

func (s slip) wrap(dst, frame []byte) ([]byte, error) {
	dst = append(dst, slipEnd) // ends what noise began
	for _, c := range frame {
		switch c {
		case slipEnd:
			dst = append(dst, slipEscape, slipEscEnd)
		case slipEscape:
			dst = append(dst, slipEscape, slipEscEscape)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, slipEnd), nil
}

// cobs are frames in consistent overhead byte stuffing (Cheshire and Baker, 1999).
type cobs struct{ delimited }

func (c cobs) cut(b []byte, seen int) piece {
	p := c.delimited.cut(b, seen)
	if len(p.frame) == 0 {
		return p
	}
	frame := make([]byte, 0, len(p.frame))
	for rest := p.frame; len(rest) > 0; {
		n := int(rest[0])
		if n > len(rest) {
			return piece{used: p.used, err: wrongFrame(errBroken, "a frame has a wrong count")}
		}
		frame = append(frame, rest[1:n]...)
		if rest = rest[n:]; n < 0xff && len(rest) > 0 {
			frame = append(frame, 0)
		}
	}
	p.frame = frame
	return p
}

func (c cobs) wrap(dst, frame []byte) ([]byte, error) {
	dst = append(dst, 0) // ends what noise began
	for {
		n := bytes.IndexByte(frame, 0)
		ended := n < 0
		if ended {
			n = len(frame)
		}
		if n > 0xfe {
			dst = append(append(dst, 0xff), frame[:0xfe]...)
			frame = frame[0xfe:]
			continue
		}
		dst = append(append(dst, byte(n+1)), frame[:n]...)
		if ended {
			return append(dst, 0), nil
		}
		frame = frame[n+1:]
	}
}

// nmea are the sentences of NMEA 0183: from "$" or "!" to the end of a line.
type nmea struct{ delimited }

func (n nmea) cut(b []byte, seen int) piece {
	p := n.delimited.cut(b, seen)
	if len(p.frame) == 0 {
		return p
	}
	i := bytes.LastIndexAny(p.frame, "$!")
	if i < 0 {
		return piece{used: p.used, noise: true}
	}
	if i > 0 {
		return piece{used: i, noise: true} // a line that broke off, or noise
	}
	return p
}

func (n nmea) wrap(dst, frame []byte) ([]byte, error) {
	if bytes.ContainsAny(frame, "\r\n") || bytes.ContainsAny(frame[1:], "$!") {
		return dst, errors.New("what is sent is not one sentence")
	}
	return append(append(dst, frame...), '\r', '\n'), nil
}
