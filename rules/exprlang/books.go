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
	m.orphans = m.orphans[:0]
	for name, value := range call.Kept {
		m.open(name, value, call.Now)
	}
	for _, w := range m.flows {
		if w.silent != nil {
			m.startSilence(w, call.Now, out)
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
	h := &parked{key: kept.Key, msg: kept.Msg.message(), prev: kept.Prev.message(), due: due}
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
		flow: w, id: s.ID, key: kept.Key, msg: kept.Msg.message(), prev: kept.Prev.message(),
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
func (m *machine) startSilence(w *flow, now time.Time, out *rules.Outcome) {
	if w.key == nil {
		for _, topic := range w.silent.literal {
			if w.heard[topic] == nil {
				w.heard[topic] = &lastHeard{at: now}
				w.dirty = true
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

// savedKey is a key of a rule in what is saved.
type savedKey struct {
	At    int64     `json:"at"` // by the timeline, in Unix milliseconds
	Msg   *keptText `json:"m,omitempty"`
	Burst uint64    `json:"c,omitempty"`
}

// open takes over what was saved under a name.
func (m *machine) open(name string, value []byte, now time.Time) {
	kind, word, _ := strings.Cut(name, "/")
	if kind != kindSilent && kind != kindBurst && kind != kindPassed {
		return // somebody else's
	}
	w := m.byWord(word)
	var all map[string]savedKey
	if w == nil || json.Unmarshal(value, &all) != nil {
		m.orphans = append(m.orphans, name)
		return
	}
	w.saved = true
	for key, s := range all {
		at := m.ago(s.At, now)
		switch {
		case kind == kindSilent && w.heard != nil:
			l := &lastHeard{at: at, msg: s.Msg.message()}
			if old := w.heard[key]; old != nil {
				l.quiet = old.quiet
				if old.at.After(at) {
					l.at = old.at
				}
			}
			w.heard[key] = l
		case kind == kindPassed && w.passed != nil:
			w.passed[key] = at
		case kind == kindBurst && w.bursts != nil:
			m.seq = max(m.seq, s.Burst) // a power cut may have left one that is over
			if h := w.bursts[key]; h != nil && h.number == s.Burst {
				h.msg, h.due = s.Msg.message(), at.Add(w.debounce)
			}
		}
	}
}

// ago is a time that was saved, by the clock that goes on; now if it is to come.
func (m *machine) ago(at int64, now time.Time) time.Time {
	then := time.UnixMilli(at)
	if m.line != nil {
		return now.Add(-max(now.Sub(m.line.Kept(then)), 0))
	}
	return now.Add(-max(now.Round(0).Sub(then), 0))
}

// stamp is a time as it is saved, in milliseconds.
func (m *machine) stamp(at, now time.Time) int64 {
	if m.line != nil {
		return m.line.Keep(at).UnixMilli()
	}
	return now.Round(0).Add(-now.Sub(at)).UnixMilli()
}

// save gives what has changed of what no timer holds.
func (m *machine) save(put func(key string, value []byte)) {
	for _, name := range m.orphans {
		put(name, nil)
	}
	m.orphans = m.orphans[:0]
	for _, w := range m.flows {
		if !w.dirty {
			continue
		}
		w.dirty = false
		m.saveKeys(put, kindSilent, w, w.silences(), len(w.heard) > 0)
		m.saveKeys(put, kindPassed, w, w.passes(), len(w.passed) > 0)
		m.saveKeys(put, kindBurst, w, w.lasts(), len(w.bursts) > 0)
	}
}

type moment struct {
	key   string
	at    time.Time
	msg   *keptText
	burst uint64
}

func (w *flow) silences() (all []moment) {
	for key, l := range w.heard {
		all = append(all, moment{key: key, at: l.at, msg: keep(l.msg)})
	}
	return all
}

func (w *flow) passes() (all []moment) {
	for key, at := range w.passed {
		all = append(all, moment{key: key, at: at})
	}
	return all
}

func (w *flow) lasts() (all []moment) {
	for key, h := range w.bursts {
		all = append(all, moment{key: key, at: h.due.Add(-w.debounce), msg: keep(h.msg), burst: h.number})
	}
	return all
}

// saveKeys gives what is known of the keys of a rule: with their last messages, if those
// are not too much.
func (m *machine) saveKeys(put func(key string, value []byte), kind string, w *flow, all []moment, some bool) {
	name := kind + "/" + w.word()
	if !some {
		if w.saved {
			put(name, nil)
		}
		return
	}
	saved := make(map[string]savedKey, len(all))
	size := 0
	for _, a := range all {
		s := savedKey{At: m.stamp(a.at, m.now), Msg: a.msg, Burst: a.burst}
		if a.msg != nil {
			if size += len(a.msg.Payload); size > continueBytes {
				s.Msg = &keptText{Topic: a.msg.Topic}
			}
		}
		saved[a.key] = s
	}
	value, err := json.Marshal(saved)
	if err != nil {
		return // of strings and numbers there is nothing that JSON has not
	}
	w.saved = true
	put(name, value)
}
