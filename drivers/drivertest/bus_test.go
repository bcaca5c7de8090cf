package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard subscribes until the test ends and returns what has been heard so far.
func heard(t *testing.T, bus *drivertest.Bus, s message.Subscription) func() []string {
	t.Helper()
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Subscribe(ctx, s, func(_ context.Context, batch []message.Message) error {
			for _, m := range batch {
				got = append(got, m.Topic+" "+string(m.Payload))
			}
			return nil
		})
	}()
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Subscribe: %v", err)
		}
	})
	return func() []string {
		synctest.Wait()
		return got
	}
}

func publish(t *testing.T, bus *drivertest.Bus, topic, payload, origin string, retain bool) {
	t.Helper()
	if err := bus.Publish(t.Context(), message.Message{Topic: topic, Payload: []byte(payload), Origin: origin, Retain: retain}); err != nil {
		t.Fatal(err)
	}
}

func TestBus(t *testing.T) {
	in := func(t *testing.T, f func(t *testing.T, bus *drivertest.Bus)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { f(t, drivertest.NewBus()) })
	}
	want := func(t *testing.T, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	t.Run("delivers what the filters hear, once, and not to its origin", func(t *testing.T) {
		in(t, func(t *testing.T, bus *drivertest.Bus) {
			got := heard(t, bus, message.Subscription{Name: "me", Filters: []string{"a/+", "a/#"}})
			publish(t, bus, "a/b", "1", "", false)
			publish(t, bus, "a/b", "2", "me", false)
			publish(t, bus, "b", "3", "", false)
			want(t, got(), "a/b 1")
			want(t, bus.Payloads("#"), "1", "2", "3")
		})
	})
	t.Run("replays what is retained to who asks", func(t *testing.T) {
		in(t, func(t *testing.T, bus *drivertest.Bus) {
			publish(t, bus, "a", "1", "", true)
			publish(t, bus, "b", "1", "", true)
			publish(t, bus, "b", "", "", true)
			publish(t, bus, "c", "1", "me", true) // not to its origin
			want(t, heard(t, bus, message.Subscription{Name: "me", Filters: []string{"#"}, Retained: true})(), "a 1")
			want(t, heard(t, bus, message.Subscription{Name: "you", Filters: []string{"#"}})())
		})
	})
	t.Run("changes the filters of a subscription that stands", func(t *testing.T) {
		in(t, func(t *testing.T, bus *drivertest.Bus) {
			got := heard(t, bus, message.Subscription{Name: "me", Filters: []string{"a"}})
			if err := bus.Resubscribe(t.Context(), "me", []string{"b"}); err != nil {
				t.Fatal(err)
			}
			publish(t, bus, "a", "1", "", false)
			publish(t, bus, "b", "2", "", false)
			want(t, got(), "b 2")
			if err := bus.Resubscribe(t.Context(), "you", nil); err == nil {
				t.Error("want an unknown subscription refused")
			}
		})
	})
	t.Run("refuses what it was told to, and what is no topic", func(t *testing.T) {
		in(t, func(t *testing.T, bus *drivertest.Bus) {
			full := errors.New("full")
			bus.Refuse(func(m message.Message) error {
				if m.Topic == "b" {
					return full
				}
				return nil
			})
			if err := bus.Publish(t.Context(), message.Message{Topic: "a"}, message.Message{Topic: "b"}, message.Message{Topic: "c"}); !errors.Is(err, full) {
				t.Errorf("want full, got %v", err)
			}
			if n := len(bus.Messages("#")); n != 1 {
				t.Errorf("want the message before the refused one only, got %d", n)
			}
			if err := bus.Publish(t.Context(), message.Message{Topic: "a/#"}); err == nil {
				t.Error("want a wildcard refused")
			}
		})
	})
}

func TestServerPassesTheSuite(t *testing.T) {
	drivertest.Run(t, drivertest.NewServer(), drivertest.Config(t, "panel", "driver: server\npoints: {t: {topic: hall/t}, lamp: {topic: lamp, writable: true}}\n"))
}
