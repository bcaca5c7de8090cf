package rules_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// keeper keeps records in memory and publishes on a bus.
type keeper struct {
	bus  message.Bus
	mu   sync.Mutex
	kept []rules.Record
	log  []string
	fail bool
}

func (k *keeper) Load(context.Context) ([]rules.Record, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.kept), nil
}

func (k *keeper) Commit(ctx context.Context, records []rules.Record, msgs []message.Message) error {
	if err := k.put(records, msgs); err != nil {
		return err
	}
	return k.bus.Publish(ctx, msgs...)
}

func (k *keeper) Keep(_ context.Context, records []rules.Record) (func(context.Context) error, error) {
	return func(context.Context) error { return nil }, k.put(records, nil)
}

func (k *keeper) put(records []rules.Record, msgs []message.Message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		return errors.New("disk is full")
	}
	var words []string
	for _, r := range records {
		words = append(words, fmt.Sprintf("%s/%s/%s=%s", r.Kind, r.File, r.Key, r.Value))
		k.kept = slices.DeleteFunc(k.kept, func(old rules.Record) bool { return old.Kind == r.Kind && old.File == r.File && old.Key == r.Key })
		if r.Value != nil {
			k.kept = append(k.kept, r)
		}
	}
	slices.Sort(words)
	for _, m := range msgs {
		words = append(words, m.Topic)
	}
	k.log = append(k.log, strings.Join(words, " "))
	return nil
}

// lines takes what was kept and published, a line a change.
func (k *keeper) lines() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	lines := k.log
	k.log = nil
	return lines
}

// counter counts in its state what it hears, and publishes the count.
func counter(stage rules.Stage) toyProgram {
	return toyProgram{
		rules: []rules.Rule{{Name: "counter", Stage: stage, Filters: []string{"in"}}},
		run: func(_ context.Context, src rules.Source, c rules.Call) rules.Outcome {
			if c.Trigger != rules.OnMessage {
				return rules.Outcome{}
			}
			n := 0
			_ = json.Unmarshal(src.State.Value("n"), &n) // none is 0
			change := []rules.StateChange{{Key: "n", Value: fmt.Append(nil, n+1)}}
			out := rules.Outcome{Fired: true, Err: src.State.Apply(change), State: change}
			if stage == rules.After {
				out.Publish = []message.Message{msg("count", fmt.Sprint(n+1))}
				out.Publish[0].QoS = c.Message.QoS
			}
			return out
		},
	}
}

func TestStateStaysFromVersionToVersion(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.After)}}}})
	h.load("a.toy", "p\n1", "b.toy", "p")
	h.run()
	h.publish(msg("in", ""))
	h.bus.Await(t.Context(), "count", 2)
	h.load("a.toy", "p\n2") // b is gone for a while
	h.publish(msg("in", ""))
	h.bus.Await(t.Context(), "count", 3)
	h.load("a.toy", "p\n2", "b.toy", "p\n3")
	h.publish(msg("in", ""))
	h.bus.Await(t.Context(), "count", 5)
	if diff := cmp.Diff([]string{"1", "1", "2", "3", "2"}, h.payloads("count")); diff != "" {
		t.Error(diff)
	}
}

func TestStateAndPublishesAreOneCommit(t *testing.T) {
	k := &keeper{kept: []rules.Record{
		{Kind: "state", File: "a.toy", Key: "n", Value: []byte("41")},
		{Kind: "window", File: "a.toy", Key: "n", Value: []byte("7")},
		{Kind: "state", File: "b.toy", Key: "n", Value: []byte("5")},
	}}
	h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.After)}}}})
	k.bus = h.bus
	h.load("a.toy", "p")
	h.run()
	m := msg("in", "")
	m.QoS = message.AtLeastOnce
	h.publish(m)
	h.bus.Await(t.Context(), "count", 1)
	h.stop()
	if diff := cmp.Diff([]string{"state/a.toy/n=42 count"}, k.log); diff != "" {
		t.Error(diff)
	}
}

func TestStateOfMessagesAtQoS0IsKeptOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.After)}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		for range 35 { // 3.5 s, none of them just when something is kept
			h.publish(msg("in", ""))
			wait(101 * time.Millisecond)
		}
		h.publish(msg("in", ""))
		synctest.Wait()
		h.stop()
		if diff := cmp.Diff([]string{"state/a.toy/n=1", "state/a.toy/n=10", "state/a.toy/n=20", "state/a.toy/n=30", "state/a.toy/n=36"}, k.log); diff != "" {
			t.Error(diff)
		}
	})
}

// Messages that a kept subscription brings for a rule that only watches do not have what else
// waits kept each time.
func TestWhatIsWatchedKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		p := counter(rules.After)
		p.rules = append(p.rules, rules.Rule{Name: "ask", Filters: []string{"ask"}, QoS: message.AtLeastOnce}, rules.Rule{Name: "watch", Stage: rules.Watch, Filters: []string{"home/#"}})
		count := p.run
		p.run = func(ctx context.Context, src rules.Source, c rules.Call) rules.Outcome {
			if c.Rule > 0 {
				return rules.Outcome{}
			}
			return count(ctx, src, c)
		}
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		for range 35 { // 3.5 s
			h.publish(msg("in", ""))
			synctest.Wait()
			h.publish(message.Message{Topic: "home/hall", QoS: message.AtLeastOnce}, message.Message{Topic: "ask", QoS: message.AtLeastOnce})
			wait(101 * time.Millisecond)
		}
		h.stop()
		if diff := cmp.Diff([]string{"state/a.toy/n=1", "state/a.toy/n=10", "state/a.toy/n=20", "state/a.toy/n=30", "state/a.toy/n=35"}, k.log); diff != "" {
			t.Error(diff)
		}
	})
}

// What a filter asks to be saved is kept by the lane, though the lane itself runs nothing.
func TestWhatAFilterSavesIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		var passed atomic.Bool
		p := before("in", rules.RejectOnError, func(rules.Call) rules.Outcome {
			passed.Store(true)
			return rules.Outcome{Save: true}
		})
		p.save = func(put func(string, []byte)) {
			if passed.Swap(false) {
				put("passed", []byte("1"))
			}
		}
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		wait(time.Minute) // what the start has done is kept
		h.publish(msg("in", ""))
		wait(2 * time.Second)
		if diff := cmp.Diff([]string{"memory/a.toy/passed=1"}, k.lines()); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

// What has no room is refused, what was there stays until the program takes it away, and
// the log has what the program says of it.
func TestWhatAProgramSavesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		k := &keeper{}
		p := echo("p", "in")
		saves := 0
		p.save = func(put func(string, []byte)) {
			switch saves++; saves {
			case 1:
				put("n", []byte("1"))
				put("m", []byte("1"))
			case 2:
				put("n", make([]byte, 5<<20))
				put("m", nil)
			}
		}
		h := newHouse(t, rules.Options{Keeper: k, Log: book.logger(), Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		for range 2 {
			h.publish(msg("in", "1"))
			wait(time.Minute)
		}
		kept, _ := k.Load(t.Context()) // has no error
		if diff := cmp.Diff([]rules.Record{{Kind: "memory", File: "a.toy", Key: "n", Value: []byte("1")}}, kept); diff != "" {
			t.Error(diff)
		}
		if n := book.with("what it remembers is not kept: toy: state of 2 keys"); n != 1 {
			t.Errorf("the log tells %d times that there is no room, want once", n)
		}
		h.stop()
	})
}

func TestRulesGoOnWhenNothingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		k := &keeper{fail: true}
		h := newHouse(t, rules.Options{Keeper: k, Log: book.logger(), Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.After)}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		for range 2 {
			h.publish(message.Message{Topic: "in", QoS: 1})
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"1", "2"}, h.payloads("count")); diff != "" {
			t.Error(diff)
		}
		if n := book.with("disk is full"); n != 1 {
			t.Errorf("the log tells %d times that nothing is kept, want once", n)
		}
		k.mu.Lock()
		k.fail = false
		k.mu.Unlock()
		wait(2 * time.Second)
		if diff := cmp.Diff([]string{"state/a.toy/n=2"}, k.lines()); diff != "" {
			t.Errorf("when there is room again: %s", diff)
		}
		h.stop()
	})
}

func TestStateOfFiltersIsKeptByTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": counter(rules.Before)}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.engine.Intercept(t.Context(), []message.Message{msg("in", ""), msg("in", "")})
		h.run()
		synctest.Wait()
		if diff := cmp.Diff([]string{"state/a.toy/n=2"}, k.log); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}

func TestStateIsBounded(t *testing.T) {
	s := rules.NewState(nil)
	if err := s.Apply([]rules.StateChange{{Key: "a", Value: make([]byte, rules.MaxStateBytes)}}); err == nil {
		t.Error("a value of 1 MiB is taken")
	}
	if err := s.Apply([]rules.StateChange{{Key: "a", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte("2")}}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string][]byte{"b": []byte("2")}, s.Snapshot()); diff != "" {
		t.Error(diff)
	}
	if s.Value("b") == nil || s.Value("a") != nil {
		t.Error("Value does not agree")
	}
}

func TestStatusTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": echo("p", "in")}}
		h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
		h.load("sub/a.toy", "p", "b#+.toy", "p")
		h.run()
		synctest.Wait()
		told := func(topic string) string {
			m, _ := h.bus.RetainedOn("$SYS/gatehouse/rules/" + topic)
			return string(m.Payload)
		}
		if got := told("sub/a.toy"); got != `{"file":"sub/a.toy","ok":true,"rules":["on in"]}` {
			t.Errorf("a good file: %s", got)
		}
		if got := told("b__.toy"); !strings.Contains(got, `"b#+.toy"`) {
			t.Errorf("a file whose name is no topic: %s", got)
		}
		if err := h.engine.Load(t.Context(), folder("sub/a.toy", "broken")); err == nil {
			t.Error("the broken file loads")
		}
		synctest.Wait()
		var p struct {
			File, Error  string
			OK           bool
			Line, Column int
			Rules        []string
		}
		if err := json.Unmarshal([]byte(told("sub/a.toy")), &p); err != nil || p.OK || p.Line != 1 || p.Column != 3 || len(p.Rules) != 1 || !strings.Contains(p.Error, "no program broken") {
			t.Errorf("a broken file: %+v (%v)", p, err)
		}
		if got := told("b__.toy"); got != "" {
			t.Errorf("a file that is gone: %s", got)
		}
		n := len(h.bus.Routed("$SYS/#"))
		if err := h.engine.Load(t.Context(), folder("sub/a.toy", "broken")); err == nil {
			t.Error("the broken file loads")
		}
		synctest.Wait()
		if again := len(h.bus.Routed("$SYS/#")); again != n {
			t.Errorf("what has not changed is told again: %d messages", again-n)
		}
		h.stop()
	})
}

func TestCheckTopicAndFilter(t *testing.T) {
	for filter, want := range map[string]string{
		"a/+/b/#": "", "#": "", "": "empty", "a/#/b": "not valid", "a+": "not valid", "$share/g/a": "shared", "a\x00": "not UTF-8",
		strings.Repeat("/", 200): "levels", strings.Repeat("x", 70_000): "longer",
	} {
		if err := rules.CheckFilter(filter); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("filter %.20q: %v, want %q", filter, err, want)
		}
	}
	for name, want := range map[string]string{
		"a/b": "", "": "empty", "a/+": "wildcards", "#": "wildcards", "\xff": "not UTF-8",
		"$SYS": "belongs to the broker", "$SYS/": "belongs", "$SYS/broker/version": "belongs",
		"$SYSTEM/a": "", "$sys/a": "", "a/$SYS": "", "/$SYS/a": "", "$other/a": "",
	} {
		if err := rules.CheckTopic(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("topic %q: %v, want %q", name, err, want)
		}
	}
}

func TestStateTakesManyChanges(t *testing.T) {
	s := rules.NewState(nil)
	var first, second []rules.StateChange
	for i := range rules.MaxStateKeys {
		old, fresh := fmt.Sprintf("old%d", i), fmt.Sprintf("new%d", i)
		first = append(first, rules.StateChange{Key: old, Value: []byte("1")}, rules.StateChange{Key: old, Value: []byte("2")})
		second = append(second, rules.StateChange{Key: old}, rules.StateChange{Key: fresh, Value: []byte("1")}, rules.StateChange{Key: fresh, Value: []byte("3")})
	}
	for _, changes := range [][]rules.StateChange{first, second} {
		if err := s.Apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Snapshot(); len(got) != rules.MaxStateKeys || string(got["new7"]) != "3" {
		t.Errorf("%d keys, new7=%s", len(got), got["new7"])
	}
	if err := s.Apply([]rules.StateChange{{Key: "new7"}, {Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("1")}}); err == nil {
		t.Error("one key too many was taken")
	}
}

// What a program remembers of a message that is acknowledged is kept with that, once for a
// batch; what it remembers of others waits.
func TestWhatIsRememberedOfAPromisedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		n, asked := 0, 0
		p := after("in", func(c rules.Call) rules.Outcome {
			n++
			return rules.Outcome{Save: c.Promised}
		})
		p.rules[0].QoS = message.AtLeastOnce
		p.rules = append(p.rules, rules.Rule{Name: "plain", Filters: []string{"plain"}, Hooks: []string{"hook"}})
		p.asked = func(put func(string, []byte)) { asked++; put("n", fmt.Append(nil, n)) }
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		wait(time.Minute) // what the start has done is kept
		k.lines()
		in := message.Message{Topic: "in", QoS: message.AtLeastOnce}
		h.publish(in, in, in)
		synctest.Wait()
		if diff := cmp.Diff([]string{"memory/a.toy/n=3"}, k.lines()); diff != "" || asked != 1 {
			t.Error(diff, asked)
		}
		h.publish(msg("in", ""), message.Message{Topic: "plain", QoS: message.AtLeastOnce})
		synctest.Wait()
		if lines := k.lines(); len(lines) > 0 {
			t.Errorf("messages that are not promised have kept %q", lines)
		}
		if err := h.engine.Hook(t.Context(), "hook", msg("", "")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"memory/a.toy/n=6"}, k.lines()); diff != "" {
			t.Error("after a webhook: " + diff)
		}
		h.stop()
	})
}

// Who calls a webhook is answered when what the rule did is kept, be it state alone.
func TestAWebhookIsAnsweredWhenItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		p := after("in", func(rules.Call) rules.Outcome {
			return rules.Outcome{State: []rules.StateChange{{Key: "n", Value: []byte("1")}}}
		})
		p.rules[0].Hooks = []string{"hook"}
		h := newHouse(t, rules.Options{Keeper: k, Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
		k.bus = h.bus
		h.load("a.toy", "p")
		h.run()
		wait(time.Minute)
		if err := h.engine.Hook(t.Context(), "hook", msg("", "")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"state/a.toy/n=1"}, k.lines()); diff != "" {
			t.Error(diff)
		}
		h.stop()
	})
}
