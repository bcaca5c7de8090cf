package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Read implements drivers.Device. While values do not change it allocates a little for
// each request, and nothing for a point.
func (d *device) Read(ctx context.Context, names []string) ([]drivers.Reading, error) {
	defer d.relent()
	d.revive()
	due, err := d.due(names)
	if err != nil || len(due) == 0 {
		return nil, err
	}
	r := &d.reading
	r.begin(d)
	for _, b := range d.lastMuted(d.blocks(due)) {
		if _, err = r.block(ctx, b); err == nil {
			continue
		}
		if ctx.Err() != nil || errors.Is(err, drivers.ErrLost) {
			return r.out, err
		}
		r.failed = err
		if errors.Is(err, errDead) {
			break
		}
		if errors.Is(err, errSilent) {
			r.silent = append(r.silent, b)
		}
	}
	r.scale()
	if len(r.out) == 0 {
		return nil, r.failed
	}
	r.remember()
	return r.out, nil
}

// relent ends what Insist began: that was for one Read, which may not have come to ask.
func (d *device) relent() { d.early = false }

// due finds the spans of the points and of what scales them, and leaves out those that
// the device keeps silent about.
func (d *device) due(names []string) ([]int, error) {
	due := d.dueNow[:0]
	clear(d.isDue)
	now := time.Now()
	for _, name := range names {
		i, ok := d.index[name]
		if !ok {
			return nil, fmt.Errorf("%w: %q", errNoPoint, name)
		}
		f := d.factors[i]
		if now.Before(d.mutes[i].until) || f > 0 && now.Before(d.mutes[f].until) {
			continue
		}
		due = append(due, i)
		if f > 0 && !d.isDue[f] {
			due, d.isDue[f] = append(due, f), true
		}
	}
	d.dueNow = due
	return due, nil
}

// revive forgets what the unit refused and kept silent about before it was dead: it may
// have been restarted, with other registers.
func (d *device) revive() {
	if n := d.condition().revivals; n != d.revivals {
		d.revivals = n
		d.refused.clear()
		d.unwritten.clear()
		d.ungrouped = time.Time{}
		clear(d.mutes)
	}
}

// lastMuted puts the blocks last that the unit did not answer for the last time, so
// that they do not keep the rest from being read.
func (d *device) lastMuted(blocks []block) []block {
	muted := func(b block) bool {
		for _, i := range b.points {
			if d.mutes[i].times > 0 {
				return true
			}
		}
		return false
	}
	if !slices.ContainsFunc(blocks, muted) {
		return blocks
	}
	ordered := make([]block, 0, len(blocks))
	for _, last := range []bool{false, true} {
		for _, b := range blocks {
			if muted(b) == last {
				ordered = append(ordered, b)
			}
		}
	}
	return ordered
}

// cost is what a request and a register cost on the device's line.
func (d *device) cost() cost { return d.spec.cost(d.condition().latency) }

func (s *deviceSpec) cost(latency time.Duration) cost {
	if !s.line() {
		return cost{request: latency + tcpRequestCost, item: tcpItemCost}
	}
	t := s.known()
	char := t.serial.char()
	return cost{request: requestChars*char + t.serial.RS485.DelayBefore + t.gap() + latency, item: 2 * char}
}

// known is what leads to the device, with what its file tells of the line behind a stream.
func (s *deviceSpec) known() transport {
	t := s.transport
	if s.behind != nil {
		t.serial = *s.behind
	}
	return t
}

// reading is one Read under way.
type reading struct {
	*device
	out     []drivers.Reading
	factors []factor
	waiting []unscaled
	silent  []block // the unit gave no answer for
	failed  error
}

// begin starts a Read in the memory of the one before.
func (r *reading) begin(d *device) {
	*r = reading{device: d, out: r.out[:0], factors: r.factors[:0], waiting: r.waiting[:0], silent: r.silent[:0]}
	for range len(d.spans) - len(d.points) {
		r.factors = append(r.factors, factor{})
	}
}

// block reads a block; one that the unit refuses, or answers with less than was asked,
// is split until only the points to blame are left. Whole is that it refused nothing; an
// error means that there was no answer.
func (r *reading) block(ctx context.Context, b block) (whole bool, err error) {
	got, from, err := r.fetch(ctx, b.span, readAttempts)
	switch {
	case err == nil:
		r.refused.forgive(from)
		r.judge(b, got, from)
		return true, nil
	case errors.Is(err, errMisfit) && len(b.points) == 1 && !r.mutes[b.points[0]].misfit:
		r.mutes[b.points[0]].misfit = true // it is bad if that was not an accident
		r.refused.add(b.span, refusalTime)
		return false, nil
	case !isRefusal(err) && !errors.Is(err, errMisfit):
		return false, err
	}
	if splits(err) {
		r.refused.add(b.span, refusalTime)
	}
	if len(b.points) == 1 || !splits(err) {
		r.refuse(b, err)
		if m := &r.mutes[b.points[0]]; errors.Is(err, errMisfit) {
			m.misfit = true
			if r.bus.rtu { // each costs the line a time-out
				m.until = time.Now().Add(muteTime)
			}
		}
		return false, nil
	}
	first, second := b.halve(r.spans)
	whole = true
	for _, half := range []block{first, second} {
		ok, err := r.block(ctx, half)
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	if whole {
		// Each half is good: what is between them is to blame, or the length.
		r.refused.add(r.seam(first, second), refusalTime)
	}
	return false, nil
}

// splits reports whether a part of the block may be granted.
func splits(err error) bool {
	var e Exception
	return errors.Is(err, errMisfit) || errors.As(err, &e) && (e.Code == IllegalAddress || e.Code == IllegalValue || e.Code == DeviceFailure)
}

// judge makes readings of what a block holds.
func (r *reading) judge(b block, got reply, from span) {
	var bit [1]byte
	for _, i := range b.points {
		r.mutes[i] = mute{}
		wire := r.spans[i].cut(got.data, from, &bit)
		switch {
		case i >= len(r.points):
			r.factors[i-len(r.points)] = factorOf(wire)
		case r.device.factors[i] > 0:
			r.waiting = append(r.waiting, unscaled{point: i, wire: wire, at: got.at})
		default:
			r.tell(i, wire, 0, got.at)
		}
	}
}

// tell adds the reading of a point.
func (r *reading) tell(i int, wire []byte, exponent int, at time.Time) {
	p := &r.spec.points[i]
	read := drivers.Reading{Point: p.Name, At: at}
	if read.Value, read.Err = r.memos[i].decode(&p.codec, wire, exponent); read.Err != nil {
		read.Quality = drivers.Bad
	}
	r.out = append(r.out, read)
}

// cut takes the bytes of s out of what was read for from. Those of a bit are in bit.
func (s span) cut(data []byte, from span, bit *[1]byte) []byte {
	at := int(s.addr) - int(from.addr)
	if s.fn.bits() {
		bit[0] = data[at/8] >> (at % 8) & 1
		return bit[:]
	}
	return data[2*at : 2*(at+int(s.count))]
}

// refuse makes bad readings of a block's points.
func (r *reading) refuse(b block, err error) {
	now := time.Now()
	for _, i := range b.points {
		r.mutes[i] = mute{}
		if i >= len(r.points) {
			r.factors[i-len(r.points)] = factor{known: true, err: fmt.Errorf("cannot read the scale factor: %w", err)}
			continue
		}
		r.out = append(r.out, drivers.Reading{Point: r.points[i].Name, Quality: drivers.Bad, At: now, Err: err})
	}
}

// remember notes what the unit kept silent about while it answered for the rest: a
// block is split in two the next time, a point is left out after a while.
func (r *reading) remember() {
	for _, b := range r.silent {
		if len(b.points) > 1 {
			r.refused.add(r.seam(b.halve(r.spans)), refusalTime)
		} else {
			r.refused.add(b.span, refusalTime)
		}
		for _, i := range b.points {
			m := &r.mutes[i]
			if m.times++; len(b.points) == 1 && m.times >= mutesToSkip {
				m.until = time.Now().Add(muteTime)
			}
		}
	}
}

// seam is the span that must not be read at once to keep two blocks apart.
func (d *device) seam(first, second block) span {
	return d.spans[first.points[len(first.points)-1]].hull(d.spans[second.points[0]])
}
