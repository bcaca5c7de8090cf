package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Write implements drivers.Device.
func (d *device) Write(ctx context.Context, name string, v drivers.Value) error {
	i, ok := d.index[name]
	if !ok {
		return fmt.Errorf("%w: %q", errNoPoint, name)
	}
	p := &d.spec.points[i]
	if !p.Writable {
		return fmt.Errorf("%w: %q", errReadOnly, name)
	}
	data, err := d.encode(ctx, i, v)
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	if mask := p.mask(); mask != nil {
		err = d.writePart(ctx, p, data, mask)
	} else {
		err = d.writeWhole(ctx, p, data)
		d.blames(p.span, err)
	}
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	return nil
}

// writeWhole writes a point with the function for one, or for several if the unit knows
// only that.
func (d *device) writeWhole(ctx context.Context, p *pointSpec, data []byte) error {
	r := d.writeRequest(p, data)
	err := d.send(ctx, r)
	if !p.write.learns(r) || !isUnknown(err) {
		return err
	}
	again := d.send(ctx, r.severally())
	d.multiple[r.fn] = again == nil
	if !isRefusal(again) {
		err = again // nil, or it may have been done
	}
	return err
}

// isUnknown reports whether the unit does not know a function.
func isUnknown(err error) bool {
	var e Exception
	return errors.As(err, &e) && e.Code == IllegalFunction
}

// writePart writes the bits of registers that mask has and leaves the others as they
// are: by function 22, where the unit knows it, else by reading, changing, writing and
// reading back with nobody else on the line in between. What the unit itself does to the
// other bits meanwhile is lost then.
func (d *device) writePart(ctx context.Context, p *pointSpec, data, mask []byte) error {
	s := p.span
	if s.count == 1 && p.write == "" && !d.multiple[MaskWriteRegister] {
		masks := []byte{^mask[0], ^mask[1], data[0] & mask[0], data[1] & mask[1]}
		err := d.send(ctx, request{unit: d.spec.unit, fn: MaskWriteRegister, addr: s.addr, count: 1, data: masks})
		if !isUnknown(err) {
			return err
		}
		d.multiple[MaskWriteRegister] = true
	}
	return patiently(ctx, func() error { return d.modify(ctx, p, data, mask) })
}

// modify reads, changes, writes and reads back registers in one turn.
func (d *device) modify(ctx context.Context, p *pointSpec, data, mask []byte) error {
	s := p.span
	read := request{unit: d.spec.unit, fn: s.fn, addr: s.addr, count: s.count}
	t := timing{timeout: d.spec.timeout, confirm: d.confirmTime(d.condition()), calm: d.bus.rtu, counters: d.counters}
	if d.bus.rtu {
		if _, err := d.bus.borrow(ctx, read, t); err != nil {
			return err
		}
		defer func() {
			d.bus.lengths.release(read.unit, read.fn, read.count, time.Now().Add(waryTimeouts*t.timeout))
		}()
	}
	return d.bus.inOneTurn(ctx, read, t, func(ask func(request) (reply, error)) error {
		got, err := d.surely(ask, read)
		if err != nil {
			return fmt.Errorf("the other bits cannot be read: %w", err)
		}
		for i, m := range mask {
			got.data[i] = got.data[i]&^m | data[i]&m
		}
		write := d.writeRequest(p, got.data)
		_, err = ask(write)
		if p.write.learns(write) && isUnknown(err) {
			d.multiple[write.fn] = true
			_, err = ask(write.severally())
		}
		if err != nil {
			return err
		}
		after, err := ask(read)
		if err != nil {
			return fmt.Errorf("%w: it cannot be read back: %w", drivers.ErrUncertain, err)
		}
		for i, m := range mask {
			if after.data[i]&m == data[i]&m {
				continue
			}
			err := fmt.Errorf("the unit took the write, but holds % x", after.data)
			if d.bus.rtu && d.condition().troubled { // or that is what it held before
				err = fmt.Errorf("%w: %w", drivers.ErrUncertain, err)
			}
			return err
		}
		return nil
	})
}

// surely reads what is to be written back. On a line with trouble it must come twice: a
// stale answer would undo what others have written meanwhile.
func (d *device) surely(ask func(request) (reply, error), read request) (reply, error) {
	got, err := ask(read)
	if err != nil || !d.bus.rtu || !d.condition().troubled {
		return got, err
	}
	again, err := ask(read)
	if err == nil && !bytes.Equal(got.data, again.data) {
		err = fmt.Errorf("%w: two answers differ", errGarbled)
	}
	return again, err
}

// send does a write.
func (d *device) send(ctx context.Context, r request) error {
	return patiently(ctx, func() error {
		_, err := d.bus.do(ctx, r, timing{timeout: d.spec.timeout, counters: d.counters})
		d.severally = d.severally || err == nil && r.fn == WriteMultipleRegisters
		return err
	})
}

// writeRequest writes what encode gave to a span of coils or holding registers.
func writeRequest(unit uint8, s span, data []byte) request {
	r := request{unit: unit, fn: WriteMultipleRegisters, addr: s.addr, count: s.count, data: data}
	switch {
	case s.fn.bits():
		word := uint16(coilOff)
		if data[0] != 0 {
			word = coilOn
		}
		r.fn, r.data = WriteSingleCoil, []byte{byte(word >> 8), byte(word)}
	case s.count == 1:
		r.fn = WriteSingleRegister
	}
	return r
}

// writeRequest writes a point with the function that it asks for, or that the unit is
// known to need.
func (d *device) writeRequest(p *pointSpec, data []byte) request {
	r := writeRequest(d.spec.unit, p.span, data)
	if r.single() && (p.write == writeMultiple || p.write == "" && d.multiple[r.fn]) {
		r = r.severally()
	}
	return r
}

// single reports whether the request writes one coil or register with the function for
// one.
func (r request) single() bool { return r.fn == WriteSingleCoil || r.fn == WriteSingleRegister }

// writing says with which functions a point is written; empty is the single ones for one
// coil or register, or what the unit is found to know in their place.
type writing string

const (
	writeSingle   writing = "single"   // 5 and 6
	writeMultiple writing = "multiple" // 15 and 16
)

// learns reports whether the function for several is tried if the unit does not know the
// one of a request.
func (w writing) learns(r request) bool { return w == "" && r.single() }

// severally is the same single write with the function that writes several.
func (r request) severally() request {
	if r.fn == WriteSingleCoil {
		r.fn, r.data = WriteMultipleCoils, []byte{r.data[0] & 1}
	} else {
		r.fn = WriteMultipleRegisters
	}
	return r
}
