package modbus

import (
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
	r := writeRequest(d.spec.unit, p.span, data)
	if d.multiple[r.fn] {
		r = r.severally()
	}
	err = d.send(ctx, r)
	var e Exception
	single := r.fn == WriteSingleCoil || r.fn == WriteSingleRegister
	if errors.As(err, &e) && e.Code == IllegalFunction && single {
		// The unit knows only the functions that write several.
		again := d.send(ctx, r.severally())
		d.multiple[r.fn] = again == nil
		if !isRefusal(again) {
			err = again // nil, or it may have been done
		}
	}
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	return nil
}

// send does a write. On a serial line the answer to the write before, if that has not
// come yet, must not be taken for this one's: it need not show what was written.
func (d *device) send(ctx context.Context, r request) error {
	if d.bus.rtu {
		if err := pause(ctx, time.Until(d.condition().lateAck)); err != nil {
			return err
		}
	}
	_, err := d.bus.do(ctx, r, timing{timeout: d.spec.timeout})
	return err
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

// severally is the same single write with the function that writes several.
func (r request) severally() request {
	if r.fn == WriteSingleCoil {
		r.fn, r.data = WriteMultipleCoils, []byte{r.data[0] & 1}
	} else {
		r.fn = WriteMultipleRegisters
	}
	return r
}
