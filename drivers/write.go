package drivers

import (
	"context"
	"errors"
	"fmt"
)

// carryOut writes and reads back. It says what became of it; err is that of a device
// that does not answer or, if lost is true, that must be opened again.
func (x *session) carryOut(ctx context.Context, c command, writes []pointWrite) (res result, lost bool, err error) {
	late := "" // a write that was not answered, and has been done
	for i, w := range writes {
		err := x.write(ctx, c, w)
		if err == nil {
			continue
		}
		if errors.Is(err, ErrLost) || errors.Is(err, ErrConfig) {
			return failed(writes[:i], err), true, err
		}
		if !errors.Is(err, ErrUncertain) {
			res, silent := failed(writes[:i], err), error(nil)
			if i > 0 { // what was written is news
				_, silent = x.readPublished(ctx, c, res.written)
			}
			return res, false, silent
		}
		held, silent := x.held(ctx, c, w)
		if same, _ := compare(w.raw, held.raw); silent != nil || !held.found || !same {
			res := failed(writes[:i], err)
			res.value = held.json()
			return res, false, silent
		}
		late = fmt.Sprintf("point %q: the write was not answered, but the device holds the value", w.point)
	}
	x.answered(ctx)
	res, err = x.readBack(ctx, c, writes)
	if late != "" && res.warning != "" {
		late += "; " + res.warning
	}
	if late != "" {
		res.warning = late
	}
	return res, false, err
}

// failed is the result of a command of which the last write failed.
func failed(before []pointWrite, err error) result {
	res := result{err: err.Error(), unknown: errors.Is(err, ErrUncertain)}
	for _, w := range before {
		res.written = append(res.written, w.point)
	}
	return res
}

// write writes one point. An error that leaves open whether it was written is an
// ErrUncertain.
func (x *session) write(ctx context.Context, c command, w pointWrite) error {
	if err := stillWanted(ctx, &c.msg); err != nil { // the writes before it took time
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, x.slot.host.opts.CallTimeout)
	defer cancel()
	err := x.writeDevice(bounded, w)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = fmt.Errorf("%w: %w", ErrUncertain, errClosing)
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUncertain):
		err = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	x.slot.count(func(n *Counters) {
		n.Writes++
		if err != nil {
			n.WriteErrors++
		}
	})
	if n, due := 0, false; err != nil {
		if n, due = x.slot.reports.due("write"); due {
			x.slot.log.Warn("point was not written", "point", w.point, "error", err, "count", n)
		}
	}
	return err
}

// writeDevice makes an error of a panic, so that the command gets its answer.
func (x *session) writeDevice(ctx context.Context, w pointWrite) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w", x.slot.panicked(p), ErrUncertain)
		}
	}()
	return x.dev.Write(ctx, w.point, w.raw)
}

// holding is what a point of the device holds.
type holding struct {
	found      bool
	raw, shown Value
	err        error // why it is not found, if that is known
}

func (h *holding) json() []byte {
	if !h.found {
		return nil
	}
	return h.shown.AppendJSON(nil)
}

// held reads one point and publishes it. The error is that of a device that does not
// answer.
func (x *session) held(ctx context.Context, c command, w pointWrite) (holding, error) {
	readings, err := x.readPublished(ctx, c, []string{w.point})
	return x.holds(readings, w.point), err
}

func (x *session) readPublished(ctx context.Context, c command, names []string) ([]Reading, error) {
	readings, err := x.read(ctx, names)
	x.slot.take(ctx, x.entry, readings, origin{command: true, hops: c.msg.Hops})
	return readings, err
}

// holds finds what was read of a point.
func (x *session) holds(readings []Reading, point string) (h holding) {
	for i := range readings {
		switch r := &readings[i]; {
		case r.Point != point:
		case r.Quality == Good:
			return holding{found: true, raw: r.Value, shown: x.entry.points[x.entry.index[point]].shown(r.Value)}
		default:
			h.err = r.Err
		}
	}
	return h
}

// readBack reads what was written, publishes it, and says what became of the
// command: the values that were read, or that were written where there is none. The
// error is that of the read.
func (x *session) readBack(ctx context.Context, c command, writes []pointWrite) (result, error) {
	names := make([]string, len(writes))
	for i, w := range writes {
		names[i] = w.point
	}
	readings, err := x.readPublished(ctx, c, names)

	res := result{}
	object := []byte{'{'}
	for _, w := range writes {
		v := w.value
		switch h := x.holds(readings, w.point); {
		case h.found:
			v = h.shown
			if same, known := compare(w.raw, h.raw); known && !same && res.warning == "" {
				res.warning = fmt.Sprintf("point %q: the device holds %s, not %s", w.point, v.short(), w.value.short())
			}
		case h.err != nil:
			res.warning = fmt.Sprintf("point %q cannot be read back: %v", w.point, h.err)
		}
		res.value = v.AppendJSON(nil)
		object = appendMember(object, w.point, v)
	}
	if c.point == "" {
		res.value = append(object, '}')
	}
	if err != nil {
		res.warning = fmt.Sprintf("it cannot be read back: %v", err)
	}
	return res, err
}

// compare says whether a device that was given one value and holds another has obeyed,
// where the two can be compared: 1 is true, and 21.50 is 21.5.
func compare(given, held Value) (same, known bool) {
	switch {
	case given.Equal(held):
		return true, true
	case held.IsNull():
		return false, true
	case given.Kind() == Bool || held.Kind() == Bool:
		a, ok := given.Bool()
		b, too := held.Bool()
		return a == b, ok && too
	case given.Kind() == Text && held.Kind() == Text:
		return false, true
	}
	a, b := rational(given), rational(held)
	if a == nil || b == nil {
		return false, false
	}
	if a.Cmp(b) == 0 {
		return true, true
	}
	x, _ := a.Float64()
	y, _ := b.Float64()
	return x == y, true
}
