package modbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxApart is how many blocks are remembered that a unit takes register by register only.
const maxApart = 64

// WriteGroup implements drivers.GroupWriter: neighboring holding registers are written by
// one request of function 16, so that the unit has all of them or none. That is of units
// that are known to take it, since some keep silent about what they do not know: a point
// of several registers or with write: multiple is among them, or one was written before.
func (d *device) WriteGroup(ctx context.Context, writes []drivers.PointWrite) (n int, err error) {
	n, s := d.neighbors(writes)
	if n < 2 {
		return 1, d.Write(ctx, writes[0].Point, writes[0].Value)
	}
	data, err := d.encodeGroup(ctx, s, writes[:n])
	if err != nil { // of one: the others are not written without it
		return n, err
	}
	err = d.send(ctx, request{unit: d.spec.unit, fn: WriteMultipleRegisters, addr: s.addr, count: s.count, data: data})
	var e Exception
	if errors.As(err, &e) && (e.Code == IllegalFunction || e.Code == IllegalAddress || e.Code == IllegalValue) {
		if len(d.apart) == maxApart {
			clear(d.apart)
		}
		d.apart[s] = true
		return 1, d.Write(ctx, writes[0].Point, writes[0].Value)
	}
	if err != nil {
		names := make([]string, n)
		for i, w := range writes[:n] {
			names[i] = strconv.Quote(w.Point)
		}
		err = fmt.Errorf("cannot write points %s: %w", strings.Join(names, ", "), err)
	}
	return n, err
}

// neighbors finds the most points from the first on that can be written as one block: each
// begins where the one before ends, since a unit may do what its registers say in their order.
func (d *device) neighbors(writes []drivers.PointWrite) (n int, block span) {
	var all span
	knows := d.severally
	for i, w := range writes {
		at, ok := d.index[w.Point]
		if !ok || !d.groups(&d.spec.points[at]) {
			break
		}
		p := &d.spec.points[at]
		if i == 0 {
			all = span{fn: p.fn, addr: p.addr}
		}
		if int(p.addr) != all.end() || int(all.count)+int(p.count) > min(maxWriteRegisters, d.spec.limits.of(ReadHoldingRegisters)) {
			break
		}
		all.count += p.count
		knows = knows || p.count > 1 || p.write == writeMultiple
		if knows && !d.isApart(all) {
			n, block = i+1, all
		}
	}
	return n, block
}

// groups reports whether a point can be written beside others.
func (d *device) groups(p *pointSpec) bool {
	return p.Writable && p.fn == ReadHoldingRegisters && p.mask() == nil && p.write != writeSingle
}

// isApart reports whether a unit is known not to take a block at once.
func (d *device) isApart(s span) bool {
	for a := range d.apart {
		if int(a.addr) < s.end() && int(s.addr) < a.end() {
			return true
		}
	}
	return false
}

// encodeGroup makes the registers of a block.
func (d *device) encodeGroup(ctx context.Context, block span, writes []drivers.PointWrite) ([]byte, error) {
	data := make([]byte, 2*int(block.count))
	for _, w := range writes {
		i := d.index[w.Point]
		b, err := d.encode(ctx, i, w.Value)
		if err != nil {
			return nil, fmt.Errorf("cannot write point %q: %w", w.Point, err)
		}
		copy(data[2*(d.spec.points[i].addr-block.addr):], b)
	}
	return data, nil
}
