package exprlang_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/rulestest"
)

func manyRules(conditions ...string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i, c := range conditions {
		fmt.Fprintf(&b, "  - name: r%d\n    on: 'a/#'\n    if: |\n      %s\n    do: [{publish: out/%d}]\n", i, c, i)
	}
	return b.String()
}

// What a sieve leaves out would not have fired, nor have had an error; and it leaves out
// nearly all.
func TestSieveLeavesOutWhatDoesNotFire(t *testing.T) {
	all := []string{
		"payload.kind == 'a'", "payload.kind == 'b' && payload.n > 1", "'c' == payload.kind", "payload.kind == 1", "payload.kind == 1.5",
		"payload.kind == true", "payload.kind == false && payload.kind == 'a'", "payload.n != 3 && payload.kind == 'a'", "payload.n > 3 && payload.kind == 'a'",
		"payload.kind == 'a' || payload.n > 3", "payload.kind != 'a'", "not payload.kind", "payload.n == 3", "payload.kind == 'a' && payload.kind == 'b'",
		"payload.kind == 9007199254740993.0", "topic == 'a/b' && payload.kind == 'a'", "payload == 'plain'", "true",
	}
	random := rand.New(rand.NewPCG(5, 6))
	values := []string{`"a"`, `"b"`, `"c"`, "1", "1.0", "1.5", "15e-1", "true", "false", "null", "[1]", "{}", "3", "4", "9007199254740992"}
	left := 0
	for range 40 {
		random.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		p := compile(t, manyRules(all...))
		list := make([]int, len(all))
		for i := range list {
			list[i] = i
		}
		pick := p.(rules.Sieve).Sieve(list)
		if pick == nil {
			t.Fatal("no sieve")
		}
		payloads := []string{"plain", "", "{", strings.Repeat(" ", 1<<20) + "1"}
		for range 20 {
			payloads = append(payloads, fmt.Sprintf(`{"kind":%s,"n":%s}`, values[random.IntN(len(values))], values[random.IntN(len(values))]))
		}
		for _, payload := range payloads {
			m := &message.Message{Topic: []string{"a/b", "a/c"}[random.IntN(2)], Payload: []byte(payload)}
			picked := pick(m, nil)
			if !slices.IsSorted(picked) || len(slices.Compact(slices.Clone(picked))) != len(picked) {
				t.Fatalf("picked %v", picked)
			}
			for i := range all {
				out := p.Run(t.Context(), []rules.Call{{Rule: i, Message: m, Now: noon}})[0]
				if !slices.Contains(picked, i) {
					left++
					if out.Fired || out.Err != nil {
						t.Fatalf("%q of %.60q is left out, and came to %+v", all[i], payload, out)
					}
				}
			}
		}
	}
	if left < 4_000 {
		t.Errorf("only %d calls were left out", left)
	}
}

func TestSieveByTopic(t *testing.T) {
	for _, conditions := range [][]string{
		{"parts[1] == 'x' && payload.n > 1", "parts[1] == 'y'", "parts[1] == 'z'", "parts[1] == 'x'"},
		{"topic == 'a/x' && payload.n > 1", "topic == 'a/y'", "topic == 'a/z'", "topic == 'a/x'"},
	} {
		p := compile(t, manyRules(conditions...))
		pick := p.(rules.Sieve).Sieve([]int{0, 1, 2, 3})
		for topic, want := range map[string][]int{"a/x": {0, 3}, "a/z": {2}, "a/w": nil, "a": nil} {
			if diff := cmp.Diff(want, pick(&message.Message{Topic: topic}, nil)); diff != "" {
				t.Errorf("%s: %s", topic, diff)
			}
		}
	}
}

// No sieve is made where it would leave out what has a memory, or would leave out little.
func TestNoSieve(t *testing.T) {
	for name, source := range map[string]string{
		"nothing equal":    manyRules("payload.n > 1", "payload.n > 2", "payload.n > 3", "true"),
		"one only":         manyRules("payload.n == 1", "payload.m > 2", "payload.o > 3", "true"),
		"edges":            strings.ReplaceAll(manyRules("payload.k == 1", "payload.k == 2", "payload.k == 3", "payload.k == 4"), "    do:", "    value: payload.n\n    above: 5\n    do:"),
		"windows":          strings.ReplaceAll(manyRules("payload.k == 1", "payload.k == 2", "payload.k == 3", "payload.k == 4"), "    do:", "    windows: {w: {sum: payload.n}}\n    do:"),
		"what must hold":   strings.ReplaceAll(manyRules("payload.k == 1", "payload.k == 2", "payload.k == 3", "payload.k == 4"), "    do:", "    for: 5s\n    do:"),
		"another topic":    manyRules("state('x') == 1", "state('x') == 2", "state('x') == 3", "state('x') == 4"),
		"the previous one": manyRules("prev.k == 1", "prev.k == 2", "prev.k == 3", "prev.k == 4"),
	} {
		if compile(t, source).(rules.Sieve).Sieve([]int{0, 1, 2, 3}) != nil {
			t.Errorf("%s: there is a sieve", name)
		}
	}
}

// Through the engine: each rule has heard each message, and fires when it should, also
// when another file comes meanwhile.
func TestSieveInTheEngine(t *testing.T) {
	const kinds, turns = 20, 6
	var conditions []string
	for i := range kinds {
		conditions = append(conditions, fmt.Sprintf("payload.kind == 'k%d'", i))
	}
	e, err := rules.New(rules.Options{Languages: []rules.Language{exprlang.New()}, Limits: rules.Limits{Explained: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	folder := fstest.MapFS{"f.yaml": {Data: []byte(manyRules(conditions...))}}
	if err := e.Load(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	bus := &rulestest.Bus{Interceptor: e}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, bus) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, e.Close()); err != nil {
			t.Error(err)
		}
	}()
	<-e.Ready()
	for turn := range turns {
		if turn == turns/2 {
			folder["g.yaml"] = &fstest.MapFile{Data: []byte("rules:\n  - {name: g, on: 'a/#', do: [{publish: more}]}\n")}
			if err := e.Load(ctx, folder); err != nil {
				t.Fatal(err)
			}
		}
		for i := range kinds {
			if err := bus.Publish(ctx, message.Message{Topic: "a/b", Payload: fmt.Appendf(nil, `{"kind":"k%d"}`, i)}); err != nil {
				t.Fatal(err)
			}
		}
		bus.Await(ctx, "out/#", kinds*(turn+1))
	}
	if err := e.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	for i, r := range e.Status()[0].Rules {
		if c := r.Counters; c.Heard != kinds*turns || c.Fired != turns || c.Published != turns {
			t.Errorf("rule %d has %+v", i, c)
		}
		if len(r.Trace) > turns+1 {
			t.Errorf("rule %d was asked %d times", i, len(r.Trace))
		}
	}
}
