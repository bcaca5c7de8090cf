package drivers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// writeExpires is after how long what a foreign client wrote is not obeyed any more.
const writeExpires = 30 * time.Second

// errFieldless says that no point can show a payload as a whole.
var errFieldless = errors.New("the payload is an object or a list: the key \"field\" says which member of an object is meant")

// fed is what a session has of a device that shows topics.
type fed struct {
	server Server
	asked  <-chan Asked
	points map[string][]int // by topic
	stale  time.Time        // when a value next grows too old; zero is never
	end    func() error     // ends the subscription

	wake chan struct{} // capacity 1
	mu   sync.Mutex
	news map[int]Reading // what was heard and is not shown yet, by point
	err  error           // why the subscription ended
}

// serving makes x the session of a device that shows topics, if it is one.
func (x *session) serving(ctx context.Context) error {
	server, ok := x.dev.(Server)
	for _, pt := range x.entry.points {
		if (pt.Feed.Topic != "") != ok {
			return fmt.Errorf("the driver and its point %q do not agree on whether it shows a topic: %w", pt.Name, ErrConfig)
		}
	}
	if !ok {
		return nil
	}
	f := &fed{server: server, asked: server.Asked(), points: make(map[string][]int), wake: make(chan struct{}, 1), news: make(map[int]Reading)}
	first := make([]Reading, len(x.entry.points))
	var filters []string
	for i, pt := range x.entry.points {
		if f.points[pt.Feed.Topic] == nil {
			filters = append(filters, pt.Feed.Topic)
		}
		f.points[pt.Feed.Topic] = append(f.points[pt.Feed.Topic], i)
		first[i] = Reading{Point: pt.Name, Quality: Bad, At: time.Now(), Err: fmt.Errorf("nothing was heard on %q yet", pt.Feed.Topic)}
	}
	if err := x.show(ctx, f, first); err != nil {
		return err
	}
	x.fed = f
	f.end = x.slot.listen(ctx, x.entry, f, filters)
	return nil
}

// listen hears the topics until ctx ends or the function that it returns is called.
func (s *slot) listen(ctx context.Context, e *entry, f *fed, filters []string) func() error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := s.bus.Subscribe(ctx, message.Subscription{
			Name: s.origin, Filters: filters, QoS: message.AtLeastOnce, Retained: true,
		}, func(_ context.Context, batch []message.Message) error {
			for i := range batch {
				f.hear(e, &batch[i])
			}
			return nil
		})
		if ctx.Err() == nil {
			f.ended(fmt.Errorf("cannot hear the topics: %w: %w", cmpError(err), ErrLost))
		}
		done <- err
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// hear keeps what a message says of the points that show its topic.
func (f *fed) hear(e *entry, m *message.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.points[m.Topic] {
		f.news[i] = fedReading(&e.points[i], m)
	}
	f.nudge()
}

func (f *fed) ended(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.nudge()
}

// nudge wakes the session.
func (f *fed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what was heard since.
func (f *fed) take(e *entry) ([]Reading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	readings := make([]Reading, 0, len(f.news))
	for i := range e.points {
		if r, ok := f.news[i]; ok {
			readings = append(readings, r)
		}
	}
	clear(f.news)
	return readings, f.err
}

// refresh shows what was heard, and that values have grown too old.
func (x *session) refresh(ctx context.Context) error {
	f := x.fed
	readings, err := f.take(x.entry)
	if err == nil {
		err = x.show(ctx, f, readings)
	}
	if err == nil {
		err = x.show(ctx, f, x.slot.grownOld(x.entry, time.Now()))
	}
	f.stale = x.slot.nextOld(x.entry)
	if err == nil {
		x.slot.up(ctx, x.entry)
	}
	return err
}

// show notes values of topics and hands them to the device, as that knows them.
func (x *session) show(ctx context.Context, f *fed, readings []Reading) error {
	if len(readings) == 0 {
		return nil
	}
	x.slot.rawFed(x.entry, readings)
	if server, ok := f.server.(Fitter); ok {
		for i := range readings {
			r := &readings[i]
			if r.Quality == Bad {
				continue
			}
			if err := server.Fits(r.Point, r.Value); err != nil {
				r.Value, r.Quality, r.Err = Value{}, Bad, err
			}
		}
	}
	x.slot.noteFed(x.entry, readings)
	ctx, cancel := context.WithTimeout(ctx, x.slot.host.opts.CallTimeout)
	defer cancel()
	if err := x.feedDevice(ctx, f, readings); err != nil {
		return fmt.Errorf("%w: %w", err, ErrLost)
	}
	return nil
}

// feedDevice makes an error of a panic.
func (x *session) feedDevice(ctx context.Context, f *fed, readings []Reading) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = x.slot.panicked(p)
		}
	}()
	return f.server.Feed(ctx, readings)
}

// rawFed makes values of topics those that the device knows: the number of a name; of a
// value that cannot be, a bad reading.
func (s *slot) rawFed(e *entry, readings []Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		pt, p := &e.points[e.index[r.Point]], &s.state.points[e.index[r.Point]]
		if r.Quality != Bad {
			v, err := pt.raw(r.Value, func() (Value, error) { return IntValue(p.bitsNow()), nil })
			if err == nil && v.Kind() == JSON {
				err = errFieldless
			}
			if r.Value = v; err != nil {
				r.Value, r.Quality, r.Err = Value{}, Bad, err
			}
		}
	}
}

// noteFed keeps values of topics. Of one that is bad the last one before it stays.
func (s *slot) noteFed(e *entry, readings []Reading) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.counters.Reads++
	for i := range readings {
		at := e.index[readings[i].Point]
		s.keep(&e.points[at], &s.state.points[at], &readings[i], now)
	}
}

// bitsNow is what the point was as a number, 0 if nothing.
func (p *pointState) bitsNow() int64 {
	n, _ := p.raw.bits()
	return int64(n)
}

// grownOld notes and returns the values that are older than their feed allows.
func (s *slot) grownOld(e *entry, now time.Time) (readings []Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.state.points {
		pt, p := &e.points[i], &s.state.points[i]
		if at := p.old(pt); !at.IsZero() && !now.Before(at) {
			readings = append(readings, Reading{Point: pt.Name, Value: p.value, Quality: Stale, At: p.at})
		}
	}
	return readings
}

// nextOld is when a value next grows too old; zero is never.
func (s *slot) nextOld(e *entry) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.state.points {
		if at := s.state.points[i].old(&e.points[i]); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// old is when a value that is good grows too old; zero is never.
func (p *pointState) old(pt *Point) time.Time {
	if pt.Feed.MaxAge == 0 || p.quality != Good || !p.known {
		return time.Time{}
	}
	return p.at.Add(pt.Feed.MaxAge)
}

// obey publishes what a foreign client wrote and tells it what became of that.
func (x *session) obey(ctx context.Context, a Asked, ok bool) error {
	if !ok {
		return fmt.Errorf("the device ended: %w", ErrLost)
	}
	msgs, err := x.asked(a.Writes)
	if err == nil {
		err = x.slot.bus.Publish(ctx, msgs...)
	}
	x.slot.count(func(c *Counters) {
		c.Writes++
		if err != nil {
			c.WriteErrors++
		}
	})
	if a.Done != nil {
		a.Done(err)
	}
	if err != nil {
		if n, due := x.slot.reports.due("asked"); due {
			x.slot.log.Warn("a foreign client's write was refused", "error", brief(err), "count", n)
		}
		return nil
	}
	for i := range msgs { // they do not come back to who published them
		x.fed.hear(x.entry, &msgs[i])
	}
	return nil
}

// asked makes messages of what a foreign client wrote, or says what it must not.
func (x *session) asked(writes []Written) ([]message.Message, error) {
	msgs := make([]message.Message, 0, len(writes))
	for _, w := range writes {
		i, known := x.entry.index[w.Point]
		if !known {
			return nil, fmt.Errorf("there is no point %q", w.Point)
		}
		pt := &x.entry.points[i]
		switch {
		case pt.Feed.Set == "":
			return nil, fmt.Errorf("point %q is not writable", w.Point)
		case pt.Confirm:
			return nil, fmt.Errorf("point %q needs a confirmation, which cannot be given here", w.Point)
		case len(pt.Names) > 0:
			if _, err := pt.Names.value(w.Value); err != nil {
				return nil, fmt.Errorf("point %q: %w", w.Point, err)
			}
		}
		if err := pt.Permits(w.Value); err != nil {
			return nil, err
		}
		m := x.slot.retained(pt.Feed.Set, pt.shown(w.Value).AppendJSON(nil), origin{})
		m.At = time.Now()
		if m.Retain = pt.Feed.Set == pt.Feed.Topic; !m.Retain {
			m.Expires = m.At.Add(writeExpires)
		}
		msgs = append(msgs, m)
	}
	if len(msgs) == 0 {
		return nil, errors.New("there is nothing to write")
	}
	return msgs, nil
}
