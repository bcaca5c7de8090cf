package jsvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// program is a script as the gateway sees it. It implements rules.Program.
type program struct {
	link  *link
	id    uint32
	src   rules.Source
	files []wireFile   // that it may require
	size  int          // of its text and theirs
	rules []rules.Rule // since it was compiled
	print uint64       // their fingerprint
	// declared are the rules as the script says them.
	declared []wireRule
	kept     keptRecall
	steady   atomic.Pointer[steady]
	former   *program // the version before, until this one starts
	uses     []string // files whose state it reads
	fresh    bool     // Save has not given what it declares yet
	// outdated says that what it was remembered to declare is not what it does.
	outdated atomic.Bool
	// named are the rules that handle timers and replies, by name.
	named map[ruleKind]map[string]int

	base map[string][]byte // the state that the top level saw
	at   time.Time         // when it ran
	held *loadedRecord     // what it did

	// Below the link's mutex.
	generation uint64 // of the worker that has it; 0 for none
	loaded     uint64 // the seq of its last load
	started    bool   // it is in force, or was
	stale      bool   // the worker's copy of the state is not ours
	quarantine quarantine
	timers     map[string]bool // pending ones that handlers set; true for every
}

func newProgram(l *link, id uint32, src rules.Source, files []wireFile) *program {
	if src.State == nil {
		src.State = rules.NewState(nil)
	}
	src.Read, src.Kept = nil, nil // which are for Compile, and hold what it has read
	if src.Log == nil {
		src.Log = l.options.Log
	}
	p := &program{link: l, id: id, src: src, files: files, size: len(src.Text), timers: make(map[string]bool)}
	p.kept.recall = newRecall()
	p.kept.recall.forgot = p.kept.forget
	p.kept.dirty, p.kept.gone = make(map[paneKey]bool), make(map[string]bool)
	for _, f := range files {
		p.size += len(f.Name) + len(f.Text)
	}
	return p
}

// load has the script compiled and its top level run, so that it counts.
// The time is the machine's if it is not given.
func (p *program) load(ctx context.Context, now time.Time) error {
	it := &item{prog: p, fresh: true, now: now, size: p.size, wait: newWaiter(1)}
	if err := p.link.submit([]*item{it}); err != nil {
		return err
	}
	select {
	case <-it.wait.done:
	case <-ctx.Done():
		if it.abandon() {
			return fmt.Errorf("cannot compile %s: %w", p.src.Name, ctx.Err())
		}
		<-it.wait.done
	}
	if it.err != nil {
		return it.err
	}
	p.held, p.base, p.at = it.loaded, it.base, it.now
	if p.print == 0 {
		p.fresh = !it.loaded.Varies
		return p.take(it.loaded)
	}
	return nil
}

// take makes the program one that declares these.
func (p *program) take(rec *loadedRecord) error {
	p.uses, p.kept.windows, p.kept.paces = rec.Uses, rec.Windows, rec.Paces
	return p.takeRules(rec.Rules)
}

// Rules implements rules.Program.
func (p *program) Rules() []rules.Rule { return p.rules }

// Handles implements rules.Program.
func (p *program) Handles(name string) bool {
	_, timer := p.named[kindTimer][name]
	_, reply := p.named[kindReply][name]
	return timer || reply
}

// Close implements rules.Program.
func (p *program) Close() error {
	p.link.forget(p)
	return nil
}

// Run implements rules.Program.
func (p *program) Run(ctx context.Context, calls []rules.Call) []rules.Outcome {
	outcomes := make([]rules.Outcome, len(calls))
	for from := 0; from < len(calls); {
		if calls[from].Trigger == rules.OnStart {
			outcomes[from] = p.runStart(ctx, &calls[from])
			from++
			continue
		}
		to := from + 1
		for to < len(calls) && calls[to].Trigger != rules.OnStart {
			to++
		}
		p.runCalls(ctx, calls[from:to], outcomes[from:to])
		from = to
	}
	return outcomes
}

// startTolerance is how much older than the start a run of the top level may be.
const startTolerance = time.Minute

// runStart gives what the top level did. If the state was changed since by the version
// of the file before this one, or it was at another time, as in virtual time, the top
// level runs again.
func (p *program) runStart(ctx context.Context, call *rules.Call) rules.Outcome {
	p.link.begun(p)
	p.startSteady(call)
	now := p.milliseconds(call.Now)
	restored := p.kept.adopt(call.Standing, now)
	restored = p.kept.restore(call.Kept, now) || restored
	if p.former != nil {
		restored = p.kept.inherit(&p.former.kept, p.rules) || restored
		p.former = nil
	}
	remembered := p.held == nil
	apart := call.Now.Sub(p.at).Abs() > startTolerance
	if remembered || apart || !maps.EqualFunc(p.base, p.src.State.Snapshot(), bytes.Equal) {
		if err := p.load(ctx, call.Now); err != nil {
			p.outdated.Store(remembered)
			return rules.Outcome{Err: err}
		}
	}
	out := p.outcome(call, &p.held.Result)
	if err := p.applyState(&out); err != nil {
		p.link.markStale(p)
		return p.failed(call, err)
	}
	if len(out.State) > 0 {
		p.link.stateChanged(p, 0) // a filter may have run since the top level did
	}
	p.count(&p.held.Result, now)
	if p.kept.note(&p.held.Result, nil, false) || restored {
		p.link.markStale(p)
	}
	out.Fired = true
	return out
}

func (p *program) runCalls(ctx context.Context, calls []rules.Call, outcomes []rules.Outcome) {
	wait := newWaiter(len(calls))
	items := make([]item, len(calls))
	list := make([]*item, 0, len(calls))
	until, _ := ctx.Deadline()
	for i := range calls {
		it := &items[i]
		it.until = until
		it.hold(&calls[i])
		it.prog, it.wait, it.size = p, wait, callSize+len(calls[i].Data)
		if out, over := p.withoutWorker(&calls[i]); over {
			it.give(out)
			continue
		}
		if calls[i].Reply != nil {
			it.size += len(calls[i].Reply.Body)
		}
		if calls[i].Trigger == rules.OnMessage {
			r := p.ruleOf(&calls[i])
			if r == nil || calls[i].Message == nil {
				it.fail(errors.New("a call without a rule or a message"))
				continue
			}
			if r.Stage == rules.Watch && p.kept.knows(calls[i].Message) {
				it.give(rules.Outcome{})
				continue
			}
			it.size += calls[i].Message.Size()
			it.before = r.Stage == rules.Before
		}
		list = append(list, it)
	}
	if err := p.link.submit(list); err != nil {
		for _, it := range list {
			it.fail(err)
		}
	}
	select {
	case <-wait.done:
	case <-ctx.Done():
	}
	for i := range items {
		if ctx.Err() != nil && items[i].abandon() {
			// It may run all the same, and then the worker's copy of the state is off.
			p.link.markStale(p)
			items[i].outcome = p.failed(&calls[i], fmt.Errorf("%w: %w", errAbandoned, ctx.Err()))
		}
	}
	<-wait.done // what is being answered just now takes a moment
	for i := range items {
		outcomes[i] = items[i].outcome
	}
}

// callSize is about what a call takes in a frame besides its message.
const callSize = 64

// failed is the outcome of a call that did not come to its end. A filter rejects or
// passes as its rule says.
func (p *program) failed(call *rules.Call, err error) rules.Outcome {
	var place *rules.Error
	if !errors.As(err, &place) {
		err = p.errorAt(p.ruleLine(call), 0, err.Error())
	}
	p.endBurst(call)
	out := rules.Outcome{Err: err, For: p.ownerOf(call)}
	if r := p.ruleOf(call); r != nil && r.Stage == rules.Before && r.OnError == rules.RejectOnError {
		out.Verdict = message.Verdict{Action: message.Reject, By: r.Name}
	}
	return out
}

func (p *program) ruleOf(call *rules.Call) *rules.Rule {
	if at := p.ruleIndex(call); at < len(p.rules) {
		return &p.rules[at]
	}
	return nil
}

// noRule is the index of a call that belongs to the file itself.
const noRule = 1 << 20

// ruleIndex is the rule that a call is for, or noRule.
func (p *program) ruleIndex(call *rules.Call) int {
	at, ok := call.Rule, true
	switch call.Trigger {
	case rules.OnTimer:
		if at, ok = p.named[kindTimer][call.Name]; call.Name == "" {
			at, ok = shadowOf(call.Timer)
		}
	case rules.OnReply:
		at, ok = p.named[kindReply][call.Name]
	case rules.OnStart:
		ok = false
	case rules.OnMessage, rules.OnSchedule:
	}
	if !ok || at < 0 {
		return noRule
	}
	return at
}

func (p *program) ruleLine(call *rules.Call) int {
	if r := p.ruleOf(call); r != nil {
		return r.Line
	}
	return 0
}

// faultError is the error for a fault, at the line of the call if it has no place.
func (p *program) faultError(f *fault, line int) *rules.Error {
	if f.File == "" || f.File == p.src.Name {
		if f.Line > 0 {
			line = f.Line
		}
		return p.errorAt(line, f.Column, f.Msg)
	}
	e := &rules.Error{File: f.File, Line: f.Line, Column: f.Column, Msg: f.Msg}
	for _, file := range p.files {
		if file.Name == f.File {
			e.Snippet = snippet(string(file.Text), f.Line, f.Column)
		}
	}
	return e
}

func (p *program) errorAt(line, column int, msg string) *rules.Error {
	return &rules.Error{
		File: p.src.Name, Line: line, Column: column, Msg: msg,
		Snippet: snippet(string(p.src.Text), line, column),
	}
}

// outcome turns an answer of the worker into what the engine gets.
func (p *program) outcome(call *rules.Call, w *wireOutcome) rules.Outcome {
	if w.Fault != nil {
		out := p.failed(call, p.faultError(w.Fault, p.ruleLine(call)))
		out.Logs, out.Took = w.Logs, w.Took
		if call.Explain {
			out.Facts = p.facts(w, &out)
		}
		return out
	}
	out := rules.Outcome{Fired: w.Fired, Save: p.kept.asks(call, w), Timers: w.Timers, State: w.State, Requests: w.Requests, Logs: w.Logs, Took: w.Took, For: p.ownerOf(call)}
	for i := range out.Timers { // the bytes belong to a frame
		out.Timers[i].Data = bytes.Clone(out.Timers[i].Data)
	}
	for i := range out.Requests {
		q := &out.Requests[i]
		q.Data, q.Body = bytes.Clone(q.Data), bytes.Clone(q.Body)
	}
	for i := range w.Publish {
		m := &w.Publish[i]
		if !validName(m.Topic) {
			return p.failed(call, fmt.Errorf("the worker gave the topic %s", quoteTopic(m.Topic)))
		}
		if m.Expiry > 0 {
			m.Expires = call.Now.Add(m.Expiry)
		}
		m.Payload, m.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
		out.Publish = append(out.Publish, m.Message)
	}
	if r := p.ruleOf(call); r != nil && r.Stage == rules.Before && w.Verdict != message.Pass {
		out.Verdict = message.Verdict{Action: w.Verdict, By: r.Name}
		if w.Verdict == message.Replace {
			out.Verdict.Message = replaced(call, w.Replace)
		}
	}
	if call.Explain {
		out.Facts = p.facts(w, &out)
	}
	return out
}

// replaced takes the fields that a filter may set over into a copy of the message.
func replaced(call *rules.Call, got *wireMessage) *message.Message {
	m := *call.Message
	m.Topic, m.Payload = got.Topic, bytes.Clone(got.Payload) // the frame is not kept for it
	m.QoS, m.Retain, m.UTF8 = got.QoS, got.Retain, got.UTF8
	m.ContentType, m.ResponseTopic = got.ContentType, got.ResponseTopic
	m.CorrelationData, m.UserProperties = bytes.Clone(got.CorrelationData), got.UserProperties
	if got.Expiry != toWire(call).Expiry {
		m.Expires = time.Time{}
		if got.Expiry > 0 {
			m.Expires = call.Now.Add(got.Expiry)
		}
	}
	return &m
}

// applyState makes the changes of the state that belong to the outcome.
func (p *program) applyState(out *rules.Outcome) error {
	if len(out.State) == 0 {
		return nil
	}
	for i := range out.State { // the bytes belong to a frame
		if v := out.State[i].Value; v != nil {
			out.State[i].Value = bytes.Clone(v)
		}
	}
	return p.src.State.Apply(out.State)
}

// toWire is the message as the worker gets it.
func toWire(call *rules.Call) *wireMessage {
	m := &wireMessage{Message: *call.Message}
	if !m.Expires.IsZero() {
		// A message that expired on its way here still has its last moment.
		m.Expiry = max(m.Expires.Sub(call.Now), time.Nanosecond)
	}
	return m
}

// trackTimers keeps the list of timers that a new worker would not know.
func (p *program) trackTimers(call *rules.Call, out *rules.Outcome) {
	if call.Trigger == rules.OnTimer && !p.timers[call.Timer] {
		delete(p.timers, call.Timer)
	}
	for _, t := range out.Timers {
		switch {
		case t.After == 0:
			delete(p.timers, t.ID)
		case strings.HasPrefix(t.ID, handlerTimer) && len(p.timers) < 2*maxTimers:
			p.timers[t.ID] = t.Every
		}
	}
}

// forgetTimers empties that list, and reports whether there was any.
func (p *program) forgetTimers() bool {
	defer clear(p.timers)
	return len(p.timers) > 0
}

func (p *program) tellForgotten() {
	p.src.Log.Warn("timers that handlers of the script had set are gone with its runtime", "script", p.src.Name)
}
