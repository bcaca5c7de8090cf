package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// What a client published before it triggers a rule is known to the rule, whatever QoS the
// rule asks for.
func TestStateIsKnownBeforeWhatCameAfterIt(t *testing.T) {
	const rounds = 300
	h := newHouse(t, map[string]string{"users": "", "acl.yaml": "", "rules/a.yaml": `
rules:
  - {name: plain, on: tick, do: [{publish: out/plain, payload: '${{"n": payload, "state": state("mode")}}'}]}
  - {name: kept, on: tick, qos: 1, do: [{publish: out/kept, payload: '${{"n": payload, "state": state("mode")}}'}]}
`})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got, stood := make(chan message.Message, 2*rounds), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- h.g.broker.Subscribe(ctx, message.Subscription{Name: "test", Filters: []string{"out/+"}, Ready: func() { close(stood) }},
			func(_ context.Context, msgs []message.Message) error {
				for _, m := range msgs {
					got <- m
				}
				return nil
			})
	}()
	<-stood
	for n := range rounds {
		value := fmt.Appendf(nil, "%d", n)
		if err := h.g.broker.Publish(ctx, message.Message{Topic: "mode", Payload: value}, message.Message{Topic: "tick", Payload: value}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * rounds {
		select {
		case m := <-got:
			var told struct{ N, State *int }
			if err := json.Unmarshal(m.Payload, &told); err != nil || told.N == nil {
				t.Fatalf("%s: %v", m.Payload, err)
			}
			if told.State == nil || *told.State < *told.N {
				t.Fatalf("%s says %s: the state is older than what triggered it", m.Topic, m.Payload)
			}
		case <-ctx.Done():
			t.Fatal("not all came")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
