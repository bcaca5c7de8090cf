package exprlang

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// step does what one instruction says, and moves the thread on or makes it wait.
func (g *goes) step(t *thread, in *instr) error {
	var err error
	to := t.PC + 1
	switch in.op {
	case opPublish:
		err = g.publish(in.publish)
	case opSet:
		err = g.set(in.set)
	case opLog:
		err = g.log(in)
	case opWait:
		err = g.wait(t, in)
	case opUntil:
		return g.until(t, in)
	case opHTTP:
		return g.request(t, in)
	case opUnless:
		var holds bool
		if holds, err = g.e.condition(in.x); !holds {
			to = in.to
		}
	case opJump:
		to = in.to
	case opLoop:
		err = g.loop(t, in)
	case opTurn:
		to, err = g.turn(t, in)
	case opNext:
		to, err = g.next(t, in)
	case opFork:
		return g.fork(t, in)
	case opEnd:
		g.branchEnds(t)
		return nil
	case opEnter:
		err = g.enter(t, in)
	case opLeave:
		t.With = t.With[:len(t.With)-1]
	case opStop:
		return g.halt(in)
	}
	if err == nil {
		t.PC = to
	}
	return err
}

// publish makes one message.
func (g *goes) publish(p *publish) error {
	var m message.Message
	if err := p.message(g.e, &m); err != nil {
		return err
	}
	if g.bytes += m.Size(); len(g.out.Publish)-g.msgs >= maxGoMsgs || g.bytes > maxGoBytes {
		return fmt.Errorf("it publishes more than %d messages or %d bytes without a wait", maxGoMsgs, maxGoBytes)
	}
	g.out.Publish = append(g.out.Publish, m)
	if g.call.Explain {
		g.fact("publish "+m.Topic, string(m.Payload))
	}
	return nil
}

// message makes the message that an entry publishes. What of it is made for this message
// alone lies in one piece of memory.
func (p *publish) message(e *evaluator, m *message.Message) (err error) {
	var topic, payload []byte
	name, fixed := p.topic.literal()
	if !fixed {
		if topic, err = p.topic.topicBytes(e); err != nil {
			return err
		}
	}
	if p.payload != nil {
		if m.Payload = p.payload.raw; p.payload.kind != rawNode {
			if payload, err = p.payload.whole(e, e.body[:0]); err != nil {
				return err
			}
			e.body = payload
		}
	}
	m.SetCopies(topic, payload)
	if fixed {
		m.Topic = name
	}
	m.QoS, m.Retain = p.qos, p.retain
	if p.more != nil {
		if err := p.more.set(e, m); err != nil {
			return err
		}
	}
	return rules.CheckTopic(m.Topic)
}

// set changes variables of the file, all of one step or none. What comes after sees
// them.
func (g *goes) set(fields []setField) error {
	changes := make([]rules.StateChange, len(fields))
	for i := range fields {
		value, err := g.e.appendJSON(nil, fields[i].x)
		if err != nil {
			return err
		}
		if string(value) == "null" {
			value = nil
		}
		changes[i] = rules.StateChange{Key: fields[i].name, Value: value}
		g.fact("set "+fields[i].name, string(value))
	}
	return g.change(changes)
}

// change makes changes of the state, which can be taken back.
func (g *goes) change(changes []rules.StateChange) error {
	before := make([]rules.StateChange, len(changes))
	for i, c := range changes {
		before[i] = rules.StateChange{Key: c.Key, Value: g.m.state.Value(c.Key)}
	}
	if err := g.m.state.Apply(changes); err != nil {
		return err
	}
	g.undo = append(g.undo, before...)
	g.out.State = append(g.out.State, changes...)
	g.e.gen++
	return nil
}

func (g *goes) log(in *instr) error {
	line, _, err := in.text.render(g.e, nil)
	if err != nil {
		return err
	}
	g.out.Logs = append(g.out.Logs, rules.LogLine{Level: in.level, Text: abridgeTo(string(line), 1_000)})
	return nil
}

func (g *goes) warn(text string) {
	g.out.Logs = append(g.out.Logs, rules.LogLine{Level: slog.LevelWarn, Text: abridgeTo(text, 1_000)})
}

func abridgeTo(s string, longest int) string {
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// fact tells what happened, if somebody wants to know.
func (g *goes) fact(what, value string) {
	addFact(g.call, g.out, what, value)
}

// addFact tells something of a call, within the bound of what is told of one.
func addFact(call *rules.Call, out *rules.Outcome, what, value string) {
	if call.Explain && len(out.Facts) < maxFacts {
		out.Facts = append(out.Facts, rules.Fact{What: abridgeTo(what, maxFactWhat), Value: abridgeTo(value, maxFactWhat)})
	}
}

// span is the duration that a text comes to.
func (g *goes) span(t *template) (time.Duration, error) {
	text, _, err := t.render(g.e, nil)
	if err != nil {
		return 0, err
	}
	return parseDuration(string(text), longestWait)
}

func (g *goes) wait(t *thread, in *instr) error {
	d, err := g.span(in.text)
	if err != nil {
		return err
	}
	g.fact("wait", d.String())
	if d > 0 {
		t.Wait, t.due = forTime, g.call.Now.Add(d)
	}
	return nil
}

// until begins a wait for a message. A condition that reads none is looked at now.
func (g *goes) until(t *thread, in *instr) error {
	w := in.wait
	if w.anywhere {
		holds, err := g.e.condition(w.until)
		if err != nil {
			return err
		}
		if holds {
			g.woken(t, nil)
			return nil
		}
	}
	d := longestUntil
	if w.timeout != nil {
		var err error
		if d, err = g.span(w.timeout); err != nil {
			return err
		}
	}
	g.fact("wait until", "at most "+d.String())
	t.Wait, t.due = forUntil, g.call.Now.Add(d)
	if t.since = g.call.Message; t.since != nil {
		g.m.fresh = append(g.m.fresh, g.run)
	}
	return nil
}

// woken ends a wait because of a message.
func (g *goes) woken(t *thread, m *message.Message) {
	t.Wait, t.PC = running, t.PC+1
	t.name("timed_out", []byte("false"))
	if m != nil {
		t.name("heard", messageJSON(m))
	}
}

// timedOut ends a wait for a message, because none came.
func (g *goes) timedOut(t *thread, w *waitStep) {
	g.fact("wait until", "timed out")
	if !w.goOn {
		g.stop = true
		return
	}
	t.Wait, t.PC = running, t.PC+1
	t.name("timed_out", []byte("true"))
}

func (g *goes) halt(in *instr) error {
	var why []byte
	if in.text != nil {
		var err error
		if why, _, err = in.text.render(g.e, nil); err != nil {
			return err
		}
	}
	g.fact("stop", string(why))
	g.stop = true
	return nil
}

func (g *goes) loop(t *thread, in *instr) error {
	most := -1
	if in.text != nil {
		text, _, err := in.text.render(g.e, nil)
		if err != nil {
			return err
		}
		if most, err = strconv.Atoi(string(text)); err != nil || most < 0 || most > maxTimes {
			return fmt.Errorf("times is %q, not a whole number up to %d", abridge(string(text)), maxTimes)
		}
	}
	t.Loops = append(t.Loops, turns{Max: most})
	return nil
}

func (g *goes) turn(t *thread, in *instr) (to int, err error) {
	l := t.Loops[len(t.Loops)-1]
	if l.Max >= 0 && l.N >= l.Max {
		return in.next, nil
	}
	if in.x == nil {
		return t.PC + 1, nil
	}
	holds, err := g.e.condition(in.x)
	if !holds {
		return in.next, err
	}
	return t.PC + 1, nil
}

func (g *goes) next(t *thread, in *instr) (to int, err error) {
	if in.x != nil {
		holds, err := g.e.condition(in.x)
		if holds || err != nil {
			return in.next, err
		}
	}
	t.Loops[len(t.Loops)-1].N++
	return in.to, nil
}

func (g *goes) enter(t *thread, in *instr) error {
	with := []byte{'{'}
	for i := range in.set {
		with = append(comma(with), in.set[i].key...)
		var err error
		if with, err = g.e.appendJSON(with, in.set[i].x); err != nil {
			return err
		}
	}
	t.With = append(t.With, append(with, '}'))
	return nil
}

func (g *goes) request(t *thread, in *instr) error {
	h := in.http
	q := rules.Request{
		ID: g.run.id + "/" + strconv.Itoa(g.run.nextID), Name: g.run.flow.handle(), Data: []byte("null"),
		Method: h.method, Timeout: h.timeout, Retries: h.retries,
	}
	target, _, err := h.url.render(g.e, nil)
	if err != nil {
		return err
	}
	q.URL = string(target)
	if len(g.out.Requests)-g.requests >= maxGoRequest {
		return fmt.Errorf("it makes more than %d requests at once", maxGoRequest)
	}
	if len(h.header) > 0 {
		q.Header = make(map[string]string, len(h.header))
	}
	for i := range h.header {
		value, _, err := h.header[i].value.render(g.e, nil)
		if err != nil {
			return err
		}
		if strings.ContainsAny(string(value), "\r\n\x00") {
			return fmt.Errorf("the header field %q has more than one line", h.header[i].name)
		}
		q.Header[h.header[i].name] = string(value)
	}
	if h.body != nil {
		if q.Body, err = h.body.whole(g.e, nil); err != nil {
			return err
		}
	}
	g.out.Requests = append(g.out.Requests, q)
	g.fact("http "+q.Method+" "+q.URL, string(q.Body))
	if g.run.flow.rule.Shadow { // nobody makes it
		t.name(h.as, []byte(`{"status":0,"header":{},"body":null}`))
		t.PC++
		return nil
	}
	t.Asked = g.run.nextID
	g.run.nextID++
	t.Wait, t.due = forReply, g.call.Now.Add(longestUntil)
	return nil
}

// explainPublish tells what a rule without further steps has published.
func explainPublish(call *rules.Call, out *rules.Outcome) {
	for i := range out.Publish {
		addFact(call, out, "publish "+out.Publish[i].Topic, string(out.Publish[i].Payload))
	}
}
