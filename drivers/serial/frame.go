package serial

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of the key "max_frame".
const (
	defaultMaxFrame = 4096
	mostMaxFrame    = 1 << 20
)

// framing cuts frames out of what comes, and makes them.
type framing struct {
	cutter
	first, last []byte        // of a frame, around what it says
	slides      bool          // a frame may begin within one that was wrong
	blind       bool          // only a silence tells where a frame begins
	ends        bool          // only a silence tells where it ends
	open        bool          // what comes first may be half a frame, and not look like it
	gap         time.Duration // the silence after which the rest of a frame is not waited for; 0 is none
	fill        func(frame []byte) error
}

// cutter is what is particular to a framing. It keeps nothing between two calls.
type cutter interface {
	// cut looks at what came, which is not empty; so many bytes of it were not enough
	// the last time.
	cut(b []byte, seen int) piece
	// wrap makes of a frame what travels, added to dst, or says why it cannot.
	wrap(dst, frame []byte) ([]byte, error)
}

// piece is what a cutter found. With used 0 it needs more.
type piece struct {
	used  int    // bytes that are dealt with
	frame []byte // good until what came changes; nil if they are none
	noise bool   // they belong to no frame
	rest  bool   // what follows belongs to the same frame, which is wrong
	err   error  // they are a frame that is wrong
}

// Why bytes are no frame. What is wrong with them is one of these.
var (
	errTooLong  = errors.New("too long")
	errChecksum = errors.New("wrong checksum")
	errBroken   = errors.New("broken frame")
	errNoise    = errors.New("noise")
)

// frameError is what is wrong with bytes, in full.
type frameError struct {
	kind error
	msg  string
}

func (e *frameError) Error() string { return e.msg }
func (e *frameError) Unwrap() error { return e.kind }

func wrongFrame(kind error, format string, args ...any) error {
	return &frameError{kind, fmt.Sprintf(format, args...)}
}

// reader makes of what comes what frames say. Its zero value needs a framing and a
// bound.
type reader struct {
	framing
	sum      *checksum // nil is none
	most     int       // bytes of a frame
	buf      []byte
	seen     int  // bytes of buf that were not enough
	skipping bool // what comes belongs to a frame that is given up
	noise    int  // bytes that were passed over since the last frame
	told     bool // why they were
	fresh    bool // nothing came before: what is passed over is no news
}

// skip passes over the frame that is coming, if the framing cannot tell that half of
// it is missing. A checksum can.
func (r *reader) skip() { r.skipping, r.fresh = r.open && r.sum == nil, true }

// reset forgets what has come of a frame.
func (r *reader) reset() {
	*r = reader{framing: r.framing, sum: r.sum, most: r.most, buf: r.buf[:0]}
}

// waits reports whether a frame has begun.
func (r *reader) waits() bool { return len(r.buf) > 0 || r.skipping }

// feed takes bytes and calls got for what each frame says, good until it returns, and
// bad for each that is wrong.
func (r *reader) feed(b []byte, got func([]byte), bad func(error)) {
	if r.skipping && r.blind {
		return
	}
	r.buf = append(r.buf, b...)
	rest := r.buf
	for len(rest) > 0 && !r.ends {
		p := r.cut(rest, r.seen)
		if p.used == 0 {
			r.seen = len(rest)
			break
		}
		r.seen = 0
		rest = rest[r.take(p, got, bad):]
		if r.skipping && r.blind {
			rest = nil
		}
	}
	if len(rest) > 2*r.most+64 { // with escapes a frame is twice as long, and no more
		bad(wrongFrame(errTooLong, "%d bytes came without the end of a frame", len(rest)))
		r.skipping, rest, r.seen = true, nil, 0
	}
	r.buf = append(r.buf[:0], rest...)
}

// take deals with one piece and says how many bytes of it are.
func (r *reader) take(p piece, got func([]byte), bad func(error)) int {
	switch {
	case p.noise:
		r.noise += p.used
		return p.used
	case p.rest:
		if !r.skipping {
			bad(p.err)
		}
		r.skipping = true
		return p.used
	case p.err == nil && p.frame == nil:
		return p.used
	case r.skipping && !r.blind:
		r.skipping = false
		return p.used
	case p.err == nil && len(p.frame) == 0:
		return p.used
	}
	said, err := p.frame, p.err
	if err == nil {
		said, err = r.unwrap(said)
	}
	if err != nil {
		return r.wrong(p.used, err, bad)
	}
	r.tellNoise(bad)
	got(said)
	return p.used
}

// wrong deals with a frame that is wrong. Where another may begin within it, all but
// its first byte is looked at again, and nothing more is told of what is passed over.
func (r *reader) wrong(used int, err error, bad func(error)) int {
	if !r.told {
		bad(err)
	}
	switch {
	case r.blind:
		r.skipping = true
	case r.slides:
		r.told = true
		r.noise++
		return 1
	}
	return used
}

// unwrap checks a frame and returns what it says.
func (r *reader) unwrap(frame []byte) ([]byte, error) {
	switch {
	case len(frame) > r.most:
		return nil, wrongFrame(errTooLong, "a frame is longer than %d bytes", r.most)
	case len(frame) < len(r.first)+len(r.last):
		return nil, wrongFrame(errBroken, "a frame of %d bytes is too short", len(frame))
	case r.sum == nil:
		return frame[len(r.first) : len(frame)-len(r.last)], nil
	}
	return r.sum.check(frame, len(r.first), len(r.last))
}

// tellNoise tells how much was passed over, unless it was told why.
func (r *reader) tellNoise(bad func(error)) {
	if r.noise > 0 && !r.told && !r.fresh {
		bad(wrongFrame(errNoise, "%d bytes that are no frame were passed over", r.noise))
	}
	r.noise, r.told, r.fresh = 0, false, false
}

// silence says that nothing came for as long as gap.
func (r *reader) silence(got func([]byte), bad func(error)) {
	rest := r.buf
	r.buf, r.seen = r.buf[:0], 0
	switch {
	case r.skipping:
		r.skipping = !r.blind
	case r.ends && len(rest) > 0:
		r.take(piece{used: len(rest), frame: rest}, got, bad)
		r.skipping = false
	case len(rest) > 0 && !r.told && !r.fresh:
		bad(wrongFrame(errBroken, "a frame broke off after %d bytes", len(rest)))
		r.noise = 0
	}
	r.told, r.fresh = false, false
}

// encode makes what travels of what is to be said, added to dst.
func (r *reader) encode(dst, say []byte) ([]byte, error) {
	frame := append(append([]byte(nil), r.first...), say...)
	if r.sum != nil && r.sum.at == nil && r.sum.inside {
		frame = append(frame, r.sum.blank()...)
	}
	frame = append(frame, r.last...)
	if r.sum != nil && r.sum.at == nil && !r.sum.inside {
		frame = append(frame, r.sum.blank()...)
	}
	if len(frame) > r.most {
		return dst, fmt.Errorf("a frame of %d bytes is longer than %d", len(frame), r.most)
	}
	if r.fill != nil {
		if err := r.fill(frame); err != nil {
			return dst, err
		}
	}
	if r.sum != nil {
		if err := r.sum.put(frame, len(r.first), len(r.last)); err != nil {
			return dst, err
		}
	}
	return r.wrap(dst, frame)
}
