package rules_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/schedule"
)

// setClock is a wall clock that can be set; waiting is by the bubble's clock.
type setClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *setClock) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += by
}

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *setClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// timed is a program of one rule that publishes what it is due by.
func timed(rule rules.Rule) toyProgram {
	rule.Name, rule.Line = "timed", 1
	return toyProgram{rules: []rules.Rule{rule}, run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
		if call.Trigger != rules.OnSchedule {
			return rules.Outcome{}
		}
		return publish("out", call.Schedule)
	}}
}

func by(s rules.Schedule, err error) rules.Rule {
	if err != nil {
		panic(err)
	}
	return rules.Rule{Schedules: []rules.Schedule{s}}
}

// scheduled runs a folder of one file in a bubble, whose time begins at midnight.
func scheduled(t *testing.T, program toyProgram, do func(h *house, clock *setClock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		clock := &setClock{}
		h := newHouse(t, rules.Options{Clock: clock, Zone: time.UTC, Languages: []rules.Language{
			&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": program, "other": echo("x", "y")}},
		}})
		h.load("a.toy", "p")
		h.run()
		synctest.Wait()
		do(h, clock)
		h.stop()
	})
}

func TestSchedules(t *testing.T) {
	daily := by(schedule.At("07:30", time.UTC))
	t.Run("every ten seconds", func(t *testing.T) {
		scheduled(t, timed(by(schedule.Every("10s"))), func(h *house, _ *setClock) {
			wait(65 * time.Second)
			h.load("a.toy", "p", "b.toy", "other") // an unchanged file keeps its times
			wait(10 * time.Second)
			if got := h.payloads("out"); len(got) != 7 || got[0] != "every 10s" {
				t.Errorf("got %q", got)
			}
			if s := h.status("a.toy"); s.Counters.Fired != 7 || s.Trace[0].Trigger != "every 10s" || s.Trace[0].Topic != "" {
				t.Errorf("got %+v", s)
			}
		})
	})
	t.Run("once a day", func(t *testing.T) {
		scheduled(t, timed(daily), func(h *house, _ *setClock) {
			wait(7*time.Hour + 29*time.Minute)
			if got := h.payloads("out"); len(got) != 0 {
				t.Errorf("too early: %q", got)
			}
			wait(2 * time.Minute)
			wait(48 * time.Hour)
			if got := h.payloads("out"); len(got) != 3 || got[0] != "at 07:30" {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a clock that starts in 1970 causes no storm", func(t *testing.T) {
		scheduled(t, timed(by(schedule.Cron("*/5 * * * *", time.UTC))), func(h *house, clock *setClock) {
			wait(7 * time.Minute) // one is due
			clock.set(50 * 365 * 24 * time.Hour)
			wait(90 * time.Second)
			if s := h.status("a.toy"); s.Counters.Fired != 2 { // the last one, two minutes ago, is made good
				t.Errorf("after the jump: %+v", s)
			}
			wait(10 * time.Minute)
			if got := h.payloads("out"); len(got) != 4 {
				t.Errorf("then %d runs, want one each five minutes", len(got))
			}
		})
	})
	t.Run("what is not made good is told", func(t *testing.T) {
		rule := by(schedule.Cron("*/5 * * * *", time.UTC))
		rule.Grace = -1
		scheduled(t, timed(rule), func(h *house, clock *setClock) {
			clock.set(50 * 365 * 24 * time.Hour)
			wait(90 * time.Second)
			if s := h.status("a.toy"); s.Counters.Fired != 0 || s.Trace[0].Outcome != rules.RanMissed || !strings.Contains(s.Trace[0].Why, "ago") {
				t.Errorf("after the jump: %+v", s)
			}
		})
	})
	t.Run("a clock that is set back holds nothing back", func(t *testing.T) {
		scheduled(t, timed(by(schedule.Cron("*/5 * * * *", time.UTC))), func(h *house, clock *setClock) {
			wait(61 * time.Minute)
			was := len(h.payloads("out"))
			clock.set(-time.Hour)
			wait(11 * time.Minute)
			if n := len(h.payloads("out")) - was; n < 2 || n > 3 {
				t.Errorf("%d runs in eleven minutes", n)
			}
		})
	})
	t.Run("nor does one that is set back just before a reload", func(t *testing.T) {
		scheduled(t, timed(by(schedule.Cron("*/5 * * * *", time.UTC))), func(h *house, clock *setClock) {
			wait(61 * time.Minute)
			was := len(h.payloads("out"))
			clock.set(-time.Hour)
			h.load("a.toy", "p", "b.toy", "other")
			wait(11 * time.Minute)
			if n := len(h.payloads("out")) - was; n < 2 || n > 3 {
				t.Errorf("%d runs in eleven minutes", n)
			}
		})
	})
	t.Run("a clock that is set back by a second repeats nothing", func(t *testing.T) {
		scheduled(t, timed(daily), func(h *house, clock *setClock) {
			wait(7*time.Hour + 30*time.Minute + time.Second)
			clock.set(-5 * time.Second)
			wait(10 * time.Minute)
			if got := h.payloads("out"); len(got) != 1 {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("those of a file that is gone are gone", func(t *testing.T) {
		scheduled(t, timed(by(schedule.Every("10s"))), func(h *house, _ *setClock) {
			h.load("b.toy", "other")
			wait(time.Minute)
			if got := h.payloads("out"); len(got) != 0 {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("at the start, and not at a reload", func(t *testing.T) {
		scheduled(t, timed(rules.Rule{Start: true}), func(h *house, _ *setClock) {
			h.load("a.toy", "p\nchanged")
			wait(time.Minute)
			if got := h.payloads("out"); !slices.Equal(got, []string{"start"}) {
				t.Errorf("got %q", got)
			}
		})
	})
}
