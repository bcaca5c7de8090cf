package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/rules"
)

// Options say what a [World] is made of.
type Options struct {
	// Engine is what engines are made of; its Clock, Keeper, Fetcher and Funcs are the world's. Its
	// Languages must run while the world does: see [Shared].
	Engine rules.Options
	// Folder is the folder of rules. Required.
	Folder fs.FS
	// Start is what the wall clock says at first, with the zone of the rules' schedules
	// if Engine.Zone is nil. The zero time is [DefaultStart].
	Start time.Time
	// Retained is what is retained when the trial begins.
	Retained []message.Message
	// Observe, if not nil, is told of every run of a rule. It is called by several
	// goroutines.
	Observe func(rules.Ran)
	// Ended, if not nil, is called with what an engine has to tell about its rules before
	// it ends: when the trial does, and at each restart.
	Ended func([]rules.FileStatus)

	ran func(*World, rules.Ran)
}

// DefaultStart is when a trial starts if nothing else is said: a Monday at noon.
var DefaultStart = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// Origin is who publishes what a trial publishes.
const Origin = "client/test"

// World is a gateway of rules only, in virtual time. It is made by [Run], and its
// methods are called by one goroutine.
type World struct {
	opt    Options
	clock  *Clock
	bus    *Bus
	keeper *Keeper
	web    fetcher
	funcs  funcs
	seen   []bool // by place among the messages that were routed
	now    *engine
}

// engine is one life of the gateway.
type engine struct {
	*rules.Engine
	keeping *keeping
	cancel  context.CancelFunc
	ended   chan error
}

// Run makes a world, loads the rules, and calls play when they have come to rest. It
// returns play's error, or why there is no world: among others what Engine.Load says of
// a file that is broken.
func Run(ctx context.Context, opt Options, play func(context.Context, *World) error) (err error) {
	if opt.Start.IsZero() {
		opt.Start = DefaultStart
	}
	if opt.Engine.Zone == nil {
		opt.Engine.Zone = opt.Start.Location()
	}
	clock, err := NewClock(opt.Start.In(opt.Engine.Zone))
	if err != nil {
		return err
	}
	w := &World{opt: opt, clock: clock, bus: &Bus{Now: clock.Now}}
	for _, m := range opt.Retained {
		m.Retain = true
		w.bus.route(m)
	}
	w.drain()
	w.keeper = NewKeeper(w.bus)
	if err := w.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	return play(ctx, w)
}

// start begins a life of the gateway.
func (w *World) start(ctx context.Context) error {
	opt := w.opt.Engine
	life := &engine{keeping: &keeping{Keeper: w.keeper}, ended: make(chan error, 1)}
	opt.Clock, opt.Keeper, opt.Fetcher, opt.Limits.Explained = w.clock, life.keeping, &w.web, -1
	opt.Funcs = &w.funcs
	var err error
	if life.Engine, err = rules.New(opt); err != nil {
		return err
	}
	if w.opt.ran != nil || w.opt.Observe != nil {
		life.Tell(w.ran)
	}
	if err := life.Load(ctx, w.opt.Folder); err != nil {
		return errors.Join(err, life.Close())
	}
	w.bus.Interceptor = life.Engine
	running, cancel := context.WithCancel(ctx)
	life.cancel = cancel
	go func() { life.ended <- life.Run(running, w.bus) }()
	w.now = life
	select {
	case <-life.Ready():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), w.stop())
	}
	if err := w.settle(ctx); err != nil {
		return errors.Join(err, w.stop())
	}
	return nil
}

// ran tells of a run.
func (w *World) ran(r rules.Ran) {
	if w.opt.ran != nil {
		w.opt.ran(w, r)
	}
	if w.opt.Observe != nil {
		w.opt.Observe(r)
	}
}

// stop cuts the power.
func (w *World) stop() error {
	life := w.now
	if life == nil {
		return nil
	}
	if w.opt.Ended != nil {
		w.opt.Ended(life.Status())
	}
	life.keeping.stop()
	life.cancel()
	w.now = nil
	err := <-life.ended
	w.bus.Interceptor = nil
	return errors.Join(err, life.Close())
}

// settle returns when nothing moves any more.
func (w *World) settle(ctx context.Context) error {
	for {
		before, err := w.bus.quiet(ctx)
		if err != nil {
			return err
		}
		if err := w.now.Settle(ctx); err != nil {
			return err
		}
		if after, err := w.bus.quiet(ctx); err != nil || after == before {
			return err
		}
	}
}

// Now is what the wall clock says.
func (w *World) Now() time.Time { return w.clock.Now().Round(0) }

// Status tells how the rules are; see rules.Engine.Status.
func (w *World) Status() []rules.FileStatus { return w.now.Status() }

// Publish publishes as a client would, and returns the filters' verdict. A message that
// is rejected is no error; one that no client could publish is.
func (w *World) Publish(ctx context.Context, m message.Message) (message.Verdict, error) {
	if m.Origin == "" {
		m.Origin = Origin
	}
	if !topic.ValidName(m.Topic) {
		return message.Verdict{}, fmt.Errorf("%q is not a topic name", m.Topic)
	}
	v, at, err := w.bus.post(ctx, m)
	if err != nil && v.Action != message.Reject {
		return v, err
	}
	if at >= 0 && v.Action == message.Pass {
		w.see(at)
	}
	return v, w.settle(ctx)
}

// Hook calls a webhook of the rules, as somebody would who has its token.
func (w *World) Hook(ctx context.Context, name string, m message.Message) error {
	if err := w.now.Hook(ctx, name, m); err != nil {
		return err
	}
	return w.settle(ctx)
}

// Advance lets time go by, up to 100 years: from one due time to the next, each of which
// comes to rest before the next one is gone to.
func (w *World) Advance(ctx context.Context, d time.Duration) error {
	return w.advance(ctx, d, func(...string) error { return nil })
}

// advance lets time go by and calls each whenever all has come to rest.
func (w *World) advance(ctx context.Context, d time.Duration, each func(...string) error) error {
	for {
		moved, err := w.clock.step(d)
		if err != nil {
			return err
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
		if d -= moved; d <= 0 {
			return nil
		}
	}
}

// Set sets the wall clock while everything goes on.
func (w *World) Set(ctx context.Context, wall time.Time) error {
	if err := w.clock.Set(wall.In(w.opt.Engine.Zone)); err != nil {
		return err
	}
	return w.settle(ctx)
}

// Restart cuts the power, and has the gateway start again after so long, with what the
// wall clock says then or, if that is the zero time, what it should say.
func (w *World) Restart(ctx context.Context, down time.Duration, wall time.Time) error {
	if err := w.stop(); err != nil {
		return err
	}
	if err := w.clock.skip(down); err != nil {
		return err
	}
	if !wall.IsZero() {
		if err := w.clock.Set(wall.In(w.opt.Engine.Zone)); err != nil {
			return err
		}
	}
	return w.start(ctx)
}

// see marks a message as seen.
func (w *World) see(at int) {
	for len(w.seen) <= at {
		w.seen = append(w.seen, false)
	}
	w.seen[at] = true
}

// Unseen returns the messages on a filter that rules have published, or changed, and
// that were not taken, and a function that takes the first n of them. What was published
// on topics that begin with $ is seen by a filter that does, too.
func (w *World) Unseen(filter string) (msgs []message.Message, take func(n int)) {
	var places []int
	for at, m := range w.bus.since(0) {
		if (at >= len(w.seen) || !w.seen[at]) && topic.Match(filter, m.Topic) {
			msgs, places = append(msgs, m), append(places, at)
		}
	}
	return msgs, func(n int) {
		for _, at := range places[:n] {
			w.see(at)
		}
	}
}

// drain is what rules have published, or changed, since it was last called; what was
// published before is forgotten. What the engine says of itself is left out.
func (w *World) drain() []message.Message {
	var msgs []message.Message
	for at, m := range w.bus.forget() {
		if (at >= len(w.seen) || !w.seen[at]) && !strings.HasPrefix(m.Topic, "$SYS/") {
			msgs = append(msgs, m)
		}
	}
	w.seen = w.seen[:0]
	return msgs
}
