package rules_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// rewrite is a filter that appends its mark to the payload and may redirect.
func rewrite(filter, mark, topic string) toyProgram {
	return before(filter, rules.RejectOnError, func(c rules.Call) rules.Outcome {
		changed := *c.Message
		changed.Payload = []byte(string(c.Message.Payload) + mark)
		changed.Origin, changed.Hops = "client/forged", 7
		if topic != "" {
			changed.Topic = topic
		}
		return rules.Outcome{Fired: true, Verdict: message.Verdict{Action: message.Replace, Message: &changed}}
	})
}

func decide(filter string, v message.Verdict, err error) toyProgram {
	return before(filter, rules.RejectOnError, func(rules.Call) rules.Outcome {
		return rules.Outcome{Fired: err == nil, Verdict: v, Err: err}
	})
}

func tolerant(p toyProgram) toyProgram {
	p.rules[0].OnError = rules.PassOnError
	return p
}

func ranked(p toyProgram, priority int) toyProgram {
	p.rules[0].Priority = priority
	return p
}

// both is a file with the rules of two.
func both(a, b toyProgram) toyProgram {
	b.rules[0].Name += " too"
	return toyProgram{rules: append(a.rules, b.rules...), run: func(ctx context.Context, src rules.Source, c rules.Call) rules.Outcome {
		if c.Rule == 0 {
			return a.run(ctx, src, c)
		}
		return b.run(ctx, src, c)
	}}
}

func TestPipeline(t *testing.T) {
	programs := map[string]toyProgram{
		"mark-a": rewrite("in/#", "a", ""), "mark-b": rewrite("in/#", "b", ""), "mark-c": rewrite("new/#", "c", ""),
		"move":   rewrite("in/#", ">", "new/x"),
		"drop":   decide("#", message.Verdict{Action: message.Drop}, nil),
		"reject": decide("#", message.Verdict{Action: message.Reject, Reason: 0x87}, nil),
		"refuse": decide("#", message.Verdict{Action: message.Reject}, nil),
		"pass":   decide("#", message.Verdict{}, nil),
		"fail":   decide("#", message.Verdict{}, errors.New("threw")), "fail-pass": tolerant(decide("#", message.Verdict{}, errors.New("threw"))),
		"absent": decide("#", message.Verdict{}, rules.ErrNotEvaluated), "absent-pass": tolerant(decide("#", message.Verdict{}, rules.ErrNotEvaluated)),
		"bad-topic": rewrite("in/#", "", "a/#"), "bad-topic-pass": tolerant(rewrite("in/#", "", "a/#")),
		"mark-first": ranked(rewrite("in/#", "1", ""), 10), "mark-last": ranked(rewrite("in/#", "9", ""), -1),
		"mark-both": both(ranked(rewrite("in/#", "2", ""), 5), rewrite("in/#", "8", "")), "move-first": ranked(rewrite("in/#", ">", "new/x"), 7),
		"nothing":   decide("in/#", message.Verdict{Action: message.Replace}, nil),
		"publishes": before("#", rules.RejectOnError, func(rules.Call) rules.Outcome { return publish("x", "") }),
		"panics":    before("#", rules.RejectOnError, func(rules.Call) rules.Outcome { panic("oops") }),
	}
	for _, c := range []struct{ name, files, want string }{
		{"no rule", "", "pass"},
		{"pass", "pass", "pass"},
		{"one after the other, by file name", "mark-b mark-a", "in/x ba"},
		{"the new topic's rules that come later", "move mark-c mark-a", "new/x >c"},
		{"not those that came before", "mark-c move", "new/x >"},
		{"a higher priority comes first", "mark-last mark-a mark-first mark-b", "in/x 1ab9"},
		{"two of one file, apart", "mark-a mark-both mark-first", "in/x 12a8"},
		{"the new topic's rules of a lower one", "mark-c mark-a move-first mark-first", "new/x 1>c"},
		{"drop ends it", "mark-a drop mark-b", "drop"},
		{"reject ends it", "mark-a reject drop", "reject 0x87"},
		{"reject without a reason", "refuse", "reject 0x83"},
		{"an error rejects", "mark-a fail mark-b", "reject 0x83"},
		{"an error passes", "mark-a fail-pass mark-b", "in/x ab"},
		{"not evaluated rejects", "absent", "reject 0x83"},
		{"not evaluated passes", "absent-pass mark-b", "in/x b"},
		{"a bad topic rejects", "bad-topic", "reject 0x83"},
		{"a bad topic passes", "bad-topic-pass mark-a", "in/x a"},
		{"a replacement by nothing", "nothing", "reject 0x83"},
		{"a filter cannot publish", "publishes", "reject 0x83"},
		{"a panic rejects", "panics", "reject 0x83"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: programs}}})
			var files []string
			for i, program := range strings.Fields(c.files) {
				files = append(files, fmt.Sprintf("%d.toy", i), program)
			}
			h.load(files...)
			in := msg("in/x", "")
			in.Origin, in.Hops = "client/me", 2
			verdicts := h.engine.Intercept(t.Context(), []message.Message{in})
			got := "pass"
			if verdicts != nil {
				got = describe(t, verdicts[0])
			}
			if got != c.want {
				t.Errorf("it came to %q, want %q", got, c.want)
			}
		})
	}
}

func describe(t *testing.T, v message.Verdict) string {
	t.Helper()
	if v.Action != message.Pass && v.By == "" {
		t.Errorf("nobody decided on %+v", v)
	}
	switch v.Action {
	case message.Drop:
		return "drop"
	case message.Reject:
		return fmt.Sprintf("reject 0x%02x", v.Reason)
	case message.Replace:
		if v.Message.Origin != "client/me" || v.Message.Hops != 2 {
			t.Errorf("origin %q and hops %d are forged", v.Message.Origin, v.Message.Hops)
		}
		return v.Message.Topic + " " + string(v.Message.Payload)
	case message.Pass:
	}
	return "pass"
}

func TestFiltersOfOneFileJudgeByTheirNames(t *testing.T) {
	var order []string
	p := toyProgram{
		rules: []rules.Rule{
			{Name: "c", Stage: rules.Before, Filters: []string{"#"}},
			{Name: "a", Stage: rules.Before, Filters: []string{"in", "+", "#"}},
			{Name: "after", Filters: []string{"#"}},
			{Name: "b", Stage: rules.Before, Filters: []string{"in"}},
		},
		run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
			order = append(order, []string{"c", "a", "after", "b"}[c.Rule])
			return rules.Outcome{}
		},
	}
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
	h.load("x.toy", "p")
	h.engine.Intercept(t.Context(), []message.Message{msg("in", "")})
	if diff := cmp.Diff([]string{"a", "b", "c"}, order); diff != "" {
		t.Error(diff)
	}
}

// countingLanguage notes how many calls each Run had.
type countingLanguage struct {
	toy
	mu   sync.Mutex
	runs []int
}

func (l *countingLanguage) Compile(ctx context.Context, src rules.Source) (rules.Program, error) {
	p, err := l.toy.Compile(ctx, src)
	return countingProgram{p, l}, err
}

type countingProgram struct {
	rules.Program
	lang *countingLanguage
}

func (p countingProgram) Run(ctx context.Context, calls []rules.Call) []rules.Outcome {
	p.lang.mu.Lock()
	p.lang.runs = append(p.lang.runs, len(calls))
	p.lang.mu.Unlock()
	return p.Program.Run(ctx, calls)
}

func TestABatchIsOneRunOfAProgram(t *testing.T) {
	two := toyProgram{
		rules: []rules.Rule{{Name: "a", Stage: rules.Before, Filters: []string{"in/a"}}, {Name: "b", Stage: rules.Before, Filters: []string{"in/b"}}},
		run:   func(context.Context, rules.Source, rules.Call) rules.Outcome { return rules.Outcome{} },
	}
	lang := &countingLanguage{toy: toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"two": two}}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "two")
	var batch []message.Message
	for i := range 32 {
		batch = append(batch, msg([]string{"in/a", "in/b", "in/c", "other"}[i%4], ""))
	}
	h.engine.Intercept(t.Context(), batch)
	if diff := cmp.Diff([]int{16}, lang.runs); diff != "" {
		t.Error(diff)
	}
}

func TestVerdictsStandInTheOrderOfTheMessages(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"mark": rewrite("in/#", "!", "")}}}})
	h.load("a.toy", "mark")
	verdicts := h.engine.Intercept(t.Context(), []message.Message{msg("x", "0"), msg("in/a", "1"), msg("y", "2"), msg("in/b", "3")})
	var got []string
	for _, v := range verdicts {
		if v.Message == nil {
			got = append(got, "pass")
			continue
		}
		got = append(got, v.Message.Topic+string(v.Message.Payload))
	}
	if diff := cmp.Diff([]string{"pass", "in/a1!", "pass", "in/b3!"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestInterceptWhileReloading(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"a": rewrite("in/#", "a", ""), "b": rewrite("in/+", "b", "")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("x.toy", "a")
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := h.engine.Intercept(t.Context(), []message.Message{msg("in/x", ""), msg("in/y", "")})
				if len(v) != 2 || string(v[0].Message.Payload) != string(v[1].Message.Payload) {
					t.Errorf("one batch is judged by two versions: %+v", v)
					return
				}
			}
		})
	}
	for i := range 100 {
		h.load(fmt.Sprintf("%c.toy", 'a'+i%3), []string{"a", "b"}[i%2]+fmt.Sprint("\n", i))
	}
	close(stop)
	group.Wait()
	if err := h.engine.Close(); err != nil {
		t.Error(err)
	}
}

func TestATopicThatNoRuleHearsCostsNoAllocation(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"a": rewrite("in/#", "a", ""), "b": rewrite("in/+/b/c", "b", ""), "c": rewrite("+/other", "c", ""),
	}}}})
	h.load("a.toy", "a", "b.toy", "b", "c.toy", "c")
	batch := []message.Message{msg("home/hall/door", "{}"), msg("plant/press/temperature", "1"), msg("客厅", "")}
	if n := testing.AllocsPerRun(1_000, func() {
		if h.engine.Intercept(t.Context(), batch) != nil {
			t.Fatal("it is heard")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestARuleHearsAMessageOnce has filters with and without wildcards that match the same.
func TestARuleHearsAMessageOnce(t *testing.T) {
	calls := make(map[string]int)
	p := toyProgram{run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
		calls[fmt.Sprint(c.Rule, " ", c.Message.Topic)]++
		return rules.Outcome{}
	}}
	for _, filters := range [][]string{{"a/b", "a/+", "a/b", "#"}, {"a/c"}, {"a/b"}} {
		p.rules = append(p.rules, rules.Rule{Name: fmt.Sprint(len(p.rules)), Stage: rules.Before, Filters: filters})
	}
	e, err := rules.New(rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": p}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(t.Context(), folder("a.toy", "p")); err != nil {
		t.Fatal(err)
	}
	e.Intercept(t.Context(), []message.Message{msg("a/b", ""), msg("a/c", ""), msg("a/d", "")})
	want := map[string]int{"0 a/b": 1, "0 a/c": 1, "0 a/d": 1, "1 a/c": 1, "2 a/b": 1}
	if !maps.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkIntercept(b *testing.B) {
	e, err := rules.New(rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"pass": decide("in/#", message.Verdict{}, nil),
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Load(b.Context(), folder("a.toy", "pass")); err != nil {
		b.Fatal(err)
	}
	for name, topic := range map[string]string{"unheard": "home/hall/door", "heard": "in/a"} {
		b.Run(name, func(b *testing.B) { benchIntercept(b, e, topic) })
	}
	b.Run("unheard/rules=1000", func(b *testing.B) { benchIntercept(b, thousand(b), "home/hall/door") })
}

func benchIntercept(b *testing.B, e *rules.Engine, topic string) {
	batch := []message.Message{msg(topic, "{}")}
	b.ReportAllocs()
	for b.Loop() {
		if e.Hears(topic) {
			e.Intercept(b.Context(), batch)
		}
	}
}

// thousand is an engine with 1,000 filters, of which none hears home/hall/door, though
// half of them hear topics beside it.
func thousand(t testing.TB) *rules.Engine {
	t.Helper()
	var p toyProgram
	for i := range 1_000 {
		filter := []string{fmt.Sprintf("home/%d/door", i), fmt.Sprintf("plant/+/%d", i)}[i%2]
		p.rules = append(p.rules, rules.Rule{Name: fmt.Sprint(i), Stage: rules.Before, Filters: []string{filter}})
	}
	p.run = func(context.Context, rules.Source, rules.Call) rules.Outcome { return rules.Outcome{} }
	e, err := rules.New(rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"many": p}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(t.Context(), folder("a.toy", "many")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestATopicThatNoneOfAThousandRulesHearsCostsNoAllocation(t *testing.T) {
	e := thousand(t)
	batch := []message.Message{msg("home/hall/door", "{}")}
	if !e.Hears("home/2/door") || e.Hears("home/hall/door") {
		t.Fatal("the rules hear something else")
	}
	if n := testing.AllocsPerRun(1_000, func() {
		if e.Hears("home/hall/door") || e.Intercept(t.Context(), batch) != nil {
			t.Fatal("it is heard")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
