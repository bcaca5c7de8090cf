package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// slot is the place of one device, from its first file to its last: one goroutine,
// and what the outside may see of it.
type slot struct {
	host   *Host
	bus    message.Bus
	name   string
	origin string
	log    *slog.Logger
	cmds   chan command // bounded by Options.Queue; full is answered "busy: ..."
	asks   chan ask     // bounded by maxAsks; likewise

	current *entry             // guarded by Host.mu; nil ends the slot
	stop    context.CancelFunc // guarded by Host.mu; ends the serving of current
	serving context.Context    // guarded by Host.mu; that of current, nil before the first

	reports   reports   // the slot's goroutine only
	tried     time.Time // when the device had been opened last, or could not be; likewise
	announced string    // what the status topic says, for statusTopic; likewise
	statusOf  string
	detailed  []byte // what the topic of its detail says
	props     properties
	spare     news // whose memory is free

	objectSize int // of the last object of points together

	mu    sync.Mutex
	state state
	dev   Device // that is open; nil is none
}

func newSlot(h *Host, bus message.Bus, name string) *slot {
	return &slot{
		host:    h,
		bus:     bus,
		name:    name,
		origin:  "device/" + name,
		log:     h.opts.Log.With("device", name),
		cmds:    make(chan command, h.opts.Queue),
		asks:    make(chan ask, maxAsks),
		stop:    func() {},
		reports: reports{every: h.opts.ReportEvery},
	}
}

// change gives the slot its file, nil for none. The caller holds Host.mu.
func (s *slot) change(e *entry) {
	if e == s.current {
		return
	}
	s.current = e
	s.stop()
}

// run serves one file after the other.
func (s *slot) run(ctx context.Context) {
	for {
		e, serving, cancel := s.host.next(ctx, s)
		if e == nil {
			s.refuseQueued(ctx)
			s.refuseAsks()
			return
		}
		s.begin(e)
		leave := func() { s.leave(ctx, e) }
		s.serve(serving, e, leave)
		cancel()
		leave()
		s.log.Info("device closed", "driver", e.driverName)
	}
}

// leave says that the device of a file is offline, unless the next one on its
// topic will speak for itself. It may be called again.
func (s *slot) leave(ctx context.Context, e *entry) {
	s.setOffline("closed")
	if ctx.Err() == nil && s.host.topicWanted(e.topic) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.fallen(ctx, e)
	s.announce(ctx, e, statusOffline)
}

// serve keeps the device of one file open until ctx ends; leave is called before it
// is closed then, which may take long.
func (s *slot) serve(ctx context.Context, e *entry, leave func()) {
	if e.driver == nil {
		s.down(ctx, e, fmt.Errorf("driver %q is not available (yet)", e.driverName))
		s.idle(ctx, 0)
		return
	}
	pause := backoff{first: s.host.opts.RetryFirst, most: s.host.opts.RetryMost}
	asked := false
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, e, asked, leave)
		if ctx.Err() != nil {
			return
		}
		s.down(ctx, e, err)
		if errors.Is(err, ErrConfig) {
			s.idle(ctx, 0)
			return
		}
		if time.Since(began) > pause.last {
			pause.reset()
		}
		before := pause
		var came bool
		switch came, asked = s.rest(ctx, e, pause.next(), err); {
		case came:
			pause.reset()
		case asked: // who asks does not make the pause longer
			pause = before
		}
	}
}

// idle refuses commands for so long; 0 is until ctx ends.
// It ends also as somebody asks for the device, if it was not tried just now, and says so;
// the question is answered when it has been tried again.
func (s *slot) idle(ctx context.Context, d time.Duration) (asked bool) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return false
		case c := <-s.cmds:
			s.refuse(ctx, c, "device is offline: "+s.reason())
		case a := <-s.asks:
			if a.abandoned() {
				continue
			}
			if d > 0 && time.Since(s.tried) >= askEvery {
				select {
				case s.asks <- a:
					return true
				default: // the place has been taken meanwhile
				}
			}
			a.done <- errors.New("it is offline: " + s.reason())
		}
	}
}

// session opens the device, perhaps because somebody asks for it, runs it, and closes it.
// It returns why it ended.
func (s *slot) session(ctx context.Context, e *entry, asked bool, leave func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(p)
		}
	}()
	dev, err := s.open(ctx, e, asked)
	if err != nil {
		return err
	}
	s.meter(dev)
	defer func() {
		if ctx.Err() != nil {
			leave()
		}
		s.hold(nil)
		s.close(dev)
		s.unmeter()
	}()
	s.hold(dev)
	x := &session{slot: s, entry: e, dev: dev, schedule: newSchedule(e.points, time.Now())}
	x.pause = backoff{first: s.host.opts.RetryFirst, most: s.host.opts.RetryMost}
	if p, ok := dev.(Pusher); ok {
		x.pushed = p.Pushed()
	}
	return x.run(ctx)
}

// panicked notes a panic of the driver and returns it as an error: the device is
// to be opened again.
func (s *slot) panicked(p any) error {
	s.count(func(c *Counters) { c.Panics++ })
	s.log.Error("device panicked", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("the driver panicked: %v: %w", p, ErrLost)
}

func (s *slot) open(ctx context.Context, e *entry, asked bool) (Device, error) {
	ctx, cancel := context.WithTimeout(ctx, s.host.opts.OpenTimeout)
	defer cancel()
	defer func() { s.tried = time.Now() }() // not as it began: it may take longer than askEvery
	s.count(func(c *Counters) { c.Opens++ })
	cfg := e.cfg
	cfg.Insist = asked
	dev, err := e.driver.Open(ctx, cfg)
	if err == nil && dev == nil {
		err = errors.New("the driver opened nothing")
	}
	return dev, err
}

// close gives the device back. A panic in it ends with it.
func (s *slot) close(dev Device) {
	defer func() {
		if p := recover(); p != nil {
			_ = s.panicked(p) // it is closed as far as it goes
		}
	}()
	if err := dev.Close(); err != nil {
		s.log.Warn("device was not closed well", "error", err)
	}
}

// session is one open device.
type session struct {
	slot     *slot
	entry    *entry
	dev      Device
	pushed   <-chan Pushed // nil if the device does not speak by itself
	schedule *schedule
	pause    backoff
	silent   bool      // the device does not answer
	insisted time.Time // last

	unconfirmed confirmations // commands that were asked back
	fed         *fed          // nil if the device shows no topics
}

// maxCommandsAhead is how many commands in a row go ahead of what else is due.
const maxCommandsAhead = 64

// run is the life of an open device: commands first, then polls and what it says.
func (x *session) run(ctx context.Context) error {
	if err := x.serving(ctx); err != nil {
		return err
	}
	if x.fed != nil {
		defer func() { _ = x.fed.end() }() // its error was heard while it mattered
	}
	if x.schedule.empty() {
		x.slot.up(ctx, x.entry)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	ahead := 0
	for ctx.Err() == nil {
		var err error
		select {
		case c := <-x.slot.cmds:
			if ahead++; ahead > maxCommandsAhead {
				ahead = 0
				err = x.overdue(ctx)
			}
			if err == nil {
				err = x.command(ctx, c)
			}
		default:
			ahead = 0
			err = x.next(ctx, timer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overdue does what commands have kept waiting.
func (x *session) overdue(ctx context.Context) error {
	for range len(x.pushed) {
		p, ok := <-x.pushed
		if err := x.hear(ctx, p, ok); err != nil {
			return err
		}
	}
	if at, ok := x.schedule.next(); ok && !at.After(time.Now()) {
		return x.poll(ctx)
	}
	return nil
}

// next waits for the next thing to do, and does it.
func (x *session) next(ctx context.Context, timer *time.Timer) error {
	if x.fed != nil {
		return x.nextFed(ctx, timer)
	}
	var poll <-chan time.Time
	if at, ok := x.schedule.next(); ok {
		timer.Reset(time.Until(at))
		poll = timer.C
	}
	select {
	case <-ctx.Done():
		return nil
	case c := <-x.slot.cmds:
		return x.command(ctx, c)
	case p, ok := <-x.pushed:
		return x.hear(ctx, p, ok)
	case a := <-x.slot.asks:
		return x.readNow(ctx, a)
	case <-poll:
		return x.poll(ctx)
	}
}

// nextFed is next for a device that shows topics.
func (x *session) nextFed(ctx context.Context, timer *time.Timer) error {
	var old <-chan time.Time
	if !x.fed.stale.IsZero() {
		timer.Reset(time.Until(x.fed.stale))
		old = timer.C
	}
	select {
	case <-ctx.Done():
		return nil
	case c := <-x.slot.cmds:
		return x.command(ctx, c)
	case a, ok := <-x.fed.asked:
		return x.obey(ctx, a, ok)
	case a := <-x.slot.asks:
		return x.readNow(ctx, a)
	case <-x.fed.wake:
		return x.refresh(ctx)
	case <-old:
		return x.refresh(ctx)
	}
}
