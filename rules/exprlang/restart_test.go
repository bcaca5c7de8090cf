package exprlang_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/rules"
)

// ruleMaker makes rules of all kinds that there are.
type ruleMaker struct {
	t    *rapid.T
	name string
	n    int
}

func (m *ruleMaker) pick(what string, of ...string) string {
	return rapid.SampledFrom(of).Draw(m.t, what)
}

func (m *ruleMaker) span() string {
	return fmt.Sprintf("%dms", rapid.SampledFrom([]int{1, 500, 1000, 1700, 3000, 7000}).Draw(m.t, "span"))
}

// steps is a list of steps in one line.
func (m *ruleMaker) steps(depth int) string {
	var all []string
	for range rapid.IntRange(1, 3).Draw(m.t, "steps") {
		all = append(all, m.step(depth))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func (m *ruleMaker) step(depth int) string {
	m.n++
	kinds := []string{"publish", "publish", "wait", "until", "set", "fail", "http", "log"}
	if depth > 0 {
		kinds = append(kinds, "if", "repeat", "while", "parallel", "call", "planned")
	}
	switch kind := m.pick("kind", kinds...); kind {
	case "publish":
		return fmt.Sprintf(`{publish: "%s/%d/${parts[1]}", payload: "${payload} ${turn ?? '-'} ${with.x ?? '-'} ${vars.%s ?? '-'} ${timed_out ?? '-'}"}`, m.name, m.n, m.name)
	case "wait":
		return "{wait: " + m.span() + "}"
	case "until":
		return fmt.Sprintf(`{wait: {until: "payload %s trigger.payload", on: "in/+", timeout: %s, else: %s}}`,
			m.pick("compare", "==", ">", "!="), m.span(), m.pick("else", "stop", "continue"))
	case "set":
		return fmt.Sprintf(`{set: {%s: "(vars.%s ?? 0) + 1"}}`, m.name, m.name)
	case "fail":
		return fmt.Sprintf(`{publish: "%s/${payload == %d ? nil : 1}", on_error: %s}`, m.name, rapid.IntRange(0, 9).Draw(m.t, "bad"), m.plan(0))
	case "http":
		return fmt.Sprintf(`{http: {url: "http://h/%d"}, on_error: %s}`, m.n, m.plan(0))
	case "log":
		return fmt.Sprintf("{log: %d}", m.n)
	case "if":
		return fmt.Sprintf("{if: payload > %d, then: %s, else: %s}", rapid.IntRange(0, 3).Draw(m.t, "more"), m.steps(depth-1), m.steps(depth-1))
	case "repeat":
		return fmt.Sprintf("{repeat: {times: %d, do: %s}}", rapid.IntRange(0, 3).Draw(m.t, "times"), m.steps(depth-1))
	case "while":
		return fmt.Sprintf("{repeat: {%s: turn %s 1, do: %s}}", "until", ">=", m.steps(depth-1))
	case "parallel":
		return fmt.Sprintf("{parallel: [%s, %s]}", m.steps(depth-1), m.steps(depth-1))
	case "call":
		return "{call: called, with: {x: payload * 2}}"
	default:
		return fmt.Sprintf("{repeat: {times: 1, do: %s}, on_error: %s}", m.steps(depth-1), m.plan(depth-1))
	}
}

func (m *ruleMaker) plan(depth int) string {
	switch m.pick("plan", "stop", "continue", "retry", "do") {
	case "continue":
		return "continue"
	case "retry":
		return "{retry: 2, pause: " + m.span() + ", then: continue}"
	case "do":
		return "{do: " + m.steps(depth) + "}"
	}
	return "stop"
}

// rule makes one rule. A power cut loses what debounce, throttle and silent heard since
// they were saved, if nobody promised to keep it: so sure leaves these out.
func (m *ruleMaker) rule(sure bool) string {
	keys := []string{"", "", "for: 2s", "once: true"}
	if !sure {
		keys = append(keys, "debounce: 1500ms", "throttle: 2s", "silent: 4s")
	}
	head := fmt.Sprintf("name: %s, on: 'in/+', if: payload > 0, mode: %s", m.name, m.pick("mode", "single", "restart", "queued, max: 2", "parallel, max: 2"))
	if key := m.pick("key", keys...); key != "" {
		head += ", " + key
	}
	if rapid.Bool().Draw(m.t, "by key") {
		head += ", key: 'parts[1]'"
	}
	return "  - {" + head + ", do: " + m.steps(2) + "}\n"
}

// Whatever rules say, whatever comes, and wherever the process ends: from outside it is
// as if it had not.
func TestAnyRestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cuts, promised := rapid.Bool().Draw(t, "power cuts"), rapid.Bool().Draw(t, "promised")
		source := "rules:\n  - {name: called, if: payload != 2, do: [{publish: \"called/${with.x}\"}, {wait: 700ms}, {publish: \"back/${with.x}\"}]}\n" +
			"  - {name: caller, on: never, do: [{call: called}]}\n"
		for i := range rapid.IntRange(1, 3).Draw(t, "rules") {
			source += (&ruleMaker{t: t, name: fmt.Sprintf("r%d", i)}).rule(cuts && !promised)
		}
		steady, shaken := newStandIn(t, source), newStandIn(t, source)
		shaken.promised = promised
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			event := ""
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				event = fmt.Sprintf("in/%s %d", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"), rapid.IntRange(0, 4).Draw(t, "payload"))
			case 2:
				event = "reply"
			}
			span := time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond
			for _, s := range []*standIn{steady, shaken} {
				switch {
				case event == "":
					s.advance(span)
				case event != "reply":
					s.hear(event)
				case len(s.asked) > 0:
					s.reply(rules.Reply{Status: 200, Body: []byte("fine"), Err: ""})
				}
			}
			if rapid.IntRange(0, 2).Draw(t, "restart") == 0 {
				shaken.restart(0, cuts)
			}
			same(t, steady, shaken)
		}
		for _, s := range []*standIn{steady, shaken} {
			s.advance(time.Hour)
		}
		same(t, steady, shaken)
	})
}

// same compares what two have done. What happens at one moment has no order.
func same(t *rapid.T, steady, shaken *standIn) {
	t.Helper()
	slices.Sort(steady.did)
	slices.Sort(shaken.did)
	if !slices.Equal(steady.did, shaken.did) || len(steady.timers) != len(shaken.timers) || len(steady.asked) != len(shaken.asked) {
		t.Fatalf("%s\nwithout a restart it did %q (%d timers, %d requests),\nwith one %q (%d, %d)", steady.source,
			steady.did, len(steady.timers), len(steady.asked), shaken.did, len(shaken.timers), len(shaken.asked))
	}
	steady.did, shaken.did = nil, nil
}

// Modes keep their maximum, and every run that begins ends once, over restarts that take
// any time.
func TestModesKeepTheirMaximum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]string{"single", "restart", "queued", "parallel"}).Draw(t, "mode")
		most, extra := 1, ""
		if mode == "queued" || mode == "parallel" {
			extra = ", max: 3"
		}
		if mode == "parallel" {
			most = 3
		}
		s := newStandIn(t, "rules:\n  - {name: r, on: in, missed: run, mode: "+mode+extra+
			", do: [{publish: begin, payload: \"${payload}\"}, {wait: 5s}, {publish: middle}, {wait: 2s}, {publish: end, payload: \"${payload}\"}]}\n")
		open, sent, refused := map[string]int{}, 0, 0
		look := func() {
			for _, did := range s.did {
				verb, id, _ := strings.Cut(did, " ")
				switch verb {
				case "begin":
					if mode == "restart" {
						clear(open)
					}
					open[id]++
					sent--
				case "end":
					if open[id] != 1 {
						t.Fatalf("%s ended %d times", id, 2-open[id])
					}
					delete(open, id)
				case "refused:":
					refused++
					sent--
				case "middle":
				default:
					t.Fatalf("it did %q", did)
				}
				if len(open) > most {
					t.Fatalf("mode %s has %d runs", mode, len(open))
				}
			}
			s.did = nil
		}
		for n := range rapid.IntRange(1, 30).Draw(t, "events") {
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0, 1:
				before := len(open)
				sent++
				s.hear(fmt.Sprintf("in %d", n))
				if before == 0 && !strings.HasPrefix(s.did[0], "begin") {
					t.Fatalf("nothing was on its way, but it did %q", s.did)
				}
			case 2:
				s.advance(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			case 3:
				s.restart(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "down"))*time.Millisecond, rapid.Bool().Draw(t, "cut"))
			}
			look()
		}
		s.advance(time.Hour)
		look()
		if len(open) > 0 || sent != 0 || len(s.timers) > 0 {
			t.Fatalf("%d runs never ended, %d never began (%d refused), %d timers stand", len(open), sent, refused, len(s.timers))
		}
	})
}
