package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
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

// A rule that comes into force while its topic is published hears what is retained, or what
// follows that which the version before heard last, and then every message once: none is lost.
func TestRetainedIsHeardOnceAsARuleComesIntoForce(t *testing.T) {
	const versions, ahead = 20, 50
	rule := func(n int) string {
		return fmt.Sprintf("rules:\n  - {name: seq, on: seq, retained: true, do: [{publish: out/%d, payload: '${payload}'}]}\n", n)
	}
	h := newHouse(t, map[string]string{"users": "", "acl.yaml": ""})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var most, newest atomic.Int64 // that came out, and the version that was heard last
	moved, watched, stood := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	heard := make(map[string][]int)
	ended, sent := make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- h.g.broker.Subscribe(ctx, message.Subscription{Name: "test", Filters: []string{"out/+"}, Ready: func() { close(stood) }},
			func(_ context.Context, msgs []message.Message) error {
				for _, m := range msgs {
					n, err := strconv.Atoi(string(m.Payload))
					if err != nil {
						return err
					}
					heard[m.Topic] = append(heard[m.Topic], n)
					if version, err := strconv.Atoi(strings.TrimPrefix(m.Topic, "out/")); err == nil {
						newest.Store(int64(version))
					}
					most.Store(max(most.Load(), int64(n)))
				}
				for _, c := range []chan struct{}{moved, watched} {
					select {
					case c <- struct{}{}:
					default:
					}
				}
				return nil
			})
	}()
	<-stood
	sending, stop := context.WithCancel(ctx)
	go func() {
		for n := int64(1); sending.Err() == nil; n++ {
			if err := h.g.broker.Publish(ctx, message.Message{Topic: "seq", Payload: fmt.Appendf(nil, "%d", n), Retain: true}); err != nil {
				sent <- err
				return
			}
			for n-most.Load() > ahead && sending.Err() == nil {
				select {
				case <-moved:
				case <-sending.Done():
				}
			}
		}
		sent <- nil
	}()
	for n := range versions {
		write(t, filepath.Join(h.cfg.Rules.Folder, "a.yaml"), rule(n))
		if err := h.g.loadRules(ctx); err != nil {
			t.Fatal(err)
		}
		for before := most.Load(); (newest.Load() != int64(n) || most.Load() <= before+ahead) && ctx.Err() == nil; {
			select {
			case <-watched:
			case <-ctx.Done():
			}
		}
	}
	stop()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(heard) != versions {
		t.Errorf("%d versions heard anything, not %d", len(heard), versions)
	}
	for n := 1; n < versions; n++ {
		was, is := heard[fmt.Sprintf("out/%d", n-1)], heard[fmt.Sprintf("out/%d", n)]
		if len(was) == 0 || len(is) == 0 || is[0] > was[len(was)-1]+1 {
			t.Errorf("version %d heard %d, and that before it %d", n, is, was)
		}
	}
	for topic, all := range heard {
		for i := 1; i < len(all); i++ {
			if all[i] != all[i-1]+1 {
				t.Fatalf("%s: %d came after %d", topic, all[i], all[i-1])
			}
		}
	}
}

// hears subscribes to a filter inside, until the test ends.
func (h *house) hears(ctx context.Context, filter string) <-chan message.Message {
	h.t.Helper()
	got, stood, ended := make(chan message.Message, 10_000), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		ended <- h.g.broker.Subscribe(ctx, message.Subscription{Name: "test", Filters: []string{filter}, Ready: func() { close(stood) }},
			func(_ context.Context, msgs []message.Message) error {
				for _, m := range msgs {
					got <- m
				}
				return nil
			})
	}()
	<-stood
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
	return got
}

// says publishes messages, topic, payload, topic, payload ..., all at once.
func (h *house) says(ctx context.Context, retain bool, pairs ...string) {
	h.t.Helper()
	var msgs []message.Message
	for i := 0; i < len(pairs); i += 2 {
		msgs = append(msgs, message.Message{Topic: pairs[i], Payload: []byte(pairs[i+1]), Retain: retain})
	}
	if err := h.g.broker.Publish(ctx, msgs...); err != nil {
		h.t.Fatal(err)
	}
}

// What is known of a topic never goes back, though messages of one moment come by two
// subscriptions.
func TestStateDoesNotGoBack(t *testing.T) {
	const rounds, each = 60, 50
	h := newHouse(t, map[string]string{"users": "", "acl.yaml": "", "rules/a.yaml": `
rules:
  - {name: plain, on: tick, do: [{publish: out, payload: '${state("mode")}'}]}
  - {name: kept, on: tick, qos: 1, do: [{publish: out, payload: '${state("mode")}'}]}
`})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got := h.hears(ctx, "out")
	for n := range rounds {
		var pairs []string
		for i := range each {
			value := strconv.Itoa(n*each + i)
			pairs = append(pairs, "mode", value, "tick", value)
		}
		h.says(ctx, false, pairs...)
	}
	for i, before := 0, 0; i < 2*rounds*each; i++ {
		select {
		case m := <-got:
			now, err := strconv.Atoi(string(m.Payload))
			if err != nil || now < before {
				t.Fatalf("the state is %s after %d", m.Payload, before)
			}
			before = now
		case <-ctx.Done():
			t.Fatal("not all came")
		}
	}
}

// What a topic has become since the gateway was started again stays, though a new version of
// the file is shown what is retained.
func TestStateAfterARestartAndAnEdit(t *testing.T) {
	const rule = `rules: [{name: ask, on: ask, do: [{publish: out, payload: '${state("mode")} %s'}]}]`
	h := newHouse(t, map[string]string{"users": "", "acl.yaml": "", "rules/a.yaml": fmt.Sprintf(rule, "first")})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	h.says(ctx, true, "mode", "retained")
	h.stop()
	h.start()
	got := h.hears(ctx, "out")
	asks := func(want string) {
		t.Helper()
		h.says(ctx, false, "ask", "")
		select {
		case m := <-got:
			if string(m.Payload) != want {
				t.Errorf("the state is %q, not %q", m.Payload, want)
			}
		case <-ctx.Done():
			t.Fatal("nothing comes")
		}
	}
	asks("retained first")
	h.says(ctx, false, "mode", "live")
	asks("live first")
	write(t, filepath.Join(h.cfg.Rules.Folder, "a.yaml"), fmt.Sprintf(rule, "second"))
	if err := h.g.loadRules(ctx); err != nil {
		t.Fatal(err)
	}
	asks("live second")
}
