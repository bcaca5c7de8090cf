package jsvm

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// encoder appends fields to b.
type encoder struct{ b []byte }

func (w *encoder) byte(v byte)          { w.b = append(w.b, v) }
func (w *encoder) uint(v uint64)        { w.b = binary.AppendUvarint(w.b, v) }
func (w *encoder) int(v int64)          { w.b = binary.AppendVarint(w.b, v) }
func (w *encoder) text(v string)        { w.uint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *encoder) bytes(v []byte)       { w.uint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *encoder) time(v time.Time)     { w.int(unixNano(v)) }
func (w *encoder) count(v int)          { w.uint(uint64(v)) }
func (w *encoder) span(v time.Duration) { w.int(int64(v)) }

func (w *encoder) float(v float64) { w.b = binary.BigEndian.AppendUint64(w.b, math.Float64bits(v)) }

func (r *decoder) float() float64 {
	if len(r.b) < 8 {
		r.fail("number")
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (w *encoder) bool(v bool) {
	if v {
		w.byte(1)
	} else {
		w.byte(0)
	}
}

// unixNano gives the zero time as 0.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// decoder takes fields from b. After the first error it gives zero values.
type decoder struct {
	b   []byte
	err error
}

func (r *decoder) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	r.b = nil
}

func (r *decoder) byte() byte {
	if len(r.b) == 0 {
		r.fail("record ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *decoder) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *decoder) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// small is a number that fits an int of any platform.
func (r *decoder) small() int {
	v := r.uint()
	if v > 1<<30 {
		r.fail("number too large")
		return 0
	}
	return int(v)
}

func (r *decoder) bool() bool {
	v := r.byte()
	if v > 1 {
		r.fail("flag")
	}
	return v == 1
}

// bytes shares the frame's memory; nil when empty.
func (r *decoder) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail("byte string ends early")
		return nil
	}
	if n == 0 {
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *decoder) text() string { return string(r.bytes()) }

// count is how many elements follow, each of which takes at least min bytes.
func (r *decoder) count(min int) int {
	n := r.uint()
	if n > uint64(len(r.b)/min) {
		r.fail("count")
		return 0
	}
	return int(n)
}

func (r *decoder) span() time.Duration { return time.Duration(r.int()) }

func (r *decoder) time() time.Time {
	n := r.int()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// enum is a byte of at most last.
func (r *decoder) enum(last byte) byte {
	v := r.byte()
	if v > last {
		r.fail("value out of range")
		return 0
	}
	return v
}
