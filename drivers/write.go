package drivers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// carryOut writes and reads back. It says what became of it; err is that of a device
// that does not answer or, if lost is true, that must be opened again.
func (x *session) carryOut(ctx context.Context, c command, writes []pointWrite) (res result, lost bool, err error) {
	late := "" // a write that was not answered, and has been done
	for from, end := 0, 0; end < len(writes); {
		from = end
		n, err := x.write(ctx, c, writes[from:])
		end += n
		failed := func() result { return failed(c, writes, from, n, err) }
		if err == nil {
			continue
		}
		if errors.Is(err, ErrLost) || errors.Is(err, ErrConfig) {
			return failed(), true, err
		}
		if !errors.Is(err, ErrUncertain) {
			res, silent := failed(), error(nil)
			if len(res.written) > 0 { // what was written is news
				_, silent = x.readPublished(ctx, c, res.written)
			}
			return res, false, silent
		}
		held, obeyed, silent := x.held(ctx, c, writes[from:end])
		if silent != nil || !obeyed {
			res := failed()
			res.value = held
			return res, false, silent
		}
		late = fmt.Sprintf("%s: the write was not answered, but the device holds the value", listed(writes[from:end]))
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

// failed is the result of a command of which the write of n points failed, those behind
// the ones that were written.
func failed(c command, writes []pointWrite, written, n int, err error) result {
	res := result{err: err.Error(), unknown: errors.Is(err, ErrUncertain)}
	for i, w := range writes {
		switch {
		case i < written:
			res.written = append(res.written, w.point)
		case c.point == "":
			res.left = append(res.left, w.point)
		}
	}
	res.failed = min(n, len(res.left))
	return res
}

// listed names points, as errors do.
func listed(writes []pointWrite) string {
	if len(writes) == 1 {
		return fmt.Sprintf("point %q", writes[0].point)
	}
	names := make([]string, len(writes))
	for i, w := range writes {
		names[i] = strconv.Quote(w.point)
	}
	return "points " + strings.Join(names, ", ")
}

// write writes the first point, or as many from it on as the device takes at once, and
// says how many; 0 is that it was not tried. An error that leaves open whether they were written is an ErrUncertain.
func (x *session) write(ctx context.Context, c command, writes []pointWrite) (n int, err error) {
	if err := stillWanted(ctx, &c.msg); err != nil { // the writes before it took time
		return 0, err
	}
	bounded, cancel := context.WithTimeout(ctx, x.slot.host.opts.CallTimeout)
	defer cancel()
	n, err = x.writeDevice(bounded, writes)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = fmt.Errorf("%w: %w", ErrUncertain, errClosing)
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUncertain):
		err = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	x.slot.count(func(k *Counters) {
		k.Writes += uint64(n)
		if err != nil {
			k.WriteErrors += uint64(n)
		}
	})
	if err != nil {
		if times, due := x.slot.reports.due("write"); due {
			x.slot.log.Warn("point was not written", "point", writes[0].point, "error", brief(err), "count", times)
		}
	}
	return n, err
}

// writeDevice makes an error of a panic, so that the command gets its answer.
func (x *session) writeDevice(ctx context.Context, writes []pointWrite) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = 1, fmt.Errorf("%w: %w", x.slot.panicked(p), ErrUncertain)
		}
	}()
	group, ok := x.dev.(GroupWriter)
	if !ok || len(writes) == 1 {
		return 1, x.dev.Write(ctx, writes[0].point, writes[0].raw)
	}
	all := make([]PointWrite, len(writes))
	for i, w := range writes {
		all[i] = PointWrite{Point: w.point, Value: w.raw}
	}
	n, err = group.WriteGroup(ctx, all)
	return max(1, min(n, len(writes))), err
}

// holding is what a point of the device holds.
type holding struct {
	found      bool
	raw, shown Value
	err        error // why it is not found, if that is known
}

// held reads points and publishes them: what they hold as JSON, an object if they are
// several, and whether that is what was to be written. The error is that of a device that
// does not answer.
func (x *session) held(ctx context.Context, c command, writes []pointWrite) (value []byte, obeyed bool, err error) {
	names := make([]string, len(writes))
	for i, w := range writes {
		names[i] = w.point
	}
	readings, err := x.readPublished(ctx, c, names)
	obeyed = true
	object := []byte{'{'}
	for _, w := range writes {
		h := x.holds(readings, w.point)
		same := false
		if h.found {
			same, _ = compare(w.raw, h.raw)
			value, object = h.shown.AppendJSON(nil), appendMember(object, w.point, h.shown)
		}
		obeyed = obeyed && same
	}
	if len(writes) > 1 && value != nil {
		value = append(object, '}')
	}
	return value, obeyed, err
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
