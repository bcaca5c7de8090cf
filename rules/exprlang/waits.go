package exprlang

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// machine keeps the books of what a program has on its way: runs that wait, conditions
// that must hold, silences. All of it stands in the store as timers with their data, or
// is saved, so that another process goes on. It is for one goroutine.
type machine struct {
	rules []*compiled
	flows []*flow
	state *rules.State
	seq   uint64
	count int // runs, holds and bursts
	fresh []*run
	now   time.Time // of the last call
	line  rules.Timeline
	// orphans are names of what was saved of rules that are gone.
	orphans []string
	// handles are the names of timers that this program goes on with.
	handles map[string]*flow
}

// The kinds of timers, which their names and IDs begin with.
const (
	kindRun    = "do"
	kindHold   = "for"
	kindBurst  = "debounce"
	kindSilent = "silent"
	kindPassed = "throttle"
	kindOnce   = "once"
)

// newMachine returns nil for a program that needs none.
func newMachine(all []*compiled, state *rules.State) *machine {
	m := &machine{rules: all, state: state, handles: make(map[string]*flow)}
	for _, r := range all {
		w := r.flow
		if w == nil {
			continue
		}
		m.flows = append(m.flows, w)
		for i, kind := range []string{kindSilent, kindPassed, kindBurst} {
			w.notes[i].kind = kind
		}
		m.handles[w.handle()] = w
		if w.hold > 0 {
			w.holds = make(map[string]*parked)
			m.handles[kindHold+"/"+r.Name] = w
		}
		if w.debounce > 0 {
			w.bursts = make(map[string]*parked)
			m.handles[kindBurst+"/"+r.Name] = w
		}
		if w.silent != nil {
			w.heard = make(map[string]*lastHeard)
			m.handles[kindSilent+"/"+r.Name] = w
		}
		if w.throttle > 0 {
			w.passed = make(map[string]time.Time)
		}
	}
	if len(m.flows) == 0 {
		return nil
	}
	if m.state == nil {
		m.state = rules.NewState(nil)
	}
	return m
}

// handle is the name of the runs' timers: what goes on in another version of the file
// if the rule is called the same and its steps have the same shape.
func (w *flow) handle() string { return kindRun + "/" + w.rule.Name + "#" + w.shape }

// call makes one call of a rule that has a flow, or of a part of it.
func (m *machine) call(e *evaluator, call *rules.Call, out *rules.Outcome) {
	m.now = call.Now
	switch call.Trigger {
	case rules.OnStart:
		m.start(call, out)
	case rules.OnTimer:
		m.timer(e, call, out)
	case rules.OnReply:
		m.reply(e, call, out)
	case rules.OnMessage, rules.OnSchedule:
		if p := m.rules[call.Rule].part; p != nil {
			m.overhear(e, p, call, out)
			return
		}
		m.trigger(e, m.rules[call.Rule].flow, call, out)
	}
}

// settle ends what is about the messages of one Run: their places may be used again.
func (m *machine) settle() {
	for _, r := range m.fresh {
		r.born = nil
		for _, t := range r.threads {
			t.since = nil
		}
	}
	m.fresh = m.fresh[:0]
}

// begin starts a run, or puts it behind those that are on their way.
func (m *machine) begin(e *evaluator, w *flow, from *parked, call *rules.Call, out *rules.Outcome) {
	if w.waits {
		from = from.remembered()
	}
	r := &run{flow: w, key: from.key, msg: from.msg, prev: from.prev, threads: []*thread{{Up: -1}}, nextID: 1, born: call.Message}
	others := w.onTheirWay(from.key)
	m.seq++
	r.id = kindRun + "/" + strconv.FormatUint(m.seq, 10)
	if w.waits {
		m.fresh = append(m.fresh, r)
		w.runs = append(w.runs, r)
		m.count++
	}
	if len(others) > 0 && w.mode == modeQueued {
		r.queued = true
		r.threads[0].Wait, r.threads[0].due = forTime, call.Now.Add(longestUntil)
		if err := m.stand(r, call, out); err != nil {
			m.drop(r)
			out.Err = err
			return
		}
		out.Fired = true
		addFact(call, out, "mode queued", fmt.Sprintf("behind %d", len(others)))
		return
	}
	if w.mode == modeRestart {
		for _, other := range others {
			m.cancel(other, call, out)
		}
	}
	m.goOn(e, r, call, out)
}

// goOn lets a run do its steps until it waits or ends, and then those that waited for
// its end.
func (m *machine) goOn(e *evaluator, r *run, call *rules.Call, out *rules.Outcome) {
	for r != nil {
		g := &goes{m: m, e: e, run: r, call: call, out: out}
		err := g.proceed()
		if err == nil && len(r.threads) > 0 {
			if err = m.stand(r, call, out); err != nil {
				g.rollBack()
			}
		}
		if err == nil {
			out.Fired = true
		} else if out.Err == nil {
			out.Err = err
		}
		if err == nil && len(r.threads) > 0 {
			return
		}
		r = m.end(r, call, out)
	}
	out.Fired = out.Fired && out.Err == nil
}

// end takes away a run that has ended and returns the one that waited for it.
func (m *machine) end(r *run, call *rules.Call, out *rules.Outcome) *run {
	m.cancel(r, call, out)
	others := r.flow.onTheirWay(r.key)
	if slices.ContainsFunc(others, func(o *run) bool { return !o.queued }) {
		return nil
	}
	for _, next := range others {
		next.begins(call)
		return next
	}
	return nil
}

// stillQueued sets the timer of a run anew that is behind others, however long those
// take; if there are none, it is its turn.
func (m *machine) stillQueued(e *evaluator, r *run, call *rules.Call, out *rules.Outcome) {
	if slices.ContainsFunc(r.flow.onTheirWay(r.key), func(o *run) bool { return !o.queued }) {
		r.threads[0].due = call.Now.Add(longestUntil)
		out.Err = m.stand(r, call, out)
		return
	}
	r.begins(call)
	m.goOn(e, r, call, out)
}

// begins takes a run out of the queue.
func (r *run) begins(call *rules.Call) {
	r.queued, r.turn = false, call.Now
	r.threads[0].Wait = running
}

// cancel takes away a run, with its timer.
func (m *machine) cancel(r *run, call *rules.Call, out *rules.Outcome) {
	if r.stands && call.Timer != r.id {
		out.Timers = append(out.Timers, rules.TimerChange{ID: r.id})
	}
	m.drop(r)
}

func (m *machine) drop(r *run) {
	if i := slices.Index(r.flow.runs, r); i >= 0 {
		r.flow.runs = slices.Delete(r.flow.runs, i, i+1)
		m.count--
	}
	r.ended, r.stands = true, false
}

// onTheirWay are the runs of a key.
func (w *flow) onTheirWay(key string) (all []*run) {
	for _, r := range w.runs {
		if r.key == key {
			all = append(all, r)
		}
	}
	return all
}

// continuation is what of a run goes into the store.
type continuation struct {
	Key     string    `json:"k,omitempty"`
	Msg     *keptText `json:"m,omitempty"`
	Prev    *keptText `json:"b,omitempty"`
	Threads []*thread `json:"t,omitempty"`
	Next    int       `json:"n,omitempty"`
	Queued  bool      `json:"q,omitempty"`
	Number  uint64    `json:"c,omitempty"` // of a burst
}

// keptText is a message in the store.
type keptText struct {
	Topic   string      `json:"t"`
	Payload []byte      `json:"p,omitempty"`
	QoS     message.QoS `json:"q,omitempty"`
	Retain  bool        `json:"r,omitempty"`
	Origin  string      `json:"o,omitempty"`

	Properties *keptProperties `json:"x,omitempty"`
}

func keep(m *message.Message) *keptText {
	if m == nil {
		return nil
	}
	return &keptText{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Origin: m.Origin, Properties: keepProperties(m)}
}

// size is how long its payload and properties are.
func (k *keptText) size() int {
	if k == nil {
		return 0
	}
	return len(k.Payload) + k.Properties.size()
}

// message is the message again.
func (k *keptText) message() *message.Message {
	if k == nil {
		return nil
	}
	m := &message.Message{Topic: k.Topic, Payload: k.Payload, QoS: k.QoS, Retain: k.Retain, Origin: k.Origin}
	k.Properties.set(m)
	return m
}

// keep is the message as it goes into the store, where its expiry is one of the timeline.
func (m *machine) keep(msg *message.Message) *keptText {
	k := keep(msg)
	if m.line != nil && k != nil && k.Properties != nil && !k.Properties.Expires.IsZero() {
		k.Properties.Expires = m.line.Keep(k.Properties.Expires)
	}
	return k
}

// kept is the message that the store had.
func (m *machine) kept(k *keptText) *message.Message {
	msg := k.message()
	if m.line != nil && msg != nil && !msg.Expires.IsZero() {
		msg.Expires = m.line.Kept(msg.Expires)
	}
	return msg
}

// stand sets the timer of a run that waits.
func (m *machine) stand(r *run, call *rules.Call, out *rules.Outcome) error {
	if r.due = r.nextDue(); r.due.IsZero() {
		return errors.New("the run waits for nothing") // what was kept of it is damaged
	}
	for _, t := range r.threads {
		if t.After = 0; t.Wait != forBranch {
			t.After = t.due.Sub(r.due)
		}
	}
	data, err := json.Marshal(continuation{Key: r.key, Msg: m.keep(r.msg), Prev: m.keep(r.prev), Threads: r.threads, Next: r.nextID, Queued: r.queued})
	if err != nil {
		return fmt.Errorf("the run cannot be kept: %w", err)
	}
	name := r.flow.handle()
	if size := len(data) + len(name) + len(r.id); size > continueBytes {
		return fmt.Errorf("the run waits with %d bytes, its message and variables among them, more than %d", size, continueBytes)
	}
	if m.count > maxStanding {
		return fmt.Errorf("more than %d runs of the file are on their way", maxStanding)
	}
	r.stands = true
	out.Timers = append(out.Timers, rules.TimerChange{ID: r.id, After: max(r.due.Sub(call.Now), time.Millisecond), Name: name, Data: data})
	return nil
}

// find is the run with an ID.
func (m *machine) find(w *flow, id string) *run {
	for _, r := range w.runs {
		if r.id == id {
			return r
		}
	}
	return nil
}

// timer makes a call OnTimer.
func (m *machine) timer(e *evaluator, call *rules.Call, out *rules.Outcome) {
	w := m.handles[call.Name]
	if w == nil {
		return // of a version that is gone
	}
	out.For = w.index + 1
	kind, _, _ := strings.Cut(call.Name, "/")
	switch kind {
	case kindRun:
		if r := m.find(w, call.Timer); r != nil {
			m.due(e, r, call, out)
		}
	case kindHold:
		m.heldLong(e, w, call, out)
	case kindBurst:
		m.burstIsOver(e, w, call, out)
	case kindSilent:
		m.silence(e, w, call, out)
	}
}

// due wakes the threads of a run whose time has come.
func (m *machine) due(e *evaluator, r *run, call *rules.Call, out *rules.Outcome) {
	if !r.turn.IsZero() && r.turn.Equal(call.Now) {
		return // its timer of the queue, which fired together with what ended that
	}
	at := r.due
	if call.Now.After(at) {
		at = call.Now
	}
	r.stands = false
	if r.queued {
		m.stillQueued(e, r, call, out)
		return
	}
	if r.flow.tooLate(call.Late) {
		out.Missed = true
		if next := m.end(r, call, out); next != nil {
			m.goOn(e, next, call, out)
		}
		return
	}
	g := &goes{m: m, e: e, run: r, call: call, out: out}
	for _, t := range r.threads {
		if t.Wait == running || t.Wait == forBranch || t.due.After(at) {
			continue
		}
		in := &r.flow.code[t.PC]
		switch t.Wait {
		case forUntil:
			g.timedOut(t, in.wait)
		case forReply:
			t.Wait = running
			m.fail(g, t, in, errors.New("there was no reply within a day"))
		case forTime, running, forBranch:
			t.Wait = running
		}
	}
	if g.stop {
		r.threads = nil
	}
	m.goOn(e, r, call, out)
}

// fail does what a thread's plan says about an error that is not one of a step.
func (m *machine) fail(g *goes, t *thread, in *instr, err error) {
	if err := g.failed(t, in, err); err != nil {
		g.out.Err = err
		g.stop = true
	}
}

// tooLate reports whether what was due while the gateway was off is left out.
func (w *flow) tooLate(late time.Duration) bool {
	most := w.late
	if most == 0 {
		most = defaultLate
	}
	return late > 0 && late > most
}

// reply makes a call OnReply.
func (m *machine) reply(e *evaluator, call *rules.Call, out *rules.Outcome) {
	w := m.handles[call.Name]
	i := strings.LastIndexByte(call.Timer, '/')
	if w == nil || i < 0 || call.Reply == nil {
		return
	}
	out.For = w.index + 1
	r := m.find(w, call.Timer[:i])
	if r == nil {
		return // it was stopped
	}
	for _, t := range r.threads {
		if t.Wait != forReply || strconv.Itoa(t.Asked) != call.Timer[i+1:] {
			continue
		}
		g := &goes{m: m, e: e, run: r, call: call, out: out}
		in := &r.flow.code[t.PC]
		t.Wait = running
		t.name(in.http.as, replyJSON(call.Reply))
		if call.Reply.Err != "" {
			m.fail(g, t, in, fmt.Errorf("there is no reply: %s", call.Reply.Err))
		} else {
			g.fact("reply", strconv.Itoa(call.Reply.Status)+" "+string(call.Reply.Body))
			t.PC, t.Tries = t.PC+1, 0
		}
		if g.stop {
			r.threads = nil
		}
		m.goOn(e, r, call, out)
		return
	}
}

// replyJSON is a reply for expressions.
func replyJSON(r *rules.Reply) []byte {
	header := make(map[string]string, len(r.Header))
	for k, v := range r.Header {
		header[strings.ToLower(k)] = v
	}
	names, err := json.Marshal(header)
	if err != nil {
		names = []byte("{}")
	}
	b := append([]byte(`{"status":`), strconv.Itoa(r.Status)...)
	b = append(append(b, `,"header":`...), names...)
	if r.Err != "" {
		b = appendQuoted(append(b, `,"error":`...), r.Err)
	}
	return append(appendJSONOrText(append(b, `,"body":`...), r.Body), '}')
}

// overhear makes a call of a hidden rule: it wakes the runs that wait for the message.
func (m *machine) overhear(e *evaluator, p *part, call *rules.Call, out *rules.Outcome) {
	w := p.owner.flow
	if p.wait == nil {
		m.hear(e, w, call, out)
		return
	}
	for _, r := range slices.Clone(w.runs) {
		if r.ended || r.queued || r.born == call.Message && r.born != nil {
			continue
		}
		g := &goes{m: m, e: e, run: r, call: call, out: out}
		woken := false
		for _, t := range r.threads {
			if t.Wait == forUntil && w.code[t.PC].hidden == call.Rule && t.since != call.Message && g.isFor(t, p.wait) {
				g.woken(t, call.Message)
				woken = true
			}
		}
		if woken {
			out.For = w.index + 1
			m.goOn(e, r, call, out)
		}
	}
}

// isFor reports whether the message of the call ends the wait of a thread. One that
// cannot be judged does not.
func (g *goes) isFor(t *thread, w *waitStep) bool {
	if w.until == nil {
		return true
	}
	g.e.load(g.call)
	s := t.scope(&g.run.flow.code[t.PC])
	s.trigger, s.heard = g.run.msg, g.call.Message
	g.e.enter(s)
	defer g.e.enter(nil)
	holds, err := g.e.condition(w.until)
	return holds && err == nil
}
