package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// frames is the server's end of an open WebSocket (RFC 6455 §5) as a stream of bytes:
// the payload of its binary messages, wherever they are cut. It holds no buffer:
// frames are unwrapped in the memory that Read is given, and what a control frame
// says is at most 125 bytes. One goroutine reads; what is written is a whole frame a
// call, so pongs of the reader come between the frames of whoever writes.
type frames struct {
	net.Conn        // what the frames are on
	early    []byte // what had come with the request, and was not read yet

	head    [maxHead]byte // of the frame at hand, as far as it has come
	got     int           // bytes of it
	left    int64         // bytes of the payload that have not come
	at      uint8         // where in the mask the next one is
	inside  bool          // the head is whole, the payload is not
	open    bool          // a message has begun, and its last frame has not come
	size    int64         // of the message so far
	control []byte        // payload of the control frame at hand; nil between
	failure error         // what ended the stream

	parting atomic.Bool // we have sent a Close frame: it was the last
	reading sync.Mutex  // held by Read
}

const (
	minHead = 2
	maxHead = 14 // with the longest length, and a mask
	// messageLimit bounds one message, the frames of which may be many. It is read as a
	// stream, so this bounds no memory; the broker has a limit of its own for packets.
	messageLimit = 256 << 20
	// controlLimit is how much a control frame may say (RFC 6455 §5.5).
	controlLimit = 125
	// frameSize is how much one frame has that we send, so that it and its head fill a
	// TLS record at most.
	frameSize = 16<<10 - 4
)

// The opcodes (RFC 6455 §11.8).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	isFinal   = 0x80
	reserved  = 0x70
	isMasked  = 0x80
	isControl = 0x8
)

// closing is the status code of a Close frame (RFC 6455 §7.4.1), and what a peer has
// done that ends the stream with it; empty is that it closes.
type closing struct {
	code uint16
	why  string
}

const (
	closedNormally  = 1000
	protocolError   = 1002
	unsupportedData = 1003
	noStatus        = 1005 // there was none; never sent
	invalidPayload  = 1007
	messageTooBig   = 1009
)

// Error implements error.
func (e *closing) Error() string { return fmt.Sprintf("WebSocket closed with %d: %s", e.code, e.why) }

// outFrames hold a frame that is being sent.
var outFrames = sync.Pool{New: func() any {
	b := make([]byte, 4+frameSize)
	return &b
}}

// Read implements [net.Conn]: a stream, whatever the frames ([MQTT-6.0.0-2],
// [MQTT3-6.0.0-2]). The peer's Close frame is answered, and is the end.
func (f *frames) Read(p []byte) (int, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	for len(p) > 0 {
		if f.failure != nil {
			return 0, f.failure
		}
		n, err := f.below(p)
		n, failure := f.unwrap(p[:n])
		if failure != nil {
			f.failure = failure
			f.end(failure)
		}
		if n > 0 {
			return n, nil // an error comes again
		}
		if err != nil && f.failure == nil {
			return 0, err
		}
	}
	return 0, nil
}

func (f *frames) below(p []byte) (int, error) {
	if len(f.early) == 0 {
		return f.Conn.Read(p)
	}
	n := copy(p, f.early)
	if f.early = f.early[n:]; len(f.early) == 0 {
		f.early = nil
	}
	return n, nil
}

// unwrap leaves at the beginning of p what is payload of messages, and returns how
// much that is. What follows a failure is none.
func (f *frames) unwrap(p []byte) (payload int, err error) {
	for rest := p; ; {
		if !f.inside {
			n, err := f.takeHead(rest)
			if rest = rest[n:]; err != nil || !f.inside {
				return payload, err
			}
		}
		now := rest[:min(int64(len(rest)), f.left)]
		rest, f.left = rest[len(now):], f.left-int64(len(now))
		f.unmask(now)
		if f.controls() {
			f.control = append(f.control, now...)
		} else {
			payload += copy(p[payload:], now)
		}
		if f.left > 0 {
			return payload, nil
		}
		f.inside, f.got = false, 0
		if f.controls() {
			if err := f.obey(); err != nil {
				return payload, err
			}
		}
	}
}

// controls reports whether the frame at hand is a control frame.
func (f *frames) controls() bool { return f.head[0]&isControl != 0 }

// takeHead takes what p has of the head of the next frame.
func (f *frames) takeHead(p []byte) (taken int, err error) {
	if f.got < minHead {
		taken = copy(f.head[f.got:minHead], p)
		if f.got += taken; f.got < minHead {
			return taken, nil
		}
		if err := f.judge(); err != nil {
			return taken, err
		}
	}
	n := copy(f.head[f.got:f.headSize()], p[taken:])
	if f.got += n; f.got == f.headSize() {
		err = f.begin()
	}
	return taken + n, err
}

// headSize is that of the head whose first two bytes are there, with its mask.
func (f *frames) headSize() int {
	switch f.head[1] &^ isMasked {
	case 126:
		return minHead + 2 + 4
	case 127:
		return maxHead
	default:
		return minHead + 4
	}
}

// judge looks at the first two bytes of a head.
func (f *frames) judge() error {
	op := f.head[0] & 0xF
	switch final := f.head[0]&isFinal != 0; {
	case f.head[0]&reserved != 0: // an extension, such as compression, would be asked for
		return &closing{protocolError, "a frame with reserved bits"}
	case f.head[1]&isMasked == 0: // RFC 6455 §5.1
		return &closing{protocolError, "a frame without a mask"}
	case op&isControl != 0 && (!final || f.head[1]&^isMasked > controlLimit):
		return &closing{protocolError, "a control frame that is long, or a fragment"}
	}
	switch op {
	case opContinuation:
		if !f.open {
			return &closing{protocolError, "a continuation of nothing"}
		}
	case opBinary:
		if f.open {
			return &closing{protocolError, "a message within another"}
		}
	case opText: // [MQTT-6.0.0-1], [MQTT3-6.0.0-1]
		return &closing{unsupportedData, "text, where MQTT is binary"}
	case opClose, opPing, opPong:
	default:
		return &closing{protocolError, "an opcode that there is not"}
	}
	return nil
}

// begin begins the payload of a frame whose head is there.
func (f *frames) begin() error {
	length, least := uint64(f.head[1]&^isMasked), uint64(0)
	switch length {
	case 126:
		length, least = uint64(binary.BigEndian.Uint16(f.head[2:])), 126
	case 127:
		length, least = binary.BigEndian.Uint64(f.head[2:]), 1<<16
	}
	if length < least || length > 1<<63-1 { // RFC 6455 §5.2
		return &closing{protocolError, "a length that is not written as it must be"}
	}
	f.inside, f.left, f.at = true, int64(length), 0
	if f.controls() {
		f.control = make([]byte, 0, length)
		return nil
	}
	if !f.open {
		f.size = 0
	}
	f.open = f.head[0]&isFinal == 0
	if int64(length) > messageLimit-f.size {
		return &closing{messageTooBig, "a message that is too long"}
	}
	f.size += int64(length)
	return nil
}

// unmask takes the mask of the frame off some of its payload.
func (f *frames) unmask(p []byte) {
	mask := f.head[f.got-4 : f.got]
	var wide [8]byte
	for i := range wide {
		wide[i] = mask[(int(f.at)+i)%4]
	}
	f.at = uint8((int(f.at) + len(p)) % 4)
	word := binary.NativeEndian.Uint64(wide[:])
	for ; len(p) >= 8; p = p[8:] {
		binary.NativeEndian.PutUint64(p, binary.NativeEndian.Uint64(p)^word)
	}
	for i := range p {
		p[i] ^= wide[i]
	}
}

// obey does what a control frame says.
func (f *frames) obey() error {
	said := f.control
	f.control = nil
	switch f.head[0] & 0xF {
	case opPing: // RFC 6455 §5.5.2
		if f.parting.Load() {
			return nil
		}
		return f.frame(opPong, said)
	case opClose:
		return closed(said)
	default:
		return nil
	}
}

// closed is how a Close frame ends the stream: a peer that closes as it should is at
// its end.
func closed(said []byte) error {
	if len(said) == 0 {
		return &closing{code: noStatus}
	}
	if len(said) < 2 {
		return &closing{protocolError, "a status code of one byte"}
	}
	code, reason := binary.BigEndian.Uint16(said), said[2:]
	switch {
	case code < 1000, code == 1004, code == noStatus, code == 1006, code > 1014 && code < 3000, code > 4999: // RFC 6455 §7.4
		return &closing{protocolError, fmt.Sprintf("status code %d, which nobody sends", code)}
	case !utf8.Valid(reason):
		return &closing{invalidPayload, "a reason that is not UTF-8"}
	default:
		return &closing{code: code}
	}
}

// end tells the peer how the stream has ended, and what Read is to return.
func (f *frames) end(failure error) {
	var c *closing
	if !errors.As(failure, &c) {
		return
	}
	_ = f.part(c.code) // it may be gone
	if c.why == "" {
		f.failure = io.EOF
	}
}

// rest is what is to be read before the connection is closed, or a reset could take our
// Close frame from the peer: up to the peer's own or, if it is not understood, all. It
// is nil if the peer has ended, or somebody reads.
func (f *frames) rest() io.Reader {
	if !f.reading.TryLock() {
		return nil
	}
	defer f.reading.Unlock()
	var ours *closing
	switch {
	case f.failure == nil:
		return f
	case errors.As(f.failure, &ours):
		return f.Conn
	default:
		return nil
	}
}

// part sends a Close frame, the last.
func (f *frames) part(code uint16) error {
	if f.parting.Swap(true) {
		return nil
	}
	var said []byte
	if code != noStatus {
		said = binary.BigEndian.AppendUint16(nil, code)
	}
	return f.frame(opClose, said)
}

// Write implements [net.Conn]: a binary message for each frameSize of it.
func (f *frames) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		now := p[:min(len(p), frameSize)]
		if f.parting.Load() {
			return written, net.ErrClosed
		}
		if err := f.frame(opBinary, now); err != nil {
			return written, err
		}
		p, written = p[len(now):], written+len(now)
	}
	return written, nil
}

// frame writes a frame by one call, so that none comes within another.
func (f *frames) frame(op byte, payload []byte) error {
	buf := outFrames.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer outFrames.Put(buf)
	b := append((*buf)[:0], isFinal|op)
	if len(payload) <= controlLimit {
		b = append(b, byte(len(payload)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(payload)))
	}
	_, err := f.Conn.Write(append(b, payload...))
	return err
}
