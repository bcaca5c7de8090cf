package rules_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/rulestest"
)

func TestLanesDoNotWaitForEachOther(t *testing.T) {
	release := make(chan struct{})
	slow := &toy{name: "slow", ending: ".slow", programs: map[string]toyProgram{"p": after("in", func(rules.Call) rules.Outcome {
		<-release
		return publish("out/slow", "")
	})}}
	quick := &toy{name: "quick", ending: ".quick", programs: map[string]toyProgram{"p": echo("quick", "in"), "q": echo("new", "in")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{slow, quick}})
	h.load("a.slow", "p", "b.quick", "p")
	h.run()
	h.publish(msg("in", "1"))
	h.bus.Await(t.Context(), "out/quick", 1)
	h.load("a.slow", "p", "b.quick", "q") // nor does a reload
	h.publish(msg("in", "2"))
	h.bus.Await(t.Context(), "out/new", 1)
	if got := h.bus.Routed("out/slow"); len(got) != 0 {
		t.Errorf("the slow lane is not slow: %+v", got)
	}
	close(release)
	h.bus.Await(t.Context(), "out/slow", 2)
}

func TestPublishesComeInTheOrderOfMessagesAndRules(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"a": echo("a", "in/#"), "b": echo("b", "in/+"),
	}}}})
	h.load("1.toy", "b", "2.toy", "a")
	h.run()
	h.publish(msg("in/x", "1"), msg("in/y", "2"), msg("in/x", "3"))
	h.bus.Await(t.Context(), "out/#", 6)
	var got []string
	for _, m := range h.bus.Routed("out/#") {
		got = append(got, m.Topic+" "+string(m.Payload))
		if m.Hops != 1 || !strings.HasPrefix(m.Origin, "rule/on in/") {
			t.Errorf("hops %d, origin %q", m.Hops, m.Origin)
		}
	}
	if diff := cmp.Diff([]string{"out/b 1", "out/a 1", "out/b 2", "out/a 2", "out/b 3", "out/a 3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestARuleThatHearsItselfEndsAfterMaxHops(t *testing.T) {
	log := &logBook{}
	h := newHouse(t, rules.Options{Log: log.logger(), Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"loop": after("loop", func(c rules.Call) rules.Outcome { return publish("loop", string(c.Message.Payload)+"x") }),
		"done": echo("done", "in"),
	}}}})
	h.load("a.toy", "loop", "b.toy", "done")
	h.run()
	h.publish(msg("loop", ""), msg("loop", ""))
	h.bus.Await(t.Context(), "loop", 2*(1+message.MaxHops))
	h.publish(msg("in", ""))
	h.bus.Await(t.Context(), "out/done", 1)
	if n := len(h.bus.Routed("loop")); n != 2*(1+message.MaxHops) {
		t.Errorf("%d messages went round", n)
	}
	if c := h.status("a.toy").Counters; c.Looped != 2 || c.Published != 2*message.MaxHops {
		t.Errorf("the counters are %+v", c)
	}
	if n := log.with("it went through 8 rules"); n != 1 {
		t.Errorf("%d warnings, want one a period", n)
	}
}

func TestPrevIsThePreviousMessageOfTheTopic(t *testing.T) {
	p := after("in/#", func(c rules.Call) rules.Outcome {
		prev := "-"
		if c.Prev != nil {
			prev = string(c.Prev.Payload)
		}
		return publish("out/"+c.Message.Topic, prev)
	})
	p.rules[0].Prev = true
	filter := before("in/#", rules.PassOnError, func(c rules.Call) rules.Outcome {
		changed := *c.Message
		if c.Prev != nil {
			changed.Payload = fmt.Appendf(nil, "%s(%s)", changed.Payload, c.Prev.Payload)
		}
		return rules.Outcome{Fired: true, Verdict: message.Verdict{Action: message.Replace, Message: &changed}}
	})
	filter.rules[0].Prev = true
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p, "f": filter}}}})
	h.load("a.toy", "p")
	h.run()
	h.publish(msg("in/a", "1"), msg("in/b", "2"), msg("in/a", "3"))
	h.bus.Await(t.Context(), "out/#", 3)
	h.load("a.toy", "p\nnew version")
	h.publish(msg("in/a", "4"))
	h.bus.Await(t.Context(), "out/#", 4)
	if diff := cmp.Diff([]string{"-", "1", "3"}, h.payloads("out/in/a")); diff != "" {
		t.Error(diff)
	}
	h.load("f.toy", "f")
	h.publish(msg("in/a", "5"), msg("in/a", "6"))
	if diff := cmp.Diff([]string{"1", "3", "4", "5", "6(5)"}, h.payloads("in/a")); diff != "" {
		t.Errorf("filters: %s", diff)
	}
}

func TestPrevIsForgottenBeyondItsBounds(t *testing.T) {
	for name, c := range map[string]struct {
		topics  int
		payload string
	}{
		"topics": {10_001, "x"},
		"bytes":  {100, strings.Repeat("x", 90_000)},
	} {
		t.Run(name, func(t *testing.T) {
			var known sync.Map
			p := before("#", rules.PassOnError, func(c rules.Call) rules.Outcome {
				known.Store(c.Message.Topic, c.Prev != nil)
				return rules.Outcome{}
			})
			p.rules[0].Prev = true
			h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
			h.load("a.toy", "p")
			topic := func(i int) message.Message { return msg(fmt.Sprint("t/", i), c.payload) }
			for i := range c.topics {
				h.engine.Intercept(t.Context(), []message.Message{topic(i)})
			}
			h.engine.Intercept(t.Context(), []message.Message{topic(c.topics - 1)})
			h.engine.Intercept(t.Context(), []message.Message{topic(0)})
			if v, _ := known.Load(topic(c.topics - 1).Topic); v != true {
				t.Error("the newest topic is forgotten")
			}
			if v, _ := known.Load(topic(0).Topic); v != false {
				t.Error("the oldest topic is remembered")
			}
		})
	}
}

func TestWhatCannotBeEvaluatedIsCountedAndLoggedOnceAPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBook{}
		h := newHouse(t, rules.Options{Log: log.logger(), LogPeriod: time.Minute, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
			"p": after("in", func(c rules.Call) rules.Outcome {
				switch string(c.Message.Payload) {
				case "absent":
					return rules.Outcome{Err: fmt.Errorf("%w: no c", rules.ErrNotEvaluated)}
				case "bad":
					return rules.Outcome{Err: errors.New("it threw")}
				case "panic":
					panic("our fault")
				}
				return publish("out", "")
			}),
		}}}})
		h.load("a.toy", "p")
		h.run()
		for _, payload := range []string{"absent", "absent", "good", "bad", "panic"} {
			h.publish(msg("in", payload))
			synctest.Wait()
		}
		s := h.status("a.toy")
		want := rules.Counters{Heard: 5, Fired: 1, NotEvaluated: 2, Errors: 2, Published: 1}
		if diff := cmp.Diff(want, s.Counters); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(s.LastError, "our fault") || len(s.Trace) != 5 {
			t.Errorf("last error %q, trace %+v", s.LastError, s.Trace)
		}
		var outcomes []string
		for _, entry := range s.Trace {
			outcomes = append(outcomes, entry.Outcome)
		}
		if diff := cmp.Diff([]string{rules.RanFailed, rules.RanFailed, rules.RanFired, rules.RanNotEvaluated, rules.RanNotEvaluated}, outcomes); diff != "" {
			t.Error(diff)
		}
		if n := log.with("rule did not do its work"); n != 1 {
			t.Errorf("%d lines in the log, want one a period", n)
		}
		wait(2 * time.Minute)
		h.publish(msg("in", "bad"))
		synctest.Wait()
		if n := log.with("others_since=3"); n != 1 {
			t.Errorf("the errors in between are not told: %d", n)
		}
		h.stop()
	})
}

func TestTheTraceHoldsTheLast20Runs(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": before("#", rules.PassOnError, func(rules.Call) rules.Outcome { return rules.Outcome{} })}}}})
	h.load("a.toy", "p")
	for i := range 25 {
		h.engine.Intercept(t.Context(), []message.Message{msg(fmt.Sprint("t", i), "")})
	}
	trace := h.status("a.toy").Trace
	if len(trace) != 20 || trace[0].Topic != "t24" || trace[19].Topic != "t5" {
		t.Errorf("the trace is %+v", trace)
	}
}

func TestAMessageThatIsRefusedDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
			"p": after("in", func(rules.Call) rules.Outcome {
				return rules.Outcome{Fired: true, Publish: []message.Message{msg("out/1", ""), msg("bad/+", ""), msg("forbidden", ""), {Topic: "bad", QoS: 3}, {Topic: "$SYS/broker/version", Payload: []byte("x"), Retain: true}, msg("out/2", "")}}
			}),
			"f": before("forbidden", rules.PassOnError, func(rules.Call) rules.Outcome {
				return rules.Outcome{Verdict: message.Verdict{Action: message.Reject, Reason: 0x87}}
			}),
		}}}})
		h.load("a.toy", "p", "f.toy", "f")
		h.run()
		h.publish(msg("in", ""))
		synctest.Wait()
		if n := len(h.bus.Routed("out/#")); n != 2 {
			t.Errorf("%d messages came out", n)
		}
		if c := h.status("a.toy").Counters; c.Published != 2 || c.Errors != 4 {
			t.Errorf("the counters are %+v", c)
		}
		if _, stands := h.bus.RetainedOn("$SYS/broker/version"); stands {
			t.Error("a rule has published to $SYS")
		}
		if _, stands := h.bus.RetainedOn("$SYS/gatehouse/rules/a.toy"); !stands {
			t.Error("the engine has not published to $SYS")
		}
		h.stop()
	})
}

// curtBus drops a whole batch when it refuses one message, and does not say which.
type curtBus struct{ *rulestest.Bus }

func (b curtBus) Publish(ctx context.Context, msgs ...message.Message) error {
	verdicts := b.Interceptor.Intercept(ctx, msgs)
	for _, v := range verdicts {
		if v.Action == message.Reject {
			return errors.New("refused")
		}
	}
	return b.Bus.Publish(ctx, msgs...)
}

func TestARefusalCostsNobodyElseOnABusThatSaysNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
			"p": after("in", func(rules.Call) rules.Outcome {
				return rules.Outcome{Fired: true, Publish: []message.Message{msg("out/1", ""), msg("forbidden", ""), msg("out/2", ""), msg("out/3", "")}}
			}),
			"f": decide("forbidden", message.Verdict{Action: message.Reject}, nil),
		}}}})
		h.load("a.toy", "p", "f.toy", "f")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.engine.Run(ctx, curtBus{h.bus}) }()
		<-h.engine.Ready()
		h.publish(msg("in", ""))
		synctest.Wait()
		if n := len(h.bus.Routed("out/#")); n != 3 {
			t.Errorf("%d messages came out", n)
		}
		if c := h.status("a.toy").Counters; c.Published != 3 || c.Errors != 1 {
			t.Errorf("the counters are %+v", c)
		}
		cancel()
		if err := errors.Join(<-done, h.engine.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestTimersInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var fired []string
		p := toyProgram{
			rules: []rules.Rule{{Name: "r", Filters: []string{"in"}}},
			run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
				switch c.Trigger {
				case rules.OnStart:
					return rules.Outcome{Timers: []rules.TimerChange{
						{ID: "every", After: 10 * time.Second, Every: true},
						{ID: "late", After: 25 * time.Second},
						{ID: "never", After: time.Second},
						{ID: "never"},
					}}
				case rules.OnMessage:
					return rules.Outcome{Timers: []rules.TimerChange{{ID: "asked", After: 3 * time.Second}, {ID: "every"}}}
				case rules.OnTimer:
					fired = append(fired, fmt.Sprintf("%s %s", c.Timer, c.Now.Sub(began)))
					return publish("out", c.Timer)
				case rules.OnSchedule, rules.OnReply:
				}
				return rules.Outcome{}
			},
		}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p")
		h.run()
		wait(32 * time.Second)
		m := msg("in", "")
		m.Hops = 3
		h.publish(m) // stops "every"
		wait(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{"every 10s", "every 20s", "late 25s", "every 30s", "asked 35s"}, fired); diff != "" {
			t.Error(diff)
		}
		out := h.bus.Routed("out")
		if out[0].Hops != 1 || out[4].Hops != 4 || out[0].Origin != "rule/a.toy" {
			t.Errorf("what timers published: %+v", out)
		}
		h.stop()
	})
}

func TestTimersEndWithTheirVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fired []string
		p := toyProgram{run: func(_ context.Context, src rules.Source, c rules.Call) rules.Outcome {
			if c.Trigger == rules.OnTimer {
				fired = append(fired, src.Name+" "+string(src.Text))
				return rules.Outcome{}
			}
			return rules.Outcome{Timers: []rules.TimerChange{{ID: "t", After: 10 * time.Second}}}
		}}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p\n1", "b.toy", "p\n1", "c.toy", "p\n1")
		h.run()
		wait(5 * time.Second)
		h.load("a.toy", "p\n1", "b.toy", "p\n2") // a stays, b is new, c is gone
		wait(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a.toy p\n1", "b.toy p\n2"}, fired); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

func TestTimersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := 0
		p := toyProgram{run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			if c.Trigger == rules.OnTimer {
				fired++
				return rules.Outcome{}
			}
			var out rules.Outcome
			for i := range 1_005 {
				out.Timers = append(out.Timers, rules.TimerChange{ID: fmt.Sprint(i), After: time.Second})
			}
			return out
		}}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p")
		h.run()
		wait(time.Minute)
		synctest.Wait()
		if fired != 1_000 {
			t.Errorf("%d timers fired", fired)
		}
		if own := h.engine.Status()[0].Own; own.Counters.Errors != 5 {
			t.Errorf("the file's own counters are %+v", own.Counters)
		}
		h.stop()
	})
}

func TestTimersOfFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := toyProgram{
			rules: []rules.Rule{{Name: "f", Stage: rules.Before, Filters: []string{"in"}}},
			run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
				switch c.Trigger {
				case rules.OnMessage:
					return rules.Outcome{Fired: true, Timers: []rules.TimerChange{{ID: "t", After: 10 * time.Second}}}
				case rules.OnTimer:
					return publish("out", c.Timer)
				case rules.OnStart, rules.OnSchedule, rules.OnReply:
				}
				return rules.Outcome{}
			},
		}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p")
		h.run()
		h.publish(msg("in", ""))
		wait(time.Minute)
		synctest.Wait()
		if got := h.payloads("out"); len(got) != 1 {
			t.Errorf("the timer of a filter fired %d times", len(got))
		}
		h.stop()
	})
}

// crashing is a language whose Run fails three times.
type crashing struct {
	toy
	mu    sync.Mutex
	times []time.Duration
	began time.Time
}

func (l *crashing) Run(ctx context.Context) error {
	l.mu.Lock()
	l.times = append(l.times, time.Since(l.began))
	n := len(l.times)
	l.mu.Unlock()
	switch n {
	case 1:
		return errors.New("cannot start")
	case 2:
		panic("oops")
	}
	<-ctx.Done()
	return nil
}

func TestALanguageThatEndsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lang := &crashing{toy: toy{name: "toy", ending: ".toy"}, began: time.Now()}
		h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
		h.load()
		h.run()
		wait(time.Minute)
		h.stop()
		if diff := cmp.Diff([]time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond}, lang.times); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAProgramIsStartedOnceAndFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		p := toyProgram{
			rules: []rules.Rule{{Name: "r", Filters: []string{"in"}}},
			run: func(_ context.Context, src rules.Source, c rules.Call) rules.Outcome {
				calls = append(calls, fmt.Sprint(strings.ReplaceAll(string(src.Text), "\n", ""), " ", c.Trigger))
				if c.Trigger == rules.OnStart {
					return publish("hello", string(src.Text))
				}
				return rules.Outcome{}
			},
		}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p\n1")
		if len(calls) != 0 {
			t.Errorf("a load alone runs the program: %q", calls)
		}
		h.run()
		h.publish(msg("in", ""))
		synctest.Wait()
		h.load("a.toy", "p\n1")
		synctest.Wait()
		h.load("a.toy", "p\n2")
		h.publish(msg("in", ""))
		synctest.Wait()
		want := []string{fmt.Sprint("p1 ", rules.OnStart), fmt.Sprint("p1 ", rules.OnMessage), fmt.Sprint("p2 ", rules.OnStart), fmt.Sprint("p2 ", rules.OnMessage)}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Error(diff)
		}
		if n := len(h.bus.Routed("hello")); n != 2 {
			t.Errorf("%d starts published", n)
		}
		h.stop()
	})
}

func TestAProgramThatHangsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := toyProgram{
			rules: []rules.Rule{{Name: "r", Filters: []string{"in"}}},
			run: func(ctx context.Context, _ rules.Source, c rules.Call) rules.Outcome {
				if c.Trigger != rules.OnMessage {
					return rules.Outcome{}
				}
				<-ctx.Done()
				return rules.Outcome{Err: ctx.Err()}
			},
		}
		h := newHouse(t, rules.Options{AfterTimeout: 5 * time.Second, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p, "q": echo("q", "in")}}}})
		h.load("a.toy", "p", "b.toy", "q")
		h.run()
		began := time.Now()
		h.publish(msg("in", ""))
		h.bus.Await(t.Context(), "out/q", 1)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the next program waited %s", took)
		}
		h.stop()
	})
}

// A hidden rule is a part of another one: what it does counts there, and what it does
// not counts nowhere. A refused run is told with its reason.
func TestHiddenRulesAndRefusedRuns(t *testing.T) {
	p := toyProgram{
		rules: []rules.Rule{{Name: "open", Line: 1, Filters: []string{"in/open"}}, {Name: "part", Line: 1, Filters: []string{"in/#"}, Hidden: true}},
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			switch {
			case c.Trigger == rules.OnStart:
			case c.Rule == 0:
				return rules.Outcome{Refused: "mode single: a run is on its way"}
			case string(c.Message.Payload) == "go on":
				return rules.Outcome{Fired: true, For: 1, Publish: []message.Message{msg("out", "")}}
			}
			return rules.Outcome{}
		},
	}
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
	h.load("a.toy", "p")
	h.run()
	h.publish(msg("in/open", ""), msg("in/x", ""), msg("in/x", "go on"))
	h.bus.Await(t.Context(), "out", 1)
	if got := h.bus.Routed("out")[0].Origin; got != "rule/open" {
		t.Errorf("the origin is %q", got)
	}
	if files := h.engine.Status(); len(files[0].Rules) != 1 {
		t.Errorf("the hidden rule is shown: %+v", files[0].Rules)
	}
	s := h.status("a.toy")
	if c := s.Counters; c.Heard != 2 || c.Fired != 1 || c.Refused != 1 || c.Errors != 0 {
		t.Errorf("the counters are %+v", c)
	}
	if run := s.Trace[1]; run.Outcome != rules.RanRefused || run.Why != "mode single: a run is on its way" || s.LastError != "" {
		t.Errorf("the trace has %+v, the last error is %q", run, s.LastError)
	}
}

// TestOutcomesAreGivenBack has programs that spoil what they are given back, as all of
// these tests do: a filter, a rule, and a timer that it sets.
func TestOutcomesAreGivenBack(t *testing.T) {
	var runs atomic.Int64
	count := func(p toyProgram) toyProgram {
		run := p.run
		p.run = func(ctx context.Context, src rules.Source, c rules.Call) rules.Outcome {
			runs.Add(1)
			return run(ctx, src, c)
		}
		return p
	}
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"filter": count(decide("in", message.Verdict{}, nil)),
		"rule": count(after("in", func(c rules.Call) rules.Outcome {
			if c.Trigger == rules.OnTimer {
				return publish("out/timer", "")
			}
			out := publish("out/rule", string(c.Message.Payload))
			out.Timers = []rules.TimerChange{{ID: "t", After: time.Millisecond}}
			return out
		})),
	}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "filter", "b.toy", "rule")
	h.run()
	h.publish(msg("in", "1"), msg("in", "2"))
	h.bus.Await(t.Context(), "out/rule", 2)
	h.bus.Await(t.Context(), "out/timer", 1)
	h.stop()
	lang.mu.Lock()
	defer lang.mu.Unlock()
	if n := int(runs.Load()); lang.reused != n || n < 5 {
		t.Errorf("%d outcomes are given back, of %d", lang.reused, n)
	}
}
