package exprlang

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// parked is a trigger that waits: until its condition has held long enough, or until a
// burst is over.
type parked struct {
	key       string
	msg, prev *message.Message
	due       time.Time // when the timer is, by for; by debounce, when the burst is over
	fired     bool      // for: it has held long enough, and is not over
	number    uint64    // debounce: tells bursts apart
}

// lastHeard is when a topic was last heard of, for silent.
type lastHeard struct {
	at    time.Time
	msg   *message.Message // nil if it never was
	quiet bool             // the rule has run because of that
}

// trigger makes a call of a rule: its message came, or it is due.
func (m *machine) trigger(e *evaluator, w *flow, call *rules.Call, out *rules.Outcome) {
	if w.silent != nil && len(w.silent.filters) == 0 && call.Trigger == rules.OnMessage {
		e.load(call)
		w.rule.hear(e, call, out)
		m.hear(e, w, call, out)
		return
	}
	if w.tooLate(call.Late) {
		out.Missed = true
		return
	}
	e.load(call)
	if goesOn, err := w.rule.notice(e, call, out); !goesOn {
		out.Err = err
		return
	}
	holds := w.rule.when == nil
	if !holds {
		holds, out.Err = e.condition(w.rule.when)
	}
	if out.Err != nil || !holds && w.hold == 0 {
		return
	}
	from := parked{msg: call.Message, prev: call.Prev}
	if from.key, out.Err = w.keyOf(e, call); out.Err != nil {
		return
	}
	switch {
	case w.hold > 0:
		m.holding(w, &from, holds, call, out)
	case w.debounce > 0:
		m.burst(w, &from, call, out)
	default:
		m.admit(e, w, from, call, out)
	}
}

// remembered is a parked trigger that outlives its call.
func (p *parked) remembered() *parked {
	kept := *p
	kept.msg, kept.prev = keep(p.msg).message(), keep(p.prev).message()
	return &kept
}

// keyOf is what tells the runs of a rule apart: key, or the topic where the rule is
// about time.
func (w *flow) keyOf(e *evaluator, call *rules.Call) (string, error) {
	switch {
	case w.key != nil:
		b, _, err := e.appendText(nil, w.key)
		if err == nil && len(b) > maxKeyBytes {
			err = fmt.Errorf("the key has %d bytes, more than %d", len(b), maxKeyBytes)
		}
		return string(b), err
	case w.byTopic() && call.Message != nil:
		return call.Message.Topic, nil
	}
	return "", nil
}

// byTopic reports whether the topic is the key of a rule that names none.
func (w *flow) byTopic() bool {
	return w.hold > 0 || w.debounce > 0 || w.throttle > 0 || w.silent != nil
}

// modeKey is the key of a trigger for the mode, which goes by key only.
func (w *flow) modeKey(key string) string {
	if w.key == nil {
		return ""
	}
	return key
}

// admit starts a run unless something is against it.
func (m *machine) admit(e *evaluator, w *flow, from parked, call *rules.Call, out *rules.Outcome) {
	key := from.key
	from.key = w.modeKey(key)
	if out.Refused = m.refusal(w, key, from.key, call.Now); out.Refused != "" {
		addFact(call, out, "refused", out.Refused)
		return
	}
	if w.throttle > 0 {
		w.note(kindPassed, key, call, out)
		if w.throttle >= keptThrottle && len(w.passed) <= keptPasses {
			w.notesOf(kindPassed).ask(key, out)
		}
	}
	m.begin(e, w, &from, call, out)
	if w.once != "" && out.Fired {
		m.mark(timerID(kindOnce, w, from.key), []byte(strconv.Quote(w.once)), out)
	}
}

// A throttle of so long, with so few keys, is kept at once when it lets a run pass: a power
// cut is not to let another one. What is shorter is over before the next start, or about to.
const (
	keptThrottle = 10 * time.Second
	keptPasses   = 100
)

// refusal is why a run may not start now, empty if it may.
func (m *machine) refusal(w *flow, key, modeKey string, now time.Time) string {
	if w.once != "" && string(m.state.Value(ownKey(timerID(kindOnce, w, modeKey)))) == strconv.Quote(w.once) {
		return "once: it has run"
	}
	if w.waits && w.mode != modeRestart {
		if n := len(w.onTheirWay(modeKey)); n >= w.most && w.mode != modeQueued || n > w.most {
			return fmt.Sprintf("mode %v: %d of at most %d on their way", w.mode, n, w.most)
		}
	}
	if w.waits && m.count >= maxStanding {
		return fmt.Sprintf("%d runs of the file are on their way", m.count)
	}
	if w.throttle > 0 {
		if last, ok := w.passed[key]; ok && !now.Before(last) && now.Sub(last) < w.throttle {
			return fmt.Sprintf("throttle: it ran %v ago", now.Sub(last).Round(time.Millisecond))
		}
	}
	if !w.take(now) {
		return "rate: it ran too often"
	}
	if w.throttle > 0 {
		w.pass(key, now)
	}
	return ""
}

// passage is when throttle let a key pass.
type passage struct {
	key string
	at  time.Time
}

// pass notes that a run started, and forgets what no longer matters.
func (w *flow) pass(key string, now time.Time) {
	w.forgetPasses(now)
	w.passed[key] = now
	w.passes = append(w.passes, passage{key, now})
	for len(w.passed) > maxKeys {
		w.forgetPass()
	}
}

// forgetPasses forgets what throttle need not know any more.
func (w *flow) forgetPasses(now time.Time) {
	for len(w.passes) > 0 {
		if since := now.Sub(w.passes[0].at); since >= 0 && since < w.throttle {
			return
		}
		w.forgetPass()
	}
}

// forgetPass forgets the oldest one, unless its key has passed again.
func (w *flow) forgetPass() {
	p := w.passes[0]
	w.passes = w.passes[1:]
	if w.passed[p.key].Equal(p.at) {
		delete(w.passed, p.key)
		w.notesOf(kindPassed).note(p.key, false)
	}
}

func (w *flow) sortPasses() {
	slices.SortFunc(w.passes, func(a, b passage) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key, b.key)) })
}

// take takes a token of the rate, if there is one.
func (w *flow) take(now time.Time) bool {
	if w.rate.most == 0 {
		return true
	}
	if w.filled.IsZero() {
		w.tokens = w.rate.most
	} else if since := now.Sub(w.filled); since > 0 {
		w.tokens = min(w.rate.most, w.tokens+since.Seconds()*w.rate.second)
	}
	w.filled = now
	if w.tokens < 1 {
		return false
	}
	w.tokens--
	return true
}

// ownKey is a key of the file's state that no variable has.
func ownKey(name string) string { return "$" + name }

// mark notes something in the file's state; nil takes it away.
func (m *machine) mark(name string, value []byte, out *rules.Outcome) {
	change := []rules.StateChange{{Key: ownKey(name), Value: value}}
	if err := m.state.Apply(change); err != nil {
		if out.Err == nil {
			out.Err = err
		}
		return
	}
	out.State = append(out.State, change...)
}

// timerID is the ID of a timer of a key.
func timerID(kind string, w *flow, key string) string { return kind + "/" + w.word() + "/" + key }

// arm sets the timer of something that is held.
func (m *machine) arm(kind string, w *flow, h *parked, now time.Time, out *rules.Outcome) error {
	data, err := json.Marshal(continuation{Key: h.key, Msg: m.keep(h.msg), Prev: m.keep(h.prev), Number: h.number})
	name, id := kind+"/"+w.rule.Name, timerID(kind, w, h.key)
	if size := len(data) + len(name) + len(id); err == nil && size > continueBytes {
		err = fmt.Errorf("it waits with %d bytes, its message among them, more than %d", size, continueBytes)
	}
	if err == nil {
		out.Timers = append(out.Timers, rules.TimerChange{ID: id, After: max(h.due.Sub(now), time.Millisecond), Name: name, Data: data})
	}
	return err
}

// holding keeps the books of a condition that must hold so long.
func (m *machine) holding(w *flow, from *parked, holds bool, call *rules.Call, out *rules.Outcome) {
	h := w.holds[from.key]
	switch {
	case holds && h == nil:
		if m.count >= maxStanding {
			out.Refused = fmt.Sprintf("%d runs of the file are on their way", m.count)
			return
		}
		from = from.remembered()
		from.due = call.Now.Add(w.hold)
		if out.Err = m.arm(kindHold, w, from, call.Now, out); out.Err != nil {
			return
		}
		w.holds[from.key] = from
		m.count++
		addFact(call, out, "for", "it must hold for "+w.hold.String())
	case !holds && h != nil:
		delete(w.holds, from.key)
		m.count--
		if h.fired {
			m.mark(timerID(kindHold, w, from.key), nil, out)
			return
		}
		out.Timers = append(out.Timers, rules.TimerChange{ID: timerID(kindHold, w, from.key)})
		addFact(call, out, "for", "it does not hold any more")
	case holds && h.fired:
		addFact(call, out, "for", "it has run because of that")
	case holds:
		addFact(call, out, "for", "it must hold for another "+h.due.Sub(call.Now).String())
	}
}

// heldLong runs a rule whose condition has held long enough.
func (m *machine) heldLong(e *evaluator, w *flow, call *rules.Call, out *rules.Outcome) {
	key := strings.TrimPrefix(call.Timer, timerID(kindHold, w, ""))
	h := w.holds[key]
	if h == nil || h.fired {
		return
	}
	h.fired = true
	m.mark(timerID(kindHold, w, key), []byte("true"), out)
	if w.tooLate(call.Late) {
		out.Missed = true
		return
	}
	m.admit(e, w, parked{key: key, msg: h.msg, prev: h.prev}, call, out)
	h.msg, h.prev = nil, nil
}

// burst keeps the last trigger of many.
func (m *machine) burst(w *flow, from *parked, call *rules.Call, out *rules.Outcome) {
	from = from.remembered()
	from.due = call.Now.Add(w.debounce)
	h := w.bursts[from.key]
	if h != nil { // its timer looks when it was
		from.number = h.number
		*h = *from
		w.note(kindBurst, from.key, call, out)
		addFact(call, out, "debounce", "another one, so it waits for "+w.debounce.String())
		return
	}
	if m.count >= maxStanding {
		out.Refused = fmt.Sprintf("%d runs of the file are on their way", m.count)
		return
	}
	m.seq++
	from.number = m.seq
	if out.Err = m.arm(kindBurst, w, from, call.Now, out); out.Err == nil {
		w.bursts[from.key] = from
		m.count++
		addFact(call, out, "debounce", "it waits for "+w.debounce.String())
	}
}

// burstIsOver runs a rule after a burst, unless that goes on.
func (m *machine) burstIsOver(e *evaluator, w *flow, call *rules.Call, out *rules.Outcome) {
	key := strings.TrimPrefix(call.Timer, timerID(kindBurst, w, ""))
	h := w.bursts[key]
	if h == nil {
		return
	}
	if h.due.After(call.Now) {
		if out.Err = m.arm(kindBurst, w, h, call.Now, out); out.Err == nil {
			return
		}
	}
	delete(w.bursts, key)
	m.count--
	w.note(kindBurst, key, call, out)
	switch {
	case out.Err != nil:
	case w.tooLate(call.Late):
		out.Missed = true
	default:
		m.admit(e, w, *h, call, out)
	}
}

// hear notes that a topic was heard of, for silent. The timer is left as it is: it
// looks when it fires.
func (m *machine) hear(e *evaluator, w *flow, call *rules.Call, out *rules.Outcome) {
	e.load(call)
	key, err := w.keyOf(e, call)
	if err != nil {
		out.Err = err
		return
	}
	l := w.heard[key]
	if l == nil {
		if len(w.heard) >= maxKeys {
			out.Refused = fmt.Sprintf("silent watches %d already", maxKeys)
			return
		}
		l = &lastHeard{}
		w.heard[key] = l
	}
	if l.quiet {
		l.quiet = false // and since when, as a power cut may come before that is saved
		m.mark(timerID(kindSilent, w, key), strconv.AppendInt(nil, m.stamp(call.Now, call.Now), 10), out)
	}
	l.at, l.msg = call.Now, keep(call.Message).message()
	w.note(kindSilent, key, call, out)
	m.watchSilence(w, call.Now, out)
}

// watchSilence sets the timer to the next silence that there may be, unless it stands.
func (m *machine) watchSilence(w *flow, now time.Time, out *rules.Outcome) {
	if !w.alarm.IsZero() {
		return
	}
	for _, l := range w.heard {
		if due := l.at.Add(w.silent.after); !l.quiet && (w.alarm.IsZero() || due.Before(w.alarm)) {
			w.alarm = due
		}
	}
	if !w.alarm.IsZero() {
		name := kindSilent + "/" + w.rule.Name
		out.Timers = append(out.Timers, rules.TimerChange{ID: name, After: max(w.alarm.Sub(now), time.Millisecond), Name: name, Data: []byte("null")})
	}
}

// silence runs the rule for each topic that was silent for too long.
func (m *machine) silence(e *evaluator, w *flow, call *rules.Call, out *rules.Outcome) {
	w.alarm = time.Time{}
	var keys []string
	for key, l := range w.heard {
		if !l.quiet && !l.at.Add(w.silent.after).After(call.Now) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(w.heard[a].at.Compare(w.heard[b].at), cmp.Compare(a, b))
	})
	for _, key := range keys {
		l := w.heard[key]
		l.quiet = true
		w.note(kindSilent, key, call, out)
		m.mark(timerID(kindSilent, w, key), []byte("true"), out)
		m.silent(e, w, key, l, call, out)
	}
	m.watchSilence(w, call.Now, out)
}

// silent runs the rule for one.
func (m *machine) silent(e *evaluator, w *flow, key string, l *lastHeard, call *rules.Call, out *rules.Outcome) {
	if late := call.Now.Sub(l.at.Add(w.silent.after)); w.tooLate(min(late, call.Late)) {
		out.Missed = true
		return
	}
	msg := l.msg
	if msg == nil && w.key == nil {
		msg = &message.Message{Topic: key}
	}
	e.load(&rules.Call{Message: msg, Now: call.Now})
	if w.rule.when != nil {
		holds, err := e.condition(w.rule.when)
		if err != nil && out.Err == nil {
			out.Err = err
		}
		if !holds || err != nil {
			return
		}
	}
	addFact(call, out, "silent", key+" for "+call.Now.Sub(l.at).Round(time.Millisecond).String())
	m.admit(e, w, parked{key: key, msg: msg}, call, out)
}
