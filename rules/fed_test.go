package rules_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/rulestest"
)

// What is retained when a rule comes into force, and waits in its subscription too, is heard
// once, as every message that waits there; at QoS 1 once more if one before it waited, so that the last
// one that is heard is the last one that came.
func TestWhatIsRetainedAndWaitsIsHeardOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		qos   message.QoS
		waits []string
		pause time.Duration // between those that wait
		want  []string
	}{
		{"one", message.AtMostOnce, []string{"1"}, 1, []string{"1 false"}},
		{"several", message.AtMostOnce, []string{"1", "2"}, 1, []string{"1 false", "2 false"}},
		{"several at once", message.AtMostOnce, []string{"1", "2"}, 0, []string{"1 false", "2 false"}},
		{"the same again", message.AtMostOnce, []string{"1", "1"}, 1, []string{"1 false", "1 false"}},
		{"the same again at once", message.AtMostOnce, []string{"1", "1"}, 0, []string{"1 false", "1 false"}},
		{"one at QoS 1", message.AtLeastOnce, []string{"1"}, 1, []string{"1 true"}},
		{"several at QoS 1", message.AtLeastOnce, []string{"1", "2"}, 1, []string{"2 true", "1 false", "2 false"}},
		{"several at once at QoS 1", message.AtLeastOnce, []string{"1", "2"}, 0, []string{"2 true", "1 false", "2 false"}},
		{"the same again at once at QoS 1", message.AtLeastOnce, []string{"1", "1"}, 0, []string{"1 true", "1 false", "1 false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				going := make(chan struct{})
				busy := after("busy", func(rules.Call) rules.Outcome { <-going; return rules.Outcome{} })
				eager := after("mode", func(call rules.Call) rules.Outcome {
					return publish("out", fmt.Sprintf("%s %v", call.Message.Payload, call.Message.Retain))
				})
				eager.rules[0].Retained, eager.rules[0].QoS = true, c.qos
				h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"busy": busy, "eager": eager}}}})
				h.load("a.toy", "busy")
				h.run()
				h.publish(msg("busy", ""))
				synctest.Wait()
				h.load("a.toy", "busy", "b.toy", "eager")
				for _, payload := range c.waits {
					m := msg("mode", payload)
					m.Retain = true
					h.publish(m)
					if c.pause > 0 {
						wait(c.pause)
					}
				}
				close(going)
				synctest.Wait()
				if diff := cmp.Diff(c.want, h.payloads("out")); diff != "" {
					t.Error(diff)
				}
				last := msg("mode", c.waits[0]) // what comes after it is another one, though it looks the same
				h.publish(last, last)
				synctest.Wait()
				again := c.waits[0] + " false"
				if diff := cmp.Diff(append(c.want, again, again), h.payloads("out")); diff != "" {
					t.Errorf("afterwards: %s", diff)
				}
				h.stop()
			})
		})
	}
}

// A rule that is told what is retained by a bus that has nothing more of it is told the next
// messages, whatever clock they have.
func TestWhatComesAfterWhatIsRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := after("mode", func(call rules.Call) rules.Outcome { return publish("out", string(call.Message.Payload)) })
		p.rules[0].Retained = true
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		now := time.Now()
		h.publish(message.Message{Topic: "mode", Payload: []byte("1"), Retain: true, At: now.Add(time.Hour).Round(0)})
		h.load("a.toy", "p")
		h.run()
		synctest.Wait()
		h.publish(message.Message{Topic: "mode", Payload: []byte("2"), At: now})
		wait(time.Minute)
		h.publish(message.Message{Topic: "mode", Payload: []byte("3"), At: now.Add(-time.Hour)})
		synctest.Wait()
		if diff := cmp.Diff([]string{"1", "2", "3"}, h.payloads("out")); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

// What waits and is not retained is heard, whatever is retained meanwhile: nothing is lost as a
// rule comes into force.
func TestWhatIsNotRetainedAndWaitsIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		going := make(chan struct{})
		busy := after("busy", func(rules.Call) rules.Outcome { <-going; return rules.Outcome{} })
		eager := after("mode", func(call rules.Call) rules.Outcome {
			return publish("out", fmt.Sprintf("%s %v", call.Message.Payload, call.Message.Retain))
		})
		eager.rules[0].Retained = true
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"busy": busy, "eager": eager}}}})
		h.publish(message.Message{Topic: "mode", Payload: []byte("before"), Retain: true})
		h.load("a.toy", "busy", "b.toy", "eager")
		h.run()
		synctest.Wait()
		h.publish(msg("busy", ""))
		synctest.Wait()
		h.publish(msg("mode", "event"), message.Message{Topic: "mode", Payload: []byte("state"), Retain: true})
		h.load("a.toy", "busy", "b.toy", "eager", "c.toy", "eager")
		close(going)
		synctest.Wait()
		want := []string{"before true", "event false", "event false", "state false", "state false"}
		if diff := cmp.Diff(want, h.payloads("out")); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

// slowBus is a bus that takes its time to see that a batch was judged.
type slowBus struct {
	*rulestest.Bus
	going chan struct{}
}

func (b *slowBus) Subscribe(ctx context.Context, s message.Subscription, h message.Handler) error {
	return b.Bus.Subscribe(ctx, s, func(taking context.Context, msgs []message.Message) error {
		err := h(taking, msgs)
		<-b.going
		return err
	})
}

// What was judged by the version before, and is only to be acknowledged, does not come again:
// a rule that comes into force is told of it as of all that is retained.
func TestWhatIsRetainedAndWasJudgedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version := func(name string) toyProgram {
			p := after("mode", func(call rules.Call) rules.Outcome {
				return publish("out", fmt.Sprintf("%s %s %v", name, call.Message.Payload, call.Message.Retain))
			})
			p.rules[0].Retained = true
			return p
		}
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"1": version("first"), "2": version("second")}}}})
		h.load("a.toy", "1")
		bus := &slowBus{Bus: h.bus, going: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.engine.Run(ctx, bus) }()
		<-h.engine.Ready()
		h.publish(message.Message{Topic: "mode", Payload: []byte("on"), Retain: true})
		synctest.Wait()
		h.load("a.toy", "2")
		synctest.Wait()
		if diff := cmp.Diff([]string{"first on false", "second on true"}, h.payloads("out")); diff != "" {
			t.Error(diff)
		}
		close(bus.going)
		synctest.Wait()
		if n := len(h.payloads("out")); n != 2 {
			t.Errorf("%d were heard", n)
		}
		cancel()
		if err := errors.Join(<-ended, h.engine.Close()); err != nil {
			t.Error(err)
		}
	})
}
