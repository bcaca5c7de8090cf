package trial_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules/trial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBusDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bus trial.Bus
		ctx, cancel := context.WithCancel(t.Context())
		publish := func(topic, origin string, retain bool) {
			t.Helper()
			if err := bus.Publish(ctx, message.Message{Topic: topic, Origin: origin, Retain: retain, Payload: []byte("x")}); err != nil {
				t.Error(err)
			}
		}
		publish("a/kept", "", true)
		var heard []string
		sub := message.Subscription{Name: "s", Filters: []string{"a/#", "+/x"}, Retained: true}
		done := make(chan error, 1)
		go func() {
			done <- bus.Subscribe(ctx, sub, func(_ context.Context, batch []message.Message) error {
				for _, m := range batch {
					heard = append(heard, m.Topic)
				}
				return nil
			})
		}()
		synctest.Wait()
		if err := bus.Subscribe(ctx, sub, nil); err == nil {
			t.Error("a name stands twice")
		}
		publish("a/x", "", false)
		publish("a/x", "s", false) // its own
		if err := bus.Resubscribe(ctx, "s", []string{"b"}); err != nil {
			t.Error(err)
		}
		publish("a/x", "", false)
		publish("b", "", false)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a/kept", "a/x", "b"}, heard); diff != "" {
			t.Error(diff)
		}
		var refused *message.RefusedError
		if err := bus.Publish(ctx, message.Message{Topic: "b"}, message.Message{Topic: "#"}, message.Message{Topic: "b"}); !errors.As(err, &refused) || refused.Index != 1 || refused.Tried != 2 {
			t.Errorf("a bad topic: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
