package broker_test

import (
	"errors"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// retainedOf is a message to be retained of a size in bytes.
func retainedOf(topic string, size int) message.Message {
	m := message.Message{Topic: topic, QoS: 1, Retain: true}
	m.Payload = make([]byte, size-m.Size())
	return m
}

func TestRetainedBytesFromInsideCount(t *testing.T) {
	o := options()
	o.Limits.RetainedBytes = 200
	s := brokertest.Start(t, o)
	publish(t, s, retainedOf("a", 150))
	var refused *message.RefusedError
	err := s.Publish(t.Context(), retainedOf("b", 100))
	if !errors.As(err, &refused) || refused.Topic != "b" || !errors.Is(err, packet.QuotaExceeded) {
		t.Errorf("got %v", err)
	}
	if stats := s.Stats(); stats.Retained != 1 || stats.RetainedBytes != 150 || stats.Dropped["retained"] != 1 {
		t.Errorf("got %d messages of %d bytes, dropped %v", stats.Retained, stats.RetainedBytes, stats.Dropped)
	}
}

func TestRetainedBytesAreLimitedByDefault(t *testing.T) {
	s := brokertest.Start(t, options())
	const size = 8 << 20
	for _, topic := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		publish(t, s, retainedOf(topic, size))
	}
	if err := s.Publish(t.Context(), retainedOf("9", 100)); !errors.Is(err, packet.QuotaExceeded) {
		t.Errorf("got %v", err)
	}
	publish(t, s, message.Message{Topic: "3", Retain: true}, retainedOf("9", size))
	if got := s.Stats().RetainedBytes; got != 64<<20 {
		t.Errorf("got %d bytes", got)
	}
}

func TestRetainedBytesOfTheStore(t *testing.T) {
	for name, c := range map[string]struct{ limit, bytes, lost int64 }{
		"within the limit": {0, 250, 0},
		"beyond it":        {180, 125, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			s := brokertest.Start(t, o)
			publish(t, s, retainedOf("a", 125), retainedOf("b", 125))
			s.Stop()
			o.Limits.RetainedBytes = c.limit
			s = brokertest.Start(t, o)
			publish(t, s, numbered("x", 1, 0)) // the store is loaded then
			stats := s.Stats()
			if stats.RetainedBytes != c.bytes || stats.Dropped["retained"] != c.lost {
				t.Errorf("got %d bytes, dropped %v", stats.RetainedBytes, stats.Dropped)
			}
		})
	}
}

func TestNegativeRetainedBytes(t *testing.T) {
	o := options()
	o.Limits.RetainedBytes = -1
	if _, err := broker.New(o); err == nil {
		t.Error("it is accepted")
	}
}
