package modbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// WriteGroup implements drivers.GroupWriter: neighboring holding registers are written by
// one request of function 16, so that the unit has all of them or none. That is of units
// that are known to take it, since some keep silent about what they do not know: a point
// of several registers or with write: multiple is among them, or one was written before.
// A block that is refused is halved, and is for a while.
func (d *device) WriteGroup(ctx context.Context, writes []drivers.PointWrite) (n int, err error) {
	for most := len(writes); ; most = n / 2 {
		var s span
		if n, s = d.neighbors(writes[:most]); n < 2 {
			return 1, d.Write(ctx, writes[0].Point, writes[0].Value)
		}
		data, err := d.encodeGroup(ctx, s, writes[:n])
		if err != nil { // of one: the others are not written without it
			return n, err
		}
		err = d.send(ctx, request{unit: d.spec.unit, fn: WriteMultipleRegisters, addr: s.addr, count: s.count, data: data})
		if !d.parts(s, err) {
			return n, groupError(writes[:n], err)
		}
	}
}

// groupError is the error of points that were written as one; nil is none.
func groupError(writes []drivers.PointWrite, err error) error {
	if err == nil {
		return nil
	}
	names := make([]string, len(writes))
	for i, w := range writes {
		names[i] = strconv.Quote(w.Point)
	}
	return fmt.Errorf("cannot write points %s: %w", strings.Join(names, ", "), err)
}

// parts reports whether a block that failed may be granted in parts, and remembers it.
func (d *device) parts(s span, err error) bool {
	var e Exception
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case IllegalFunction:
		d.ungrouped = time.Now().Add(refusalTime)
	case IllegalAddress, IllegalValue:
		d.unwritten.add(s, refusalTime)
	default:
		return false
	}
	return true
}

// blames forgets that blocks were refused if the value of a point among them is to blame:
// with another one they are written at once.
func (d *device) blames(s span, err error) {
	var e Exception
	if errors.As(err, &e) && e.Code == IllegalValue {
		d.unwritten.drop(s)
	}
}

// neighbors finds the most points from the first on that can be written as one block: each
// begins where the one before ends, since a unit may do what its registers say in their order.
// If that was refused they are half as many, and so on.
func (d *device) neighbors(writes []drivers.PointWrite) (n int, block span) {
	if time.Now().Before(d.ungrouped) {
		return 1, block
	}
	blocks, knows := make([]span, 0, len(writes)), 0 // how many it takes to know that function 16 is taken
	for i, w := range writes {
		at, ok := d.index[w.Point]
		if !ok || !d.groups(&d.spec.points[at]) {
			break
		}
		p := &d.spec.points[at]
		if i == 0 {
			block = span{fn: p.fn, addr: p.addr}
		}
		if int(p.addr) != block.end() || int(block.count)+int(p.count) > min(maxWriteRegisters, d.spec.limits.of(ReadHoldingRegisters)) {
			break
		}
		block.count += p.count
		blocks = append(blocks, block)
		if knows == 0 && (d.severally || p.count > 1 || p.write == writeMultiple) {
			knows = i + 1
		}
	}
	if knows == 0 {
		return 1, block
	}
	for n = len(blocks); n >= 2; n /= 2 {
		if block = blocks[n-1]; n >= knows && !d.unwritten.bars(block) {
			return n, block
		}
	}
	return 1, block
}

// groups reports whether a point can be written beside others.
func (d *device) groups(p *pointSpec) bool {
	return p.Writable && p.fn == ReadHoldingRegisters && p.mask() == nil && p.write != writeSingle
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
