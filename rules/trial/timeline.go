package trial

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// What a timeline shows at most: the last that happened, of each run the first facts, and
// some of the rules to which nothing did.
const (
	mostHappened = 60
	mostFacts    = 10
	mostIdle     = 20
)

// timeline notes what happens in a world, the last of it.
type timeline struct {
	mu   sync.Mutex
	last []happened // a ring, once it is full
	next int
	gone int // that were forgotten
}

// happened is the beginning of a step, or a run.
type happened struct {
	routed int // messages, by then
	at     time.Time
	step   *step // nil: it is a run
	run    rules.Ran
}

func (l *timeline) begin(w *World, s step) {
	l.add(happened{routed: w.bus.count(), at: w.Now(), step: &s})
}

func (l *timeline) ran(w *World, r rules.Ran) {
	if r.Rule.Name == "" && r.Entry.Outcome == rules.RanNotFired {
		return // a script began, or a timer of none of its rules did nothing
	}
	l.add(happened{routed: w.bus.count(), at: r.Entry.At, run: r})
}

func (l *timeline) add(h happened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) < mostHappened {
		l.last = append(l.last, h)
		return
	}
	l.last[l.next] = h
	l.next = (l.next + 1) % mostHappened
	l.gone++
}

// told is the timeline, a line each.
func (l *timeline) told(w *World) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(slices.Clone(l.last[l.next:]), l.last[:l.next]...)
	left := l.gone
	msgs, first := w.bus.since(0), 0
	if left > 0 {
		first = all[0].routed // what came before is left out as well
		left += own(msgs[:first])
	}
	var events []event
	tell := func(until int) {
		for ; first < until; first++ {
			if own(msgs[first:first+1]) > 0 {
				events = append(events, eventOf(&msgs[first]))
			}
		}
	}
	shown := make(map[string]bool)
	for i := range all {
		tell(all[i].routed)
		events = append(events, all[i].event())
	}
	tell(len(msgs))
	if n := len(events) - mostHappened; n > 0 {
		left, events = left+n, events[n:]
	}
	lines := []string{"what happened, the last of it at the end:"}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("    (%d runs and messages before that)", left))
	}
	form := "15:04:05.000"
	if len(events) > 0 && events[0].at.Format(time.DateOnly) != events[len(events)-1].at.Format(time.DateOnly) {
		form = "2006-01-02 15:04:05.000"
	}
	for i := range events {
		shown[events[i].rule] = true
		lines = append(lines, events[i].lines(form)...)
	}
	if w.now == nil {
		return lines
	}
	return append(lines, idle(w.Status(), shown)...)
}

// own counts the messages that are not the engine's, of how rules are.
func own(msgs []message.Message) (n int) {
	for i := range msgs {
		if !strings.HasPrefix(msgs[i].Topic, "$SYS/") {
			n++
		}
	}
	return n
}

// event is one entry of a timeline, as it is shown.
type event struct {
	at    time.Time
	step  bool
	text  string
	rule  string // whose run it is
	facts []rules.Fact
}

func (e *event) lines(form string) []string {
	if e.step {
		return []string{"    " + e.text}
	}
	lines := []string{"        " + e.at.Format(form) + " " + e.text}
	for i, f := range e.facts {
		if i == mostFacts {
			lines = append(lines, fmt.Sprintf("            (%d more)", len(e.facts)-i))
			break
		}
		lines = append(lines, strings.TrimRight("            "+f.What+": "+f.Value, " "))
	}
	return lines
}

func eventOf(m *message.Message) event {
	return event{at: m.At, text: "message " + told(m)}
}

func (h *happened) event() event {
	if h.step != nil {
		return event{at: h.at, step: true, text: fmt.Sprintf("line %d: %s", h.step.line, strings.TrimSpace(h.step.what))}
	}
	where := placeOf(h.run.File, h.run.Rule)
	return event{at: h.at, rule: where, text: where + ": " + cameOf(&h.run.Entry), facts: h.run.Entry.Facts}
}

// placeOf names a rule, or a file itself.
func placeOf(file string, r *rules.Rule) string {
	if r.Name == "" {
		return file
	}
	return fmt.Sprintf("%s:%d: %s", file, r.Line, r.Name)
}

// cameOf is a run in a line: what about, what it came to and why.
func cameOf(t *rules.TraceEntry) string {
	text := t.Outcome
	if about := strings.TrimSpace(t.Trigger + " " + t.Topic); about != "" {
		text = about + ": " + text
	}
	if t.Why != "" {
		text += ": " + t.Why
	}
	return text
}

// idle tells of the rules that are not shown: when they last ran, or what they wait for.
func idle(files []rules.FileStatus, shown map[string]bool) []string {
	var lines []string
	for _, f := range files {
		for i := range f.Rules {
			r := &f.Rules[i]
			where := placeOf(f.File, &r.Rule)
			switch {
			case shown[where]:
			case len(r.Trace) > 0:
				lines = append(lines, "    "+where+": "+r.Trace[0].At.Format("2006-01-02 15:04:05.000")+" "+cameOf(&r.Trace[0]))
			default:
				lines = append(lines, "    "+where+": did not run: "+waitsFor(r))
			}
		}
	}
	if n := len(lines) - mostIdle; n > 0 {
		lines = append(lines[:mostIdle], fmt.Sprintf("    (%d more)", n))
	}
	if len(lines) > 0 {
		lines = append([]string{"the other rules:"}, lines...)
	}
	return lines
}

// waitsFor says what would make a rule run that did not.
func waitsFor(r *rules.RuleStatus) string {
	var all []string
	if r.Counters.Heard > 0 {
		all = append(all, fmt.Sprintf("its condition cannot hold for any of the %d that it heard", r.Counters.Heard))
	} else if len(r.Filters) > 0 {
		all = append(all, "nothing came on "+strings.Join(r.Filters, ", "))
	}
	for _, s := range r.Schedules {
		all = append(all, "it is for "+s.String())
	}
	for _, h := range r.Hooks {
		all = append(all, "nobody called the hook "+h)
	}
	switch {
	case len(all) > 0:
		return strings.Join(all, "; ")
	case r.Called:
		return "no rule called it"
	}
	return "it is not enabled, or waits for nothing"
}
