package rules_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// untilTheEnd is the program waiting, whose timers take until the end of the engine.
func untilTheEnd() toyProgram {
	p := waiting("old")
	run := p.run
	p.run = func(ctx context.Context, src rules.Source, c rules.Call) rules.Outcome {
		if c.Trigger == rules.OnTimer {
			<-ctx.Done()
			return rules.Outcome{Err: ctx.Err()}
		}
		return run(ctx, src, c)
	}
	return p
}

// A run that the end of the engine cuts short is made again.
func TestARunThatIsCutShortIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old"), "slow": untilTheEnd(), "save": remembering()}, nil)
		l.start("a.toy", "slow", "b.toy", "save")
		l.house.publish(msg("set", "x"), msg("in", ""))
		wait(10*time.Minute + time.Second)
		l.house.stop() // while the timer's run is on its way
		l.start("a.toy", "p", "b.toy", "save")
		l.want("out", "1", `old x {"a":1} late 0s`)
		l.house.publish(msg("in", ""))
		l.want("out", "1", `old x {"a":1} late 0s`, "2") // what another file saves is kept
		l.house.stop()
	})
}

// What a program saves knows of no run that is made again.
func TestNothingIsSavedOfARunThatIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := remembering()
		run, whole := p.run, atomic.Bool{}
		p.rules[0].QoS = message.AtLeastOnce
		p.run = func(ctx context.Context, src rules.Source, c rules.Call) rules.Outcome {
			out := run(ctx, src, c)
			if c.Trigger == rules.OnMessage && !whole.Load() {
				<-ctx.Done()
			}
			return out
		}
		l := newLives(t, map[string]toyProgram{"p": p}, nil)
		l.start("a.toy", "p")
		l.house.publish(message.Message{Topic: "in", QoS: message.AtLeastOnce})
		synctest.Wait()
		l.house.stop()
		whole.Store(true)
		l.start("a.toy", "p")
		l.want("out", "1")
		l.house.stop()
	})
}

// lateKeeper is a keeper that says only afterwards that what it was to keep is not kept.
type lateKeeper struct {
	*keeper
	late atomic.Bool
}

func (k *lateKeeper) Keep(ctx context.Context, records []rules.Record) (func(context.Context) error, error) {
	if k.late.Load() {
		return func(context.Context) error { return errors.New("disk is full") }, nil
	}
	return k.keeper.Keep(ctx, records)
}

func TestWhatTurnsOutNotToBeKeptIsKeptLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &lateKeeper{keeper: &keeper{}}
		k.late.Store(true)
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.After)}}}})
		k.bus = h.bus
		h.load("a.toy", "p", "b.toy", "p")
		h.run()
		h.publish(msg("in", "")) // which both count
		wait(500 * time.Millisecond)
		h.publish(message.Message{Topic: "in", QoS: message.AtLeastOnce}) // which is committed, meanwhile
		wait(5 * time.Second)
		k.lines()
		h.publish(msg("in", ""))
		wait(2 * time.Second)
		if got := k.lines(); len(got) != 0 {
			t.Errorf("kept %q", got)
		}
		k.late.Store(false)
		wait(2 * time.Second)
		if diff := cmp.Diff([]string{"state/a.toy/n=3 state/b.toy/n=3"}, k.lines()); diff != "" {
			t.Error(diff)
		}
		wait(time.Minute)
		if got := k.lines(); len(got) != 0 {
			t.Errorf("kept again: %q", got)
		}
		h.stop()
	})
}

// right sets the clock.
func (c *offClock) right() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = true
}

// Each lane sees to its own timers when the clock is set.
func TestTwoLanguagesWhenTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old")}, nil)
		l.opts.Languages = append(l.opts.Languages, &toy{name: "tin", ending: ".tin", programs: map[string]toyProgram{"p": waiting("tin")}})
		l.start("a.toy", "p", "b.tin", "p")
		l.house.publish(msg("set", "x"))
		synctest.Wait()
		l.cut()
		clock := &offClock{began: time.Now()}
		l.opts.Clock = clock
		l.start("a.toy", "p", "b.tin", "p")
		wait(time.Second)
		l.keep.lines()
		clock.right()
		wait(2 * time.Minute)
		lines := l.keep.lines()
		if all := strings.Join(lines, " "); strings.Count(all, "timer/a.toy/") != 1 || strings.Count(all, "timer/b.tin/") != 1 {
			t.Errorf("kept %q, want each timer once", lines)
		}
		wait(8 * time.Minute)
		if got := l.house.payloads("out"); len(got) != 2 {
			t.Errorf("got %q", got)
		}
		l.house.stop()
	})
}

// briefBus ends the context of a delivery with it.
type briefBus struct{ message.Bus }

func (b briefBus) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	return b.Bus.Subscribe(ctx, sub, func(ctx context.Context, msgs []message.Message) error {
		brief, cancel := context.WithCancel(ctx)
		defer cancel()
		return h(brief, msgs)
	})
}

func TestARequestOutlivesTheDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, rules.Options{
			Fetcher: &fetcher{reply: func(ctx context.Context, _ *rules.Request, _ int) (*rules.Reply, error) {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(time.Second):
					return &rules.Reply{Status: 200}, nil
				}
			}},
			Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": asking()}}},
		})
		h.load("a.toy", "p")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.engine.Run(ctx, briefBus{h.bus}) }()
		<-h.engine.Ready()
		h.publish(msg("ask", "url"))
		wait(2 * time.Second)
		if got := h.payloads("out"); len(got) != 1 || got[0] != "url 7 200  " {
			t.Errorf("got %q", got)
		}
		cancel()
		if err := errors.Join(<-ended, h.engine.Close()); err != nil {
			t.Error(err)
		}
	})
}
