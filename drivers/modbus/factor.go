package modbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// maxFactor is the greatest power of ten, either way, that a register may scale
	// by (SunSpec Device Information Model Specification §4.3.4).
	maxFactor = 10
	// noFactor is the register of a scale factor that is not there: the value is not,
	// either.
	noFactor = 0x8000
)

// factor is what a register that scales points holds.
type factor struct {
	known    bool
	exponent int
	none     bool
	err      error
}

// unscaled is a point whose factor may not have been read yet.
type unscaled struct {
	point int
	wire  []byte // of an answer, which nobody writes to
	at    time.Time
}

func factorOf(wire []byte) factor {
	word := binary.BigEndian.Uint16(wire)
	f := factor{known: true, exponent: int(int16(word)), none: word == noFactor}
	if !f.none && (f.exponent < -maxFactor || f.exponent > maxFactor) {
		f.err = fmt.Errorf("the scale factor is %d, not %d to %d", f.exponent, -maxFactor, maxFactor)
	}
	return f
}

// scale makes readings of the points whose factor was read. Where the unit kept silent
// about that, there is no reading.
func (r *reading) scale() {
	for _, w := range r.waiting {
		f := r.factors[r.device.factors[w.point]-len(r.points)]
		name := r.points[w.point].Name
		switch {
		case !f.known:
		case f.err != nil:
			r.out = append(r.out, drivers.Reading{Point: name, Quality: drivers.Bad, At: w.at, Err: f.err})
		case f.none:
			r.out = append(r.out, drivers.Reading{Point: name, At: w.at})
		default:
			r.tell(w.point, w.wire, f.exponent, w.at)
		}
	}
}

// encode gives the bytes of a point's value. A scale factor is read first.
func (d *device) encode(ctx context.Context, i int, v drivers.Value) ([]byte, error) {
	p := &d.spec.points[i]
	if p.factor == nil {
		return p.codec.encode(v)
	}
	got, from, err := d.fetch(ctx, *p.factor, readAttempts)
	if err != nil {
		return nil, fmt.Errorf("cannot read the scale factor: %w", err)
	}
	f := factorOf(p.factor.cut(got.data, from, nil))
	switch {
	case f.err != nil:
		return nil, f.err
	case f.none:
		return nil, fmt.Errorf("the unit has no scale factor for it")
	}
	return p.scaledBy(f.exponent).encode(v)
}

// memo is what a point was made of the last time: most do not change from one reading
// to the next.
type memo struct {
	wire     []byte
	exponent int
	value    drivers.Value
	err      error
}

// decode gives the value of the bytes, scaled by a power of ten.
func (m *memo) decode(c *codec, wire []byte, exponent int) (drivers.Value, error) {
	if string(m.wire) == string(wire) && m.exponent == exponent {
		return m.value, m.err
	}
	m.wire, m.exponent = append(m.wire[:0], wire...), exponent
	if exponent != 0 {
		c = c.scaledBy(exponent)
	}
	m.value, m.err = c.decode(wire)
	return m.value, m.err
}
