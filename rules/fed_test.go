package rules_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// What is retained when a rule comes into force, and waits in its subscription too, is heard
// once; at QoS 1, where every message is heard, the last one that is heard is the last one that came.
func TestWhatIsRetainedAndWaitsIsHeardOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		qos   message.QoS
		waits []string
		want  []string
	}{
		{"one", message.AtMostOnce, []string{"1"}, []string{"1 true"}},
		{"several", message.AtMostOnce, []string{"1", "2"}, []string{"2 true"}},
		{"the same again", message.AtMostOnce, []string{"1", "1"}, []string{"1 true"}},
		{"one at QoS 1", message.AtLeastOnce, []string{"1"}, []string{"1 true"}},
		{"several at QoS 1", message.AtLeastOnce, []string{"1", "2"}, []string{"2 true", "1 false", "2 false"}},
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
					wait(time.Millisecond)
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
