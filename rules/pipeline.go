package rules

import (
	"context"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// ReasonFailed is the reason code of a message that was refused because its filter
// failed, or gave none: implementation specific error (MQTT 5.0 §2.4).
const ReasonFailed = 0x83

// Intercept judges messages with the Before rules, before they are routed. It
// returns a verdict for each message, or nil if all pass. A message is judged by
// the rules that hear its topic, by their priority, the name of their file and their own;
// a replacement goes to the rules that come after, with its new topic, and a drop
// or rejection ends it. It may be called by many goroutines at once.
func (e *Engine) Intercept(ctx context.Context, msgs []message.Message) []message.Verdict {
	if !e.set.Load().before.hearsAny(msgs) {
		return nil
	}
	s := e.acquire()
	defer e.release(s)
	p := e.pipelines.Get().(*pipeline)
	defer e.pipelines.Put(p)
	defer p.clear()
	p.engine, p.stage, p.now = e, &s.before, e.clock.Now()
	p.enter(msgs)
	for _, sp := range s.before.spans {
		for p.collect(sp) {
			outs := e.runProgram(ctx, sp.unit, p.calls, e.opts.BeforeTimeout)
			for i := range outs {
				p.settle(i, &outs[i])
			}
			sp.unit.reuse(outs)
		}
	}
	return p.verdicts()
}

// Hears reports whether a Before rule hears a topic: what Intercept is not shown, it
// would have passed.
func (e *Engine) Hears(name string) bool {
	before := &e.set.Load().before
	return len(before.judges) > 0 && before.hears(name)
}

func (s *stage) hearsAny(msgs []message.Message) bool {
	if len(s.judges) == 0 {
		return false
	}
	for i := range msgs {
		if s.hears(msgs[i].Topic) {
			return true
		}
	}
	return false
}

// pipeline takes one batch of messages through the Before rules. Rules of one
// program that different messages meet are run together, so that a program which
// lives behind a pipe is asked as seldom as possible.
type pipeline struct {
	engine  *Engine
	stage   *stage
	now     time.Time
	flights []flight
	calls   []Call
	owners  []int // of the calls: index in flights
}

// flight is one message on its way through the pipeline.
type flight struct {
	msg     *message.Message
	rules   []int // still to come: positions in stage.judges
	verdict message.Verdict
	done    bool
	prev    *message.Message // of the topic; valid if looked
	looked  bool
}

func (p *pipeline) enter(msgs []message.Message) {
	for i := range msgs {
		if i < cap(p.flights) {
			p.flights = p.flights[:i+1]
		} else {
			p.flights = append(p.flights, flight{})
		}
		f := &p.flights[i]
		f.msg = &msgs[i]
		f.rules = p.stage.match(f.rules[:0], f.msg.Topic, 0)
	}
}

// clear forgets the messages and keeps the memory.
func (p *pipeline) clear() {
	for i := range p.flights {
		p.flights[i] = flight{rules: p.flights[i].rules[:0]}
	}
	clear(p.calls)
	p.flights, p.calls, p.owners = p.flights[:0], p.calls[:0], p.owners[:0]
	p.engine, p.stage = nil, nil
}

// collect gathers the next call of each message that the program judges, and
// reports whether there is any.
func (p *pipeline) collect(sp span) bool {
	p.calls, p.owners = p.calls[:0], p.owners[:0]
	for i := range p.flights {
		f := &p.flights[i]
		if f.done || len(f.rules) == 0 || f.rules[0] >= sp.to {
			continue
		}
		j := p.stage.judges[f.rules[0]]
		call := Call{Trigger: OnMessage, Rule: j.index, Message: f.msg, Explain: j.wantsFacts(p.now, p.engine.opts.Limits.Explained), Now: p.now}
		if j.Prev {
			call.Prev = p.prevOf(f)
		}
		p.calls, p.owners = append(p.calls, call), append(p.owners, i)
	}
	return len(p.calls) > 0
}

// prevOf is the message that came before on the topic, as it came: the first rule
// to ask makes this message the next one's previous.
func (p *pipeline) prevOf(f *flight) *message.Message {
	if !f.looked {
		e := p.engine
		e.historyMu.Lock()
		f.prev, f.looked = e.history.swap(f.msg), true
		e.historyMu.Unlock()
	}
	return f.prev
}

// settle does what the outcome of a call says with its message.
func (p *pipeline) settle(i int, out *Outcome) {
	f, call := &p.flights[p.owners[i]], &p.calls[i]
	at := f.rules[0]
	j := p.stage.judges[at]
	f.rules = f.rules[1:]
	if out.Err == nil && out.Verdict.Action == message.Replace {
		out.Err = checkReplacement(out.Verdict.Message)
	}
	if len(out.Publish) > 0 && out.Err == nil {
		out.Err = &Error{File: j.unit.file, Line: j.Line, Msg: "a filter cannot publish"}
	}
	t := entry(j, call, out)
	switch {
	case out.Err != nil && j.OnError == PassOnError:
	case out.Err != nil:
		f.end(message.Verdict{Action: message.Reject, Reason: ReasonFailed, By: j.Name})
		j.count(func(c *Counters) { c.Rejected++ })
	default:
		p.obey(f, j, at, out.Verdict, &t)
	}
	p.engine.note(j, t, out)
	p.engine.lanes[j.unit.lane].hand(j.unit, call, out)
}

// checkReplacement refuses what a program may not make of a message.
func checkReplacement(m *message.Message) error {
	if m == nil {
		return errNotMade
	}
	return checkMessage(m)
}

func (f *flight) end(v message.Verdict) { f.verdict, f.done = v, true }

// obey carries out the verdict of the judge at position at.
func (p *pipeline) obey(f *flight, j *judge, at int, v message.Verdict, t *TraceEntry) {
	v.By = j.Name
	switch v.Action {
	case message.Pass:
	case message.Drop:
		t.Outcome = RanDropped
		f.end(v)
	case message.Reject:
		t.Outcome = RanRejected
		if v.Reason < 0x80 {
			v.Reason = ReasonFailed
		}
		f.end(v)
	case message.Replace:
		t.Outcome = RanReplaced
		was := f.msg
		v.Message.Origin, v.Message.Hops, v.Message.At = was.Origin, was.Hops, was.At
		f.verdict, f.msg = v, v.Message
		if was.Topic != f.msg.Topic {
			f.rules = p.stage.match(f.rules[:0], f.msg.Topic, at+1)
			f.prev, f.looked = nil, false
		}
	}
}

// verdicts returns what was decided, nil if every message passes as it is.
func (p *pipeline) verdicts() []message.Verdict {
	var all []message.Verdict
	for i := range p.flights {
		if p.flights[i].verdict.Action == message.Pass {
			continue
		}
		if all == nil {
			all = make([]message.Verdict, len(p.flights))
		}
		all[i] = p.flights[i].verdict
	}
	return all
}
