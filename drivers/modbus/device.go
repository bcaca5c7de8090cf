package modbus

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// readAttempts is how often a read is tried that gets no valid answer. A write
	// is tried once: it may have been done.
	readAttempts = 2
	// exceptionTries is how often a read is tried until an exception that is new
	// came twice, the second time without anything odd.
	exceptionTries = 4
	// mutesToSkip is how often in a row a device may not answer for a point, while
	// it does for others, before the point is left out for muteTime.
	mutesToSkip = 3
	// tcpItemCost is a guess at what a register costs behind TCP.
	tcpItemCost = 100 * time.Microsecond
	// tcpRequestCost is added to the latency that is measured.
	tcpRequestCost = time.Millisecond
	// requestChars is what a request takes on a serial line beside its registers.
	requestChars = 20
)

var (
	errNoPoint  = errors.New("no such point")
	errReadOnly = errors.New("the point cannot be written")
)

// device is one unit. It implements drivers.Device; one goroutine calls it.
type device struct {
	*watched
	*counters
	spec     *deviceSpec
	bus      *bus
	points   []drivers.Point
	index    map[string]int
	spans    []span // of the points, and behind them of the factors
	factors  []int  // by point: the index of its factor's span; 0 is none
	mutes    []mute // by span
	memos    []memo // by point
	refused  refusals
	plans    plans
	dueNow   []int             // the spans that are read
	isDue    []bool            // by span, while they are found
	reading  reading           // under way, or the last
	revivals int               // of the unit, as far as they are taken into account
	multiple map[Function]bool // single and mask writes that the unit does not know
	closed   bool
	early    bool // the next request is made though the unit counts as dead

	severally bool      // the unit is known to take function 16
	ungrouped time.Time // until when it counts as not knowing it
	unwritten refusals  // blocks that it does not take by one request of it
}

// mute is a point that the device does not answer for.
type mute struct {
	times  int
	until  time.Time
	misfit bool // what came for it alone the last time was an answer to something else
}

func newDevice(spec *deviceSpec, b *bus) *device {
	d := &device{
		watched:  &watched{bus: b, wire: spec.watch(spec.unit, spec.timeout)},
		counters: &counters{},
		spec:     spec, bus: b, points: pointsOf(spec.points),
		index:    make(map[string]int, len(spec.points)),
		spans:    make([]span, len(spec.points)),
		factors:  make([]int, len(spec.points)),
		memos:    make([]memo, len(spec.points)),
		refused:  refusals{now: time.Now},
		multiple: map[Function]bool{},

		unwritten: refusals{now: time.Now},
	}
	known := map[span]int{}
	for i := range spec.points {
		p := &spec.points[i]
		d.index[p.Name], d.spans[i] = i, p.span
		if p.factor == nil {
			continue
		}
		at, ok := known[*p.factor]
		if !ok {
			at = len(d.spans)
			d.spans = append(d.spans, *p.factor)
			known[*p.factor] = at
		}
		d.factors[i] = at
	}
	d.mutes, d.revivals = make([]mute, len(d.spans)), d.condition().revivals
	d.isDue = make([]bool, len(d.spans))
	return d
}

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point { return d.points }

// Close implements drivers.Device.
func (d *device) Close() error {
	if !d.closed {
		d.closed = true
		d.unwatch()
		d.bus.release()
	}
	return nil
}

// Insist implements drivers.Insister.
func (d *device) Insist() { d.early = true }

// probe asks the unit for a point, and for another one if it does not answer.
func (d *device) probe(ctx context.Context) error {
	_, _, err := d.fetch(ctx, d.spans[0], 1)
	if errors.Is(err, errSilent) || errors.Is(err, errGarbled) {
		_, _, err = d.fetch(ctx, d.spans[len(d.spans)-1], 1)
	}
	if isRefusal(err) || errors.Is(err, errMisfit) { // it is there
		return nil
	}
	return err
}

// isUndone reports whether an answer says that a write was not done. One that is
// acknowledged is under way.
func isUndone(err error) bool {
	var e Exception
	return isRefusal(err) && errors.As(err, &e) && e.Code != Acknowledge
}

// isRefusal reports whether the unit itself answered with an exception.
func isRefusal(err error) bool {
	var e Exception
	return errors.As(err, &e) && !e.unreached()
}
