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
)

// subscribing is a bus that notes what is subscribed to.
type subscribing struct {
	message.Bus
	mu   sync.Mutex
	subs []string
}

func (b *subscribing) Subscribe(ctx context.Context, s message.Subscription, h message.Handler) error {
	b.mu.Lock()
	b.subs = append(b.subs, fmt.Sprintf("%s durable=%v %v", s.Name, s.Durable, s.Filters))
	b.mu.Unlock()
	return b.Bus.Subscribe(ctx, s, h)
}

// Rules that ask for more than QoS 0 have a subscription that waits for them, and what
// they did is kept before the message is acknowledged.
func TestRulesAtQoS1HearAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain, kept := echo("plain", "in/+"), counter(rules.After)
		kept.rules[0].QoS = message.AtLeastOnce
		l := newLives(t, map[string]toyProgram{"plain": plain, "kept": kept}, nil)
		bus := &subscribing{Bus: l.bus}
		h := newHouse(t, l.opts)
		h.load("a.toy", "plain", "b.toy", "kept")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.engine.Run(ctx, bus) }()
		<-h.engine.Ready()
		if err := l.bus.Publish(t.Context(), msg("in", ""), msg("in/x", "")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		slices.Sort(bus.subs)
		if diff := cmp.Diff([]string{"rules/toy durable=false [in/+]", "rules/toy/kept durable=true [in]"}, bus.subs); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"state/b.toy/n=1 count"}, l.keep.lines()); diff != "" {
			t.Errorf("kept and published together: %s", diff)
		}
		if got := l.bus.Routed("out/plain"); len(got) != 1 {
			t.Errorf("the other rule published %d times", len(got))
		}
		cancel()
		if err := errors.Join(<-done, h.engine.Close()); err != nil {
			t.Error(err)
		}
	})
}

// watcher has a rule that watches home/# and one that publishes what stands there, by
// topic, when it hears "ask"; it hears home/hall/# with what is retained.
func watcher() toyProgram {
	seen := make(map[string]string)
	return toyProgram{
		rules: []rules.Rule{
			{Name: "ask", Filters: []string{"ask"}},
			{Name: "eager", Filters: []string{"home/hall/#"}, Retained: true},
			{Name: "watch", Stage: rules.Watch, Filters: []string{"home/#", "home/+/door"}},
		},
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			if c.Trigger != rules.OnMessage {
				return rules.Outcome{}
			}
			switch c.Rule {
			case 2:
				seen[c.Message.Topic] = string(c.Message.Payload)
				return publish("wrong", "a rule that watches publishes nothing")
			case 1:
				return publish("out", fmt.Sprint(c.Message.Topic, " ", string(c.Message.Payload), " ", c.Message.Retain, " ", len(seen)))
			}
			return publish("out", fmt.Sprint(seen))
		},
	}
}

func TestWatchRulesHearFirstAndWhatIsRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": watcher()}}}})
		h.publish(
			message.Message{Topic: "home/hall/door", Payload: []byte("open"), Retain: true},
			message.Message{Topic: "home/attic/door", Payload: []byte("shut"), Retain: true},
			message.Message{Topic: "home/hall/alarm", Payload: []byte("off"), Retain: true},
		)
		h.load("a.toy", "p")
		h.run()
		synctest.Wait()
		h.publish(msg("home/hall/door", "ajar"), msg("ask", ""))
		synctest.Wait()
		want := []string{
			"home/hall/alarm off true 3", "home/hall/door open true 3", "home/hall/door ajar false 3",
			"map[home/attic/door:shut home/hall/alarm:off home/hall/door:ajar]",
		}
		if diff := cmp.Diff(want, h.payloads("out")); diff != "" {
			t.Error(diff)
		}
		if got := h.payloads("wrong"); len(got) > 0 {
			t.Error(got)
		}
		for _, r := range h.engine.Status()[0].Rules {
			if r.Stage == rules.Watch {
				t.Errorf("the status shows %q", r.Name)
			}
		}
		h.stop()
	})
}

func TestShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shadow := after("in", func(rules.Call) rules.Outcome {
			out := publish("out", "x")
			out.Requests = []rules.Request{{ID: "r", Name: "n", URL: "http://x"}}
			return out
		})
		shadow.rules[0].Shadow = true
		f := &fetcher{reply: func(context.Context, *rules.Request, int) (*rules.Reply, error) { return &rules.Reply{}, nil }}
		h := newHouse(t, rules.Options{Fetcher: f, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": shadow}}}})
		h.load("a.toy", "p")
		h.run()
		h.publish(msg("in", ""))
		synctest.Wait()
		s := h.status("a.toy")
		if len(h.payloads("out")) != 0 || f.forget() != 0 || s.Counters.Fired != 1 || s.Counters.Shadowed != 1 || s.Trace[0].Outcome != rules.RanShadow {
			t.Errorf("published %q, the status is %+v", h.payloads("out"), s)
		}
		h.stop()
	})
}

func TestFactsAreAskedForTenTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := after("in", func(c rules.Call) rules.Outcome {
			if !c.Explain {
				return rules.Outcome{}
			}
			return rules.Outcome{Facts: []rules.Fact{{What: "payload", Value: string(c.Message.Payload)}}}
		})
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		h.load("a.toy", "p")
		h.run()
		for i := range 10 {
			h.publish(msg("in", fmt.Sprint(i)))
			wait(50 * time.Millisecond)
		}
		var got []string
		for _, e := range h.status("a.toy").Trace {
			got = append(got, fmt.Sprint(e.Facts))
		}
		slices.Reverse(got)
		want := "[{payload 0}] [] [{payload 2}] [] [{payload 4}] [] [{payload 6}] [] [{payload 8}] []"
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

// Rules that answer each other and multiply are suspended, and the others go on.
func TestAStormEndsInSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		storm := after("storm", func(rules.Call) rules.Outcome {
			out := publish("storm", "x")
			for range 4 {
				out.Publish = append(out.Publish, msg("storm", "x"))
			}
			return out
		})
		h := newHouse(t, rules.Options{Log: book.logger(), Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
			"storm": storm, "calm": echo("calm", "in"),
		}}}})
		h.load("a.toy", "storm", "b.toy", "calm")
		h.run()
		h.publish(msg("storm", "x"), msg("in", "1"))
		synctest.Wait()
		s := h.status("a.toy")
		if s.Counters.Suspended != 1 || !strings.HasPrefix(s.LastError, "suspended for 1m0s") || book.with("rule is suspended") != 1 || s.Counters.Heard > 10_000 {
			t.Errorf("the status is %+v, the log %q", s, book.lines)
		}
		if got := h.payloads("out/calm"); len(got) != 1 {
			t.Errorf("the other rule published %q", got)
		}
		heard := s.Counters.Heard
		h.publish(msg("storm", "x"))
		synctest.Wait()
		if s = h.status("a.toy"); s.Counters.Heard != heard {
			t.Error("it hears while it is suspended")
		}
		wait(time.Minute)
		h.publish(msg("storm", "x"))
		synctest.Wait()
		if s = h.status("a.toy"); s.Counters.Heard == heard || s.Counters.Suspended != 2 {
			t.Errorf("afterwards the status is %+v", s)
		}
		h.stop()
	})
}
