package rules_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Beside a rule that is kept, what stands on topics is heard in the order of its
// subscription, too.
func TestWatchRulesHearByTheSubscriptionsOfTheOthers(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  message.QoS
		want []string
	}{
		{"at QoS 0", message.AtMostOnce, []string{"x unordered=false"}},
		{"at QoS 1", message.AtLeastOnce, []string{"x unordered=false", "x unordered=true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard []string
				p := toyProgram{
					rules: []rules.Rule{
						{Name: "ask", Filters: []string{"ask"}, QoS: c.qos},
						{Name: "watch", Stage: rules.Watch, Filters: []string{"home/#"}},
					},
					run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
						if call.Trigger == rules.OnMessage && call.Rule == 1 {
							heard = append(heard, fmt.Sprintf("%s unordered=%v", call.Message.Payload, call.Unordered))
						}
						return rules.Outcome{}
					},
				}
				h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
				h.load("a.toy", "p")
				h.run()
				h.publish(msg("home/hall", "x"))
				synctest.Wait()
				slices.Sort(heard)
				if diff := cmp.Diff(c.want, heard); diff != "" {
					t.Error(diff)
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

func TestCameBefore(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		a, b time.Time
		want bool
	}{
		{"before", now, now.Add(1), true},
		{"at once", now, now, false},
		{"after", now.Add(1), now, false},
		{"one of a former process", now.Add(-time.Hour).Round(0), now, false},
		{"one that a former process had from the future", now, now.Add(time.Hour).Round(0), false},
	} {
		if got := rules.CameBefore(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Of two messages that were routed in the other order than they came in, the last one that
// was routed stays, whichever subscription is ahead.
func TestPassedOver(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name             string
		m, known, latest time.Time
		want             bool
	}{
		{"the same", now, now, now, false},
		{"one before", now.Add(-1), now, now, true},
		{"one after", now.Add(1), now, now, false},
		{"the latest, which another was routed after", now, now.Add(-1), now, true},
		{"that other", now.Add(-1), now.Add(-1), now, true},
		{"one after both", now.Add(1), now.Add(-1), now, false},
		{"one of a former process", now.Add(-time.Hour).Round(0), now, now, false},
	} {
		if got := rules.PassedOver(c.m, c.known, c.latest); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
