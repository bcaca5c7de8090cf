package exprlang

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// word is the name of a rule as a part of longer names, without a slash.
func (w *flow) word() string {
	return strings.ReplaceAll(strings.ReplaceAll(w.rule.Name, "%", "%25"), "/", "%2F")
}

// start takes over what another version, or process, of the file has left.
func (m *machine) start(call *rules.Call, out *rules.Outcome) {
	m.line = call.Timeline
	for i := range call.Standing {
		if !m.adopt(&call.Standing[i], call.Now) {
			out.Timers = append(out.Timers, rules.TimerChange{ID: call.Standing[i].ID})
		}
	}
	for _, w := range m.flows {
		slices.SortFunc(w.runs, func(a, b *run) int { return cmp.Compare(a.number(), b.number()) })
	}
	m.recall(call.Now, out)
	m.open(call.Kept, call.Now)
	for _, w := range m.flows {
		if w.silent != nil {
			m.startSilence(w, call, out)
		}
	}
}

// number is where the run is in the order in which runs were begun.
func (r *run) number() uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(r.id, kindRun+"/"), 10, 64)
	if err != nil {
		return 0 // adopted runs have one
	}
	return n
}

// adopt goes on with a timer, or a request. It reports false for a timer that cannot.
func (m *machine) adopt(s *rules.Standing, now time.Time) bool {
	w := m.handles[s.Name]
	if w == nil {
		return false
	}
	kind, _, _ := strings.Cut(s.Name, "/")
	if kind == kindRun {
		number, _, request := strings.Cut(strings.TrimPrefix(s.ID, kindRun+"/"), "/")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			m.seq = max(m.seq, n)
		}
		if request {
			return true
		}
	}
	var kept continuation
	if err := json.Unmarshal(s.Data, &kept); err != nil {
		return false
	}
	due := now.Add(s.Left)
	h := &parked{key: kept.Key, msg: m.kept(kept.Msg), prev: m.kept(kept.Prev), due: due}
	switch kind {
	case kindRun:
		return m.adoptRun(w, s, &kept, due)
	case kindHold:
		w.holds[h.key] = h
		m.count++
	case kindBurst:
		h.number = kept.Number
		m.seq = max(m.seq, h.number)
		w.bursts[h.key] = h
		m.count++
	case kindSilent:
		w.alarm = due
	}
	return true
}

func (m *machine) adoptRun(w *flow, s *rules.Standing, kept *continuation, due time.Time) bool {
	r := &run{
		flow: w, id: s.ID, key: kept.Key, msg: m.kept(kept.Msg), prev: m.kept(kept.Prev),
		threads: kept.Threads, nextID: kept.Next, due: due, stands: true, queued: kept.Queued,
	}
	for _, t := range r.threads {
		if t == nil || !w.fits(t) || !joins(t, r.threads) {
			return false
		}
		t.due = due.Add(t.After)
	}
	if len(r.threads) == 0 {
		return false
	}
	w.runs = append(w.runs, r)
	m.count++
	return true
}

// joins reports whether a thread waits for as many branches as there are.
func joins(t *thread, all []*thread) bool {
	if t.Wait != forBranch {
		return true
	}
	branches := 0
	for _, other := range all {
		if other != nil && other.Up == t.ID && other != t {
			branches++
		}
	}
	return branches == t.Left && branches > 0
}

// fits reports whether a thread can go on in the code.
func (w *flow) fits(t *thread) bool {
	if t.PC < 0 || t.PC >= len(w.code) || t.Tries < 0 {
		return false
	}
	in := &w.code[t.PC]
	switch t.Wait {
	case forUntil:
		if in.op != opUntil {
			return false
		}
	case forReply:
		if in.op != opHTTP {
			return false
		}
	case forTime, forBranch:
	case running:
		return false
	}
	return len(t.Loops) >= in.loops && len(t.With) >= in.depth
}

// recall finds the marks in the file's state, and removes those of rules that are gone.
func (m *machine) recall(now time.Time, out *rules.Outcome) {
	for name := range m.state.Snapshot() {
		mark, own := strings.CutPrefix(name, ownKey(""))
		if !own {
			continue
		}
		kind, rest, _ := strings.Cut(mark, "/")
		word, key, _ := strings.Cut(rest, "/")
		w := m.byWord(word)
		switch {
		case w != nil && kind == kindHold && w.holds != nil:
			w.holds[key] = &parked{key: key, fired: true}
			m.count++
		case w != nil && kind == kindSilent && w.heard != nil:
			w.heard[key] = &lastHeard{quiet: true}
			if at, err := strconv.ParseInt(string(m.state.Value(name)), 10, 64); err == nil {
				w.heard[key] = &lastHeard{at: m.ago(at, now)}
			}
		case w != nil && kind == kindOnce && w.once != "" && string(m.state.Value(name)) == strconv.Quote(w.once):
		case kind == kindHold || kind == kindSilent || kind == kindOnce:
			m.mark(mark, nil, out)
		}
	}
}

func (m *machine) byWord(word string) *flow {
	for _, w := range m.flows {
		if w.word() == word {
			return w
		}
	}
	return nil
}

// startSilence expects the topics that the rule names, and sets its timer.
func (m *machine) startSilence(w *flow, call *rules.Call, out *rules.Outcome) {
	now := call.Now
	if w.key == nil {
		for _, topic := range w.silent.literal {
			if w.heard[topic] == nil {
				w.heard[topic] = &lastHeard{at: now}
				w.note(kindSilent, topic, call, out)
			}
		}
	}
	stands := w.alarm
	w.alarm = time.Time{}
	before := len(out.Timers)
	m.watchSilence(w, now, out)
	if !stands.IsZero() && (w.alarm.IsZero() || !w.alarm.Before(stands)) {
		w.alarm, out.Timers = stands, out.Timers[:before]
	}
}
