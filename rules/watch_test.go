package rules_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Beside a rule that is kept, what stands on topics is heard by its subscription, too, with
// the order that it has for the other.
func TestWatchRulesHearByTheSubscriptionsOfTheOthers(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  message.QoS
		want int
	}{
		{"at QoS 0", message.AtMostOnce, 1},
		{"at QoS 1", message.AtLeastOnce, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard []uint64
				p := toyProgram{
					rules: []rules.Rule{
						{Name: "ask", Filters: []string{"ask"}, QoS: c.qos},
						{Name: "watch", Stage: rules.Watch, Filters: []string{"home/#"}},
					},
					run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
						if call.Trigger == rules.OnMessage && call.Rule == 1 {
							heard = append(heard, call.Message.Order)
						}
						return rules.Outcome{}
					},
				}
				h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
				h.load("a.toy", "p")
				h.run()
				h.publish(msg("home/hall", "x"))
				synctest.Wait()
				if all := slices.Compact(slices.Clone(heard)); len(heard) != c.want || len(all) != 1 || all[0] == 0 {
					t.Errorf("it was heard with the orders %d", heard)
				}
				h.stop()
			})
		})
	}
}

// A filter that comes into force knows what is retained, however busy the lane is.
func TestFiltersKnowWhatIsRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := make(map[string]string)
		gate := toyProgram{
			rules: []rules.Rule{
				{Name: "gate", Stage: rules.Before, Filters: []string{"gate"}},
				{Name: "watch", Stage: rules.Watch, Early: true, Filters: []string{"home/+"}},
			},
			run: func(_ context.Context, _ rules.Source, call rules.Call) (out rules.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case call.Trigger != rules.OnMessage:
				case call.Rule == 1:
					seen[call.Message.Topic] = string(call.Message.Payload)
				default:
					m := *call.Message
					m.Payload = []byte(seen["home/mode"])
					out.Fired, out.Verdict = true, message.Verdict{Action: message.Replace, Message: &m}
				}
				return out
			},
		}
		going := make(chan struct{})
		busy := after("busy", func(rules.Call) rules.Outcome { <-going; return rules.Outcome{} })
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"gate": gate, "busy": busy}}}})
		h.publish(message.Message{Topic: "home/mode", Payload: []byte("away"), Retain: true})
		h.load("a.toy", "busy")
		h.run()
		h.publish(msg("busy", ""))
		synctest.Wait()
		h.load("a.toy", "busy", "b.toy", "gate")
		h.publish(msg("gate", ""))
		if diff := cmp.Diff([]string{"away"}, h.payloads("gate")); diff != "" {
			t.Errorf("after a load: %s", diff)
		}
		close(going)
		h.stop()
	})
}

// The first filters know it before a message can come.
func TestFiltersKnowWhatIsRetainedAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		going, seen := make(chan struct{}), ""
		slow := toyProgram{run: func(context.Context, rules.Source, rules.Call) rules.Outcome { <-going; return rules.Outcome{} }}
		watch := toyProgram{
			rules: []rules.Rule{{Name: "watch", Stage: rules.Watch, Early: true, Filters: []string{"home/+"}}},
			run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
				if call.Message != nil {
					seen = string(call.Message.Payload)
				}
				return rules.Outcome{}
			},
		}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"slow": slow, "watch": watch}}}})
		h.publish(message.Message{Topic: "home/mode", Payload: []byte("away"), Retain: true})
		h.load("a.toy", "slow", "b.toy", "watch")
		h.run()
		if seen != "away" {
			t.Errorf("it is ready and knows %q", seen)
		}
		close(going)
		h.stop()
	})
}

// hookedContext calls do once somebody waits for its end after it was armed.
type hookedContext struct {
	context.Context
	armed atomic.Bool
	do    func()
}

func (c *hookedContext) Done() <-chan struct{} {
	if c.armed.Swap(false) {
		c.do()
	}
	return c.Context.Done()
}

// A load that is at its end when the engine begins to run is heard, and what its filters
// watch is known.
func TestALoadWhileTheEngineStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *house
		ctx := &hookedContext{Context: t.Context(), do: func() {
			h.start()
			synctest.Wait() // it stands on nothing
		}}
		var mu sync.Mutex
		seen := ""
		p := after("in", func(rules.Call) rules.Outcome { return publish("out", "x") })
		p.rules = append(p.rules, rules.Rule{Name: "watch", Stage: rules.Watch, Early: true, Filters: []string{"home/+"}},
			rules.Rule{Name: "gate", Stage: rules.Before, Filters: []string{"gate"}})
		run := p.run
		p.run = func(ctx context.Context, src rules.Source, call rules.Call) (out rules.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case call.Trigger == rules.OnStart:
				return out
			case call.Rule == 1:
				seen = string(call.Message.Payload)
				return out
			case call.Rule == 0:
				return run(ctx, src, call)
			}
			m := *call.Message
			m.Payload = []byte(seen)
			return rules.Outcome{Fired: true, Verdict: message.Verdict{Action: message.Replace, Message: &m}}
		}
		going := make(chan struct{})
		slow := toyProgram{run: func(context.Context, rules.Source, rules.Call) rules.Outcome { <-going; return rules.Outcome{} }}
		lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p, "slow": slow}}
		lang.compiles = func() { ctx.armed.Store(true) }
		h = newHouse(t, rules.Options{Languages: []rules.Language{lang}})
		h.publish(message.Message{Topic: "home/mode", Payload: []byte("away"), Retain: true})
		if err := h.engine.Load(ctx, folder("a.toy", "slow", "b.toy", "p")); err != nil {
			t.Fatal(err)
		}
		<-h.engine.Ready()
		h.publish(msg("gate", ""))
		if diff := cmp.Diff([]string{"away"}, h.payloads("gate")); diff != "" {
			t.Errorf("the filter: %s", diff)
		}
		close(going)
		h.publish(msg("in", ""))
		synctest.Wait()
		if diff := cmp.Diff([]string{"x"}, h.payloads("out")); diff != "" {
			t.Errorf("the rule: %s", diff)
		}
		h.stop()
	})
}

// A program that a load takes out while the engine starts is not closed while it is shown
// what is retained.
func TestALoadWhileTheEngineShowsWhatIsRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		going := make(chan struct{})
		watch := toyProgram{
			rules: []rules.Rule{{Name: "watch", Stage: rules.Watch, Early: true, Filters: []string{"home/+"}}},
			run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
				if call.Message != nil {
					<-going
				}
				return rules.Outcome{}
			},
		}
		other := after("in", func(rules.Call) rules.Outcome { return rules.Outcome{} })
		lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"watch": watch, "other": other}}
		h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
		for i := range 300 { // more than a program gets at once
			h.publish(message.Message{Topic: fmt.Sprint("home/", i), Payload: []byte("x"), Retain: true})
		}
		h.load("a.toy", "watch")
		h.start()
		synctest.Wait() // it is at the first
		h.load("a.toy", "other")
		close(going)
		<-h.engine.Ready()
		h.stop() // what was run after it was closed is found at the end
	})
}

// Of two messages the one of the greater order is the later one, and one that is known need
// not be heard; where there is no order, as of what is from before there was one, what is heard counts.
func TestPassedOver(t *testing.T) {
	for _, c := range []struct {
		name     string
		m, known uint64
		want     bool
	}{
		{"the same", 7, 7, true},
		{"one before", 6, 7, true},
		{"one after", 8, 7, false},
		{"one of which nobody knows when it came", 0, 7, true},
		{"one after such a one", 7, 0, false},
		{"two of them", 0, 0, false},
	} {
		if got := rules.PassedOver(c.m, c.known); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
