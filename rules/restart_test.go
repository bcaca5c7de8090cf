package rules_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/rulestest"
	"github.com/gatehouse/gatehouse/rules/schedule"
)

// waiting is a program that sets a timer called after its payload, due in 10 minutes, by
// a message on "set", stops it by one on "stop", and publishes when one is due.
func waiting(version string) toyProgram {
	return toyProgram{
		rules: []rules.Rule{{Name: "set", Filters: []string{"set"}}, {Name: "stop", Filters: []string{"stop"}}},
		handles: func(name string) bool {
			return name != "gone" || version == "old"
		},
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			switch c.Trigger {
			case rules.OnTimer:
				out := publish("out", fmt.Sprintf("%s %s %s late %v", version, c.Name, c.Data, c.Late))
				out.For = 1
				return out
			case rules.OnStart:
				var out rules.Outcome
				for _, s := range c.Standing {
					out.Publish = append(out.Publish, msg("standing", s.Name))
				}
				return out
			case rules.OnMessage, rules.OnSchedule, rules.OnReply:
			}
			change := rules.TimerChange{ID: "t/" + string(c.Message.Payload), Name: string(c.Message.Payload), Data: []byte(`{"a":1}`)}
			if c.Rule == 0 {
				change.After = 10 * time.Minute
			}
			return rules.Outcome{Fired: true, Timers: []rules.TimerChange{change}}
		},
	}
}

// lives are several lives of one gateway.
type lives struct {
	t     *testing.T
	keep  *keeper
	bus   *rulestest.Bus
	opts  rules.Options
	house *house
}

func newLives(t *testing.T, programs map[string]toyProgram, clock rules.Clock) *lives {
	l := &lives{t: t, keep: &keeper{}, bus: &rulestest.Bus{}}
	l.opts = rules.Options{Keeper: l.keep, Clock: clock, Zone: time.UTC, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: programs}}}
	l.keep.bus = l.bus
	return l
}

// start begins a life, with the files.
func (l *lives) start(files ...string) {
	l.t.Helper()
	h := newHouse(l.t, l.opts)
	h.bus = l.bus
	h.bus.Interceptor = h.engine
	h.load(files...)
	h.run()
	l.house = h
	synctest.Wait()
}

// cut ends it as a power cut does: what was not kept by then is lost.
func (l *lives) cut() {
	l.t.Helper()
	l.keep.mu.Lock()
	l.keep.fail = true
	l.keep.mu.Unlock()
	l.house.stop()
	l.keep.mu.Lock()
	l.keep.fail = false
	l.keep.mu.Unlock()
}

func (l *lives) want(filter string, want ...string) {
	l.t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, l.house.payloads(filter)); diff != "" {
		l.t.Errorf("on %s: %s", filter, diff)
	}
}

func TestTimersGoOnInTheNextLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old")}, nil)
		l.start("a.toy", "p")
		l.house.publish(msg("set", "x"), msg("set", "y"), msg("set", "z"), msg("stop", "z"))
		synctest.Wait()
		l.cut()
		wait(4 * time.Minute)
		l.start("a.toy", "p")
		l.want("standing", "x", "y")
		wait(6*time.Minute - time.Second)
		l.want("out")
		wait(time.Second)
		l.want("out", `old x {"a":1} late 0s`, `old y {"a":1} late 0s`)
		l.cut()
		l.start("a.toy", "p")
		wait(time.Hour)
		l.want("out", `old x {"a":1} late 0s`, `old y {"a":1} late 0s`)
		l.house.stop()
	})
}

func TestTimersThatFellDueMeanwhileAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old")}, nil)
		l.start("a.toy", "p")
		l.house.publish(msg("set", "x"))
		synctest.Wait()
		l.cut()
		wait(17 * time.Minute)
		l.start("a.toy", "p")
		l.want("out", `old x {"a":1} late 7m0s`)
		l.house.stop()
	})
}

// The removal of a timer and what was published for it are one change.
func TestATimerFiresInOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old")}, nil)
		l.start("a.toy", "p")
		l.house.publish(msg("set", "x"))
		wait(10 * time.Minute)
		synctest.Wait()
		lines := l.keep.lines()
		if len(lines) != 2 || lines[1] != "timer/a.toy/t/x= out" {
			t.Errorf("kept %q", lines)
		}
		l.house.stop()
	})
}

func TestAnotherVersionTakesTimersOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old"), "q": waiting("new")}, nil)
		l.start("a.toy", "p")
		l.house.publish(msg("set", "x"), msg("set", "gone"))
		wait(4 * time.Minute)
		l.house.load("a.toy", "q")
		l.want("standing", "x")
		wait(6 * time.Minute)
		l.want("out", `new x {"a":1} late 0s`)
		for _, r := range l.keep.kept {
			if r.Kind == "timer" {
				t.Errorf("timer %q is kept still", r.Key)
			}
		}
		l.house.publish(msg("set", "x"))
		synctest.Wait()
		l.house.load() // the file is away while it is due
		wait(15 * time.Minute)
		l.house.load("a.toy", "q")
		l.want("out", `new x {"a":1} late 0s`, `new x {"a":1} late 5m0s`)
		l.house.stop()
	})
}

// offClock is the bubble's clock with a wall clock that begins in 1970 until it is set.
type offClock struct {
	mu    sync.Mutex
	began time.Time
	set   bool
}

func (c *offClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.set {
		return now
	}
	return time.Unix(0, 0).Add(now.Sub(c.began)).UTC()
}

func (c *offClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func TestAClockThatBeginsIn1970(t *testing.T) {
	daily, err := schedule.At("00:30", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // which begins at midnight
		morning := timed(rules.Rule{Schedules: []rules.Schedule{daily}})
		l := newLives(t, map[string]toyProgram{"p": waiting("old"), "m": morning}, nil)
		l.start("a.toy", "p", "m.toy", "m")
		l.house.publish(msg("set", "x"))
		wait(5 * time.Minute)
		l.cut()
		wait(35 * time.Minute) // x was due at 0:10, the schedule at 0:30
		clock := &offClock{began: time.Now()}
		l.opts.Clock = clock
		l.start("a.toy", "p", "m.toy", "m")
		wait(2 * time.Minute)
		l.want("out")
		clock.mu.Lock()
		clock.set = true
		clock.mu.Unlock()
		wait(time.Minute) // it is 0:43
		l.want("out", "at 00:30", `old x {"a":1} late 33m0s`)
		wait(23*time.Hour + 40*time.Minute)
		l.want("out", "at 00:30", `old x {"a":1} late 33m0s`)
		wait(10 * time.Minute)
		l.want("out", "at 00:30", `old x {"a":1} late 33m0s`, "at 00:30")
		l.house.stop()
	})
}

func TestSchedulesThatWereMissed(t *testing.T) {
	daily, err := schedule.At("00:30", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	hourly, err := schedule.Every("1h")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		schedule rules.Schedule
		grace    time.Duration
		on, off  time.Duration
		want     []string
		missed   bool
	}{
		{"within an hour is made good", daily, 0, 10 * time.Minute, 50 * time.Minute, []string{"at 00:30"}, false},
		{"after an hour is not", daily, 0, 10 * time.Minute, 3 * time.Hour, nil, true},
		{"a longer grace", daily, 5 * time.Hour, 10 * time.Minute, 3 * time.Hour, []string{"at 00:30"}, false},
		{"no grace", daily, -1, 10 * time.Minute, 22 * time.Minute, nil, true},
		{"however many", daily, time.Hour, 10 * time.Minute, 5*24*time.Hour + 30*time.Minute, []string{"at 00:30"}, false},
		{"not due yet", daily, 0, 5 * time.Minute, 5 * time.Minute, nil, false},
		{"an interval goes on", hourly, 0, 10 * time.Minute, 5 * time.Minute, nil, false},
		{"an interval that went by", hourly, 0, 10 * time.Minute, 70 * time.Minute, []string{"every 1h0m0s"}, false},
		{"an interval that went by long ago", hourly, 0, 10 * time.Minute, 130 * time.Minute, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLives(t, map[string]toyProgram{"p": timed(rules.Rule{Schedules: []rules.Schedule{c.schedule}, Grace: c.grace})}, nil)
				l.start("a.toy", "p")
				wait(c.on)
				l.cut()
				wait(c.off)
				l.start("a.toy", "p")
				l.want("out", c.want...)
				trace := l.house.status("a.toy").Trace
				if missed := len(trace) > 0 && trace[0].Outcome == rules.RanMissed; missed != c.missed {
					t.Errorf("missed: %v, want %v", missed, c.missed)
				}
				l.cut()
				l.start("a.toy", "p")
				l.want("out", c.want...) // not twice
				l.house.stop()
			})
		})
	}
}

func TestAnIntervalGoesOnWithTheTimeThatIsLeft(t *testing.T) {
	hourly, err := schedule.Every("1h")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": timed(rules.Rule{Schedules: []rules.Schedule{hourly}})}, nil)
		l.start("a.toy", "p")
		wait(40 * time.Minute)
		l.cut()
		wait(5 * time.Minute)
		l.start("a.toy", "p")
		wait(14 * time.Minute)
		l.want("out")
		wait(time.Minute)
		l.want("out", "every 1h0m0s")
		l.house.stop()
	})
}

// steadyKeeper is a keeper with a timeline.
type steadyKeeper struct {
	*keeper
	line bubbleTime
}

func (k steadyKeeper) Timeline() rules.Timeline { return k.line }

// bubbleTime is the time of the bubble, whatever the clock on the wall is set to.
type bubbleTime struct{ clock *setClock }

func (b bubbleTime) off() time.Duration { return time.Until(b.clock.Now()) }

func (b bubbleTime) Keep(t time.Time) time.Time                 { return t.Add(-b.off()) }
func (b bubbleTime) Kept(t time.Time) time.Time                 { return t.Add(b.off()) }
func (bubbleTime) Owed(time.Time) (away time.Duration, ok bool) { return 0, true }

// An interval has the time that is left, too, if the clock on the wall was set while the
// gateway was off, or was that of 1970.
func TestAnIntervalGoesOnWhateverTheClockWasSetTo(t *testing.T) {
	hourly, err := schedule.Every("1h")
	if err != nil {
		t.Fatal(err)
	}
	const in1970 = -30 * 365 * 24 * time.Hour
	for name, c := range map[string]struct{ before, after time.Duration }{
		"as it was": {0, 0}, "set back": {0, -3 * time.Hour}, "set ahead": {0, 30 * time.Minute}, "set ahead by much": {0, 30 * time.Hour},
		"1970, and set": {in1970, -in1970}, "set, and 1970": {0, in1970},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := &setClock{}
				clock.set(c.before)
				l := newLives(t, map[string]toyProgram{"p": timed(rules.Rule{Schedules: []rules.Schedule{hourly}})}, clock)
				l.opts.Keeper = steadyKeeper{l.keep, bubbleTime{clock}}
				l.start("a.toy", "p")
				wait(40 * time.Minute)
				l.cut()
				clock.set(c.after)
				wait(5 * time.Minute)
				l.start("a.toy", "p")
				wait(14 * time.Minute)
				l.want("out")
				wait(time.Minute)
				l.want("out", "every 1h0m0s")
				l.cut()
				l.start("a.toy", "p")
				wait(59 * time.Minute)
				l.want("out", "every 1h0m0s")
				wait(time.Minute)
				l.want("out", "every 1h0m0s", "every 1h0m0s")
				l.house.stop()
			})
		})
	}
}

// remembering is a program that counts, and saves the count by Save alone.
func remembering() toyProgram {
	n, changed := 0, false
	return toyProgram{
		rules: []rules.Rule{{Name: "count", Filters: []string{"in"}}},
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			switch c.Trigger {
			case rules.OnStart:
				n, changed = 0, false
				_, _ = fmt.Sscan(string(c.Kept["n"]), &n) // none is 0
			case rules.OnMessage:
				n, changed = n+1, true
				return publish("out", fmt.Sprint(n))
			case rules.OnTimer, rules.OnSchedule, rules.OnReply:
			}
			return rules.Outcome{}
		},
		save: func(put func(string, []byte)) {
			if changed {
				put("n", fmt.Append(nil, n))
			}
			changed = false
		},
	}
}

func TestWhatProgramsSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": remembering()}, nil)
		l.start("a.toy", "p\n1")
		l.house.publish(msg("in", ""), msg("in", ""))
		synctest.Wait()
		l.house.load("a.toy", "p\n2")
		l.house.publish(msg("in", ""))
		l.want("out", "1", "2", "3")
		wait(11 * time.Second) // it is asked again
		l.house.publish(msg("in", ""))
		synctest.Wait()
		l.cut() // the fourth is lost
		l.start("a.toy", "p\n2")
		l.house.publish(msg("in", ""))
		l.want("out", "1", "2", "3", "4", "4")
		l.house.stop() // which keeps it
		l.start("a.toy", "p\n2")
		l.house.publish(msg("in", ""))
		l.want("out", "1", "2", "3", "4", "4", "5")
		l.house.stop()
	})
}

// A program that was compiled from what was kept, and was wrong, is compiled again.
func TestAProgramThatIsOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := echo("p", "in")
		p.save = func(put func(string, []byte)) { put("hears", []byte(`"in"`)) }
		p.outdated = func(kept map[string][]byte) bool { return string(kept["hears"]) == `"in"` }
		l := newLives(t, map[string]toyProgram{"p": p}, nil)
		lang := l.opts.Languages[0].(*toy)
		l.start("a.toy", "p")
		select {
		case <-l.house.engine.Outdated():
			t.Error("it is outdated though nothing was kept")
		default:
		}
		l.house.stop()
		l.start("a.toy", "p")
		select {
		case <-l.house.engine.Outdated():
		default:
			t.Error("nobody is told that it is outdated")
		}
		synctest.Wait() // what is left behind is closed by and by
		was, left := lang.seen()
		l.house.load("a.toy", "p") // the same
		l.house.load("a.toy", "p")
		synctest.Wait()
		now, closed := lang.seen()
		if len(now) != len(was)+1 || len(closed) != len(left)+1 {
			t.Errorf("compiled %d times more, closed %d more; want once", len(now)-len(was), len(closed)-len(left))
		}
		l.house.publish(msg("in", "1"))
		l.want("out/#", "1")
		l.house.stop()
	})
}

// A program that panics when it is asked what it has to keep costs only that.
func TestAProgramThatCannotSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := echo("bad", "in")
		bad.save = func(func(string, []byte)) { panic("oops") }
		l := newLives(t, map[string]toyProgram{"bad": bad, "good": echo("good", "in")}, nil)
		l.start("a.toy", "bad")
		l.house.publish(msg("in", "1"))
		wait(time.Minute)
		l.house.load("a.toy", "good")
		l.house.publish(msg("in", "2"))
		l.want("out/#", "1", "2")
		l.house.stop()
	})
}

func TestWhatCannotBeReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t, map[string]toyProgram{"p": waiting("old")}, nil)
		l.keep.kept = []rules.Record{
			{Kind: "timer", File: "a.toy", Key: "t", Value: []byte("{")},
			{Kind: "request", File: "a.toy", Key: "r", Value: []byte("[]")},
			{Kind: "due", File: "a.toy", Key: "none\nat 07:00", Value: []byte("soon")},
			{Kind: "timer", File: "a.toy", Key: "far", Value: []byte(`{"name":"x","due":9223372036854775807,"left":-5}`)},
			{Kind: "timer", File: "a.toy", Key: "past", Value: []byte(`{"name":"y","due":-9223372036854775808,"left":9223372036854775807}`)},
		}
		l.start("a.toy", "p")
		l.want("out")
		l.house.publish(msg("set", "ok"))
		synctest.Wait()
		if got := strings.Join(l.keep.lines(), " "); !strings.Contains(got, "timer/a.toy/t= ") || !strings.Contains(got, "request/a.toy/r=") || !strings.Contains(got, "due/a.toy/none\nat 07:00=") {
			t.Errorf("kept %q", got)
		}
		l.house.stop()
	})
}

// fetcher answers requests as it is told.
type fetcher struct {
	mu    sync.Mutex
	tries []string
	reply func(ctx context.Context, r *rules.Request, try int) (*rules.Reply, error)
}

func (f *fetcher) Fetch(ctx context.Context, r *rules.Request) (*rules.Reply, error) {
	f.mu.Lock()
	f.tries = append(f.tries, r.URL)
	n := len(f.tries)
	f.mu.Unlock()
	return f.reply(ctx, r, n)
}

// forget begins to count the tries anew, and returns how many there were.
func (f *fetcher) forget() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.tries)
	f.tries = nil
	return n
}

// asking requests what it hears the URL of, and publishes what comes back.
func asking() toyProgram {
	return toyProgram{
		rules:   []rules.Rule{{Name: "ask", Filters: []string{"ask"}}},
		handles: func(name string) bool { return name == "n" },
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			switch c.Trigger {
			case rules.OnMessage:
				url := string(c.Message.Payload)
				return rules.Outcome{Fired: true, Requests: []rules.Request{{ID: url, Name: "n", Data: []byte("7"), URL: url, Retries: 2}}}
			case rules.OnReply:
				return publish("out", fmt.Sprintf("%s %s %d %s %s", c.Timer, c.Data, c.Reply.Status, c.Reply.Body, c.Reply.Err))
			case rules.OnStart, rules.OnTimer, rules.OnSchedule:
			}
			return rules.Outcome{}
		},
	}
}

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetcher{reply: func(ctx context.Context, r *rules.Request, try int) (*rules.Reply, error) {
			switch r.URL {
			case "good":
				return &rules.Reply{Status: 200, Body: []byte("hello")}, nil
			case "late":
				if try < 3 {
					return &rules.Reply{Status: 503}, nil
				}
				return &rules.Reply{Status: 201}, nil
			case "never":
				<-ctx.Done()
				return nil, ctx.Err()
			case "panics":
				panic("oops")
			}
			return nil, fmt.Errorf("host %q: %w", r.URL, rules.ErrForbidden)
		}}
		l := newLives(t, map[string]toyProgram{"p": asking()}, nil)
		l.opts.Fetcher = f
		l.start("a.toy", "p")
		l.house.publish(msg("ask", "good"))
		l.want("out", "good 7 200 hello ")
		f.forget()
		l.house.publish(msg("ask", "late"))
		wait(time.Minute)
		l.want("out", "good 7 200 hello ", "late 7 201  ")
		f.forget()
		l.house.publish(msg("ask", "evil"))
		wait(time.Minute)
		l.want("out", "good 7 200 hello ", "late 7 201  ", `evil 7 0  host "evil": not allowed`)
		if n := f.forget(); n != 1 {
			t.Errorf("what is not allowed was tried %d times", n)
		}
		f.forget()
		l.house.publish(msg("ask", "never"))
		wait(5 * time.Minute)
		if n := f.forget(); n != 3 {
			t.Errorf("tried %d times, want 3", n)
		}
		l.want("out", "good 7 200 hello ", "late 7 201  ", `evil 7 0  host "evil": not allowed`, "never 7 0  context deadline exceeded")
		// One that is on its way when the power goes is made again.
		f.forget()
		l.house.publish(msg("ask", "never"))
		synctest.Wait()
		l.cut()
		l.opts.Fetcher = &fetcher{reply: func(context.Context, *rules.Request, int) (*rules.Reply, error) {
			return &rules.Reply{Status: 200}, nil
		}}
		l.start("a.toy", "p")
		synctest.Wait()
		if got := l.house.payloads("out"); got[len(got)-1] != "never 7 200  " {
			t.Errorf("got %q", got)
		}
		if i := slices.IndexFunc(l.keep.kept, func(r rules.Record) bool { return r.Kind == "request" }); i >= 0 {
			t.Errorf("kept is %+v", l.keep.kept[i])
		}
		l.house.stop()
	})
}

func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetcher{reply: func(ctx context.Context, _ *rules.Request, _ int) (*rules.Reply, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		l := newLives(t, map[string]toyProgram{"p": asking()}, nil)
		l.opts.Fetcher = f
		l.start("a.toy", "p")
		for i := range 101 {
			l.house.publish(msg("ask", fmt.Sprint(i)))
		}
		synctest.Wait()
		if s := l.house.status("a.toy"); s.LastError != `request to "100" is not made: 100 are on their way` {
			t.Errorf("the last error is %q", s.LastError)
		}
		l.want("out", `100 7 0  request to "100" is not made: 100 are on their way`) // who asked does not wait for ever
		f.mu.Lock()
		if len(f.tries) != 8 {
			t.Errorf("%d are made at once", len(f.tries))
		}
		f.mu.Unlock()
		l.house.publish(msg("ask", "5"))
		synctest.Wait()
		if s := l.house.status("a.toy"); s.LastError != `request "5" is on its way already` {
			t.Errorf("the last error is %q", s.LastError)
		}
		l.want("out", `100 7 0  request to "100" is not made: 100 are on their way`)
		l.house.stop()
	})
}

func TestHook(t *testing.T) {
	hooked := after("x", func(c rules.Call) rules.Outcome { return publish("out", c.Message.Topic+" "+string(c.Message.Payload)) })
	hooked.rules[0].Hooks, hooked.rules[0].Filters = []string{"garage"}, nil
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": hooked}}}})
	h.load("a.toy", "p")
	h.run()
	if err := h.engine.Hook(t.Context(), "garage", message.Message{Payload: []byte("open")}); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Hook(t.Context(), "none", message.Message{}); !errors.Is(err, rules.ErrNoHook) {
		t.Errorf("an unknown webhook returned %v", err)
	}
	if diff := cmp.Diff([]string{"$hook/garage open"}, h.payloads("out")); diff != "" {
		t.Error(diff)
	}
}
