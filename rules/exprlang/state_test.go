package exprlang_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

// watchOf is the index of the rule that hears what state() names.
func watchOf(p rules.Program) int {
	return slices.IndexFunc(p.Rules(), func(r rules.Rule) bool { return r.Stage == rules.Watch })
}

// tell has the program hear what stands on topics: topic, payload, topic, payload ...
func tell(t testing.TB, p rules.Program, pairs ...string) {
	t.Helper()
	watch := watchOf(p)
	if watch < 0 {
		t.Fatal("nothing is watched")
	}
	for i := 0; i < len(pairs); i += 2 {
		m := &message.Message{Topic: pairs[i], Payload: []byte(pairs[i+1])}
		out := p.Run(t.Context(), []rules.Call{{Rule: watch, Message: m, Now: noon}})[0]
		if out.Fired || out.Err != nil || len(out.Publish) > 0 {
			t.Fatalf("the watch rule came to %+v", out)
		}
	}
}

func TestStateOfTopics(t *testing.T) {
	told := []string{
		"home/hall/door", `{"open":true,"n":1.50,"list":[{"a":1}],"big":12345678901234567890}`,
		"home/kitchen/door", `{"open":false}`, "home/hall/mode", "away", "home/hall/temp", "21.5", "n/7", `"seven"`,
		"gone", "x", "gone", "", "home/two/levels/door", `{"open":true}`,
	}
	for _, c := range []struct{ condition, payload, want string }{
		{`state("home/hall/door").open`, `{}`, "yes"},
		{`state("home/kitchen/door").open`, `{}`, "no"},
		{`state("home/hall/door").list[0].a == 1`, `{}`, "yes"},
		{`state("home/hall/door").list[1].a == 1`, `{}`, "no"},
		{`state("home/hall/door")["n"] == 1.5`, `{}`, "yes"},
		{`state("home/hall/mode") == "away"`, `{}`, "yes"},
		{`state("home/hall/temp") > 20`, `{}`, "yes"},
		{`state("home/hall/temp") > payload.c`, `{"c":22}`, "no"},
		{`state("home/hall/nothing").open`, `{}`, "no"},
		{`state("home/hall/nothing") == nil`, `{}`, "yes"},
		{`state("home/hall/nothing") > 1`, `{}`, "?"},
		{`state("home/hall/door") | len() == 4`, `{}`, "yes"},
		{`state("gone") == nil`, `{}`, "yes"},
		{`state("home/" + parts[1] + "/door").open`, `{}`, "yes"},
		{`state("home/" + payload.room + "/door").open`, `{"room":"kitchen"}`, "no"},
		{`state("home/" + payload.room + "/door").open`, `{"room":"hall"}`, "yes"},
		{`state("home/" + payload.room + "/door").open`, `{"room":"two/levels"}`, "no"},
		{`state("home/" + payload.room + "/door").open`, `{}`, "no"},
		{`state("n/" + string(payload.n)) == "seven"`, `{"n":7}`, "yes"},
		{`state("n/" + payload.n) == "seven"`, `{"n":7}`, "yes"},
		{`state(parts[0] + "/" + parts[1] + "/door").open`, `{}`, "yes"},
		{`state("home/" + (payload.room ?? "hall") + "/door").open && state("home/hall/temp") == 21.5`, `{}`, "yes"},
		{`state("home/" + state("n/" + payload.n + "") + "/x") == nil`, `{"n":7}`, "yes"},
		{`let d = state("home/hall/door"); d.open && d.n == 1.5`, `{}`, "yes"},
		{`any(payload.rooms, # == state("home/hall/mode"))`, `{"rooms":["in","away"]}`, "yes"},
	} {
		t.Run(c.condition+c.payload, func(t *testing.T) {
			p := compile(t, ruleIf(c.condition))
			for i := 0; i < len(told); i += 2 { // as the engine: what no filter matches is not told
				watch := p.Rules()[watchOf(p)]
				if slices.ContainsFunc(watch.Filters, func(f string) bool { return matches(f, told[i]) }) {
					tell(t, p, told[i], told[i+1])
				}
			}
			if got := verdict(ask(t, p, "home/hall/x", c.payload, "-")); got != c.want {
				t.Errorf("it came to %q, want %q", got, c.want)
			}
		})
	}
}

// What is told out of order does not take the place of what came later, nor of what took it
// away.
func TestStateOfTopicsOutOfOrder(t *testing.T) {
	p := compile(t, ruleIf(`state("a") == "new"`))
	watch := func(topic, payload string, order uint64) {
		m := &message.Message{Topic: topic, Payload: []byte(payload), Order: order}
		p.Run(t.Context(), []rules.Call{{Rule: watchOf(p), Message: m, Now: noon}})
	}
	long := strings.Repeat("x", 256<<10+1)
	for _, c := range []struct {
		name, payload string
		order         uint64
		want          string
	}{
		{"one of which nobody knows when it came", "new", 0, "yes"},
		{"another one", "old", 0, "no"},
		{"one that has an order", "new", 5, "yes"},
		{"one before it", "old", 4, "yes"},
		{"one of which nobody knows when it came, again", "old", 0, "yes"},
		{"one after it", "old", 7, "no"},
		{"that which was there before", "new", 5, "no"},
		{"one in between", "new", 6, "no"},
		{"the next", "new", 8, "yes"},
		{"none", "", 10, "no"},
		{"one before there was none", "new", 9, "no"},
		{"one after that", "new", 11, "yes"},
		{"one that is too long", long, 13, "no"},
		{"one before that", "new", 12, "no"},
		{"one that is not", "new", 14, "yes"},
	} {
		watch("a", c.payload, c.order)
		if got := verdict(ask(t, p, "home/hall/x", `{}`, "-")); got != c.want {
			t.Errorf("%s: it came to %q, want %q", c.name, got, c.want)
		}
	}
}

// What was taken away takes no place from what is there.
func TestStateOfTopicsThatAreGone(t *testing.T) {
	p := compile(t, ruleIf(`state("home/" + payload.room) == "on"`))
	order := uint64(0)
	watch := func(topic, payload string) {
		order++
		m := &message.Message{Topic: topic, Payload: []byte(payload), Order: order}
		p.Run(t.Context(), []rules.Call{{Rule: watchOf(p), Message: m, Now: noon}})
	}
	for i := range 10_000 {
		watch(fmt.Sprintf("home/%d", i), "on")
	}
	for i := range 5_000 {
		watch(fmt.Sprintf("home/gone%d", i), "")
	}
	for _, room := range []string{"0", "9999"} {
		if got := verdict(ask(t, p, "home/hall/x", fmt.Sprintf(`{"room":%q}`, room), "-")); got != "yes" {
			t.Errorf("room %s: it came to %q", room, got)
		}
	}
}

// What each rule has for itself may be a part of the topic.
func TestStateOfTopicsThatARuleNames(t *testing.T) {
	const rule = "  - {name: %s, on: x, windows: {w: {sum: %s, last: 1}}, do: [{publish: out, payload: '${state(\"a/\" + windows.w)}'}]}\n"
	p := compile(t, "rules:\n"+fmt.Sprintf(rule, "one", "1")+fmt.Sprintf(rule, "two", "2"))
	tell(t, p, "a/1", `"of one"`, "a/2", `"of two"`)
	for i, want := range []string{`of one`, `of two`} {
		out := p.Run(t.Context(), []rules.Call{{Rule: i, Message: &message.Message{Topic: "x"}, Now: noon}})[0]
		if len(out.Publish) != 1 || string(out.Publish[0].Payload) != want {
			t.Errorf("rule %d came to %+v, want %s", i, out, want)
		}
	}
}

func matches(filter, name string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	return len(f) == len(n) && !slices.ContainsFunc(slices.Collect(func(yield func(int) bool) {
		for i := range f {
			if !yield(i) {
				return
			}
		}
	}), func(i int) bool { return f[i] != "+" && f[i] != n[i] })
}

func TestStateIsWatchedOnce(t *testing.T) {
	p := compile(t, `
rules:
  - {name: state(), on: x, if: state("a/b").c || state("a/b").d, do: [{publish: y, payload: "${state('a/' + parts[0] + '/c')}"}]}
filters:
  - {name: f, on: x, drop: 'state("a/b") == 1 || state("d/" + payload.a)'}
`)
	all := p.Rules()
	watch := all[watchOf(p)]
	if diff := cmp.Diff([]string{"a/b", "a/+/c", "d/+"}, watch.Filters); diff != "" {
		t.Error(diff)
	}
	if watchOf(p) != 2 || watch.Name == "" || watch.Name == all[0].Name || watch.Line == 0 {
		t.Errorf("the watch rule is %+v", watch)
	}
	if i := watchOf(compile(t, ruleIf("payload.a"))); i >= 0 {
		t.Error("a file without state() watches")
	}
}

// The digits of a number in a state come out as they went in, and the newest payload
// counts.
func TestStateKeepsDigitsAndFollows(t *testing.T) {
	p := compile(t, "rules:\n  - {name: r, on: x, do: [{publish: y, payload: {a: \"${state('s').n}\", b: \"${state('s')}\"}}]}\n")
	for _, n := range []string{"1.50", "12345678901234567890", "7"} {
		tell(t, p, "s", `{"n":`+n+`}`)
		want := fmt.Sprintf(`{"a":%s,"b":{"n":%s}}`, n, n)
		if got := string(ask(t, p, "x", "", "-").Publish[0].Payload); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestStateIsBounded(t *testing.T) {
	p := compile(t, ruleIf(`state("s/" + payload.n) != nil`))
	there := func(n string) bool { return verdict(ask(t, p, "x", `{"n":"`+n+`"}`, "-")) == "yes" }
	for i := range 10_001 {
		tell(t, p, fmt.Sprint("s/", i), "1")
	}
	if there("0") || !there("1") || !there("10000") {
		t.Error("not the oldest one is forgotten")
	}
	tell(t, p, "s/1", "2") // is the newest again
	large := strings.Repeat("x", 256<<10)
	for i := range 15 {
		tell(t, p, fmt.Sprint("s/large", i), large)
	}
	tell(t, p, "s/large15", large[:250<<10])
	if there("2") || there("5000") || !there("1") || !there("large0") {
		t.Error("it is not bounded by its bytes")
	}
	tell(t, p, "s/large0", large+"x")
	if there("large0") {
		t.Error("a payload that is too long leaves the one before")
	}
}

func TestStateDoesNotKeepWhatLongPayloadsTook(t *testing.T) {
	p := compile(t, ruleIf(`state("s/" + payload.n) != nil`))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	long := strings.Repeat("x", 250<<10)
	for i := range 200 {
		name := fmt.Sprint("s/", i)
		tell(t, p, name, long)
		tell(t, p, name, "1")
	}
	if grown := int64(heap()) - int64(before); grown > 20<<20 {
		t.Errorf("200 short payloads take %d bytes", grown)
	}
	runtime.KeepAlive(p)
}

func TestRefusedStates(t *testing.T) {
	for condition, want := range map[string]string{
		`state().x`:                                 "5:7: state wants one topic",
		`state("a", "b")`:                           "5:7: state wants one topic",
		`state("a/+/b").x`:                          "5:13: state wants a topic, without wildcards",
		`state("").x`:                               "5:13: topic filter is empty",
		`state(payload.x)`:                          "of which a part is written",
		`state("a" + parts[1])`:                     `must be a whole level of the topic, between slashes: this one would be heard as "a+"`,
		`state("a/" + parts[1] + "b")`:              `heard as "a/+b"`,
		`state("a/" + parts[1] + parts[2])`:         `heard as "a/++"`,
		`state("a/" + topic)`:                       "the topic has several levels",
		`any(payload.x, state("a/" + #))`:           "cannot be made of an element of a list",
		`any(payload.x, state("a/" + .y))`:          "cannot be made of an element of a list",
		`let r = parts[1]; state("a/" + r)`:         `cannot be made of "r"`,
		`state("a/" + paylod.x)`:                    `unknown name "paylod"`,
		`state("a/" + repeat(payload.x))`:           "not enough arguments",
		`payload.a && state("a/" + parts[1] + "b")`: "",
		`state("a").x()`:                            "has no functions",
	} {
		if _, err := compileOnly(ruleIf(condition)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "t.yaml:5:") {
			t.Errorf("%s: %v, want %s", condition, err, want)
		}
	}
}

func TestVariables(t *testing.T) {
	state := rules.NewState(map[string][]byte{"count": []byte("3"), "house": []byte(`{"mode":"away","n":1.50}`), "odd key": []byte("true")})
	for _, c := range []struct{ condition, want string }{
		{"vars.count == 3", "yes"},
		{"vars.count + 1 > payload.n", "yes"},
		{"vars.house.mode == 'away'", "yes"},
		{"vars['odd key']", "yes"},
		{"vars[payload.key] == 3", "yes"},
		{"vars.nothing", "no"},
		{"vars.nothing > 1", "?"},
		{"vars.count.x == nil", "yes"},
		{"len(vars) == 3", "yes"},
	} {
		p, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(ruleIf(c.condition)), State: state})
		if err != nil {
			t.Fatal(err)
		}
		if got := verdict(ask(t, p, "a", `{"n":3,"key":"count"}`, "-")); got != c.want {
			t.Errorf("%s came to %s, want %s", c.condition, got, c.want)
		}
		if got := verdict(ask(t, compile(t, ruleIf(c.condition)), "a", `{"n":3,"key":"count"}`, "-")); got == "yes" && c.condition != "vars.count.x == nil" {
			t.Errorf("%s without a state came to %s", c.condition, got)
		}
	}
}

// A variable that changes between two rules of one message is read anew.
func TestVariablesAreFleeting(t *testing.T) {
	state := rules.NewState(nil)
	p, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(ruleIf("(vars.n ?? 0) + (vars.n ?? 0) == 2")), State: state})
	if err != nil {
		t.Fatal(err)
	}
	call := rules.Call{Message: &message.Message{Topic: "a"}, Now: noon}
	for n, want := range []bool{false, true, false} {
		if err := state.Apply([]rules.StateChange{{Key: "n", Value: fmt.Append(nil, n)}}); err != nil {
			t.Fatal(err)
		}
		if out := p.Run(t.Context(), []rules.Call{call})[0]; out.Fired != want || errors.Is(out.Err, rules.ErrNotEvaluated) {
			t.Errorf("with %d it came to %+v", n, out)
		}
	}
}

// Filters read what stands on topics while it is heard.
func TestStateIsReadByFiltersMeanwhile(t *testing.T) {
	p := compile(t, "filters:\n  - {name: f, on: x, drop: 'state(\"s\").list[2].n == 3'}\n")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				ask(t, p, "x", "1", "-")
			}
		})
	}
	for range 200 {
		tell(t, p, "s", `{"list":[1,2,{"n":3}]}`)
	}
	all.Wait()
	if ask(t, p, "x", "1", "-").Verdict.Action != message.Drop {
		t.Error("the state is not read")
	}
}

// A new version of a file still knows what was heard, if it still hears that.
func TestStateOutlivesAVersion(t *testing.T) {
	state := rules.NewState(nil)
	version := func(condition string) rules.Program {
		t.Helper()
		p, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(ruleIf(condition)), State: state})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	start := func(p rules.Program) rules.Program {
		p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Now: noon}})
		return p
	}
	first := start(version(`state("a/x") == 1 && state("b/c/" + payload.n) == 2`))
	tell(t, first, "a/x", "1", "b/c/d", "2")
	broken, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(ruleIf(`state("z") == 1 &&`)), State: state})
	if err == nil {
		t.Fatal(broken)
	}
	version(`state("z") == 1`) // never comes into force
	if got := verdict(ask(t, first, "x", `{"n":"d"}`, "-")); got != "yes" {
		t.Errorf("the version in force came to %q", got)
	}
	second := start(version(`payload.n == "d" && state("a/" + parts[0]) == 1`))
	if got := verdict(ask(t, second, "x", `{"n":"d"}`, "-")); got != "yes" {
		t.Errorf("the next version came to %q", got)
	}
	start(version("true"))
	if got := verdict(ask(t, start(version(`state("a/x") == nil`)), "x", "", "-")); got != "yes" {
		t.Error("what was not heard for a version stands")
	}
}
