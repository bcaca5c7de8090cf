package jsvm

import (
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Flags of an outcome.
const (
	flagFired = 1 << iota
	flagFault
	flagEffects // publishes, timers, state or logs follow
	flagAll     = flagFired | flagFault | flagEffects
)

func (o *wireOutcome) effects() bool {
	return len(o.Publish)+len(o.Timers)+len(o.State)+len(o.Logs)+len(o.Requests)+len(o.Adds)+len(o.Paced)+len(o.Facts) > 0
}

func (o *wireOutcome) flags() byte {
	var f byte
	if o.Fired {
		f |= flagFired
	}
	if o.Fault != nil {
		f |= flagFault
	}
	if o.effects() {
		f |= flagEffects
	}
	return f
}

func (w *encoder) outcome(o *wireOutcome) {
	w.byte(o.flags())
	w.span(o.Took)
	w.byte(byte(o.Verdict))
	if o.Verdict == message.Replace {
		w.message(o.Replace)
	}
	if o.Fault != nil {
		w.text(o.Fault.File)
		w.count(o.Fault.Line)
		w.count(o.Fault.Column)
		w.text(o.Fault.Msg)
	}
	if !o.effects() {
		return
	}
	w.count(len(o.Publish))
	for i := range o.Publish {
		w.message(&o.Publish[i])
	}
	w.timers(o.Timers)
	w.state(o.State)
	w.logs(o.Logs)
	w.requests(o.Requests)
	w.adds(o.Adds)
	w.paced(o.Paced)
	w.facts(o.Facts)
}

func (r *decoder) outcome(o *wireOutcome) {
	flags := r.byte()
	if flags&^flagAll != 0 {
		r.fail("outcome flags")
	}
	o.Fired = flags&flagFired != 0
	o.Took = r.span()
	o.Verdict = message.Action(r.enum(byte(message.Reject)))
	if o.Verdict == message.Replace {
		o.Replace = new(wireMessage)
		r.message(o.Replace)
	}
	if flags&flagFault != 0 {
		o.Fault = &fault{File: r.text(), Line: r.small(), Column: r.small(), Msg: r.text()}
	}
	if flags&flagEffects == 0 {
		return
	}
	n := r.count(minMessage)
	if n > maxPublish {
		r.fail("number of publishes")
		return
	}
	if n > 0 {
		o.Publish = make([]wireMessage, n)
	}
	for i := range o.Publish {
		r.message(&o.Publish[i])
	}
	o.Timers, o.State, o.Logs = r.timers(), r.state(), r.logs()
	o.Requests, o.Adds, o.Paced, o.Facts = r.requests(), r.adds(), r.paced(), r.facts()
}

// minMessage is the least that a message takes on the pipe.
const minMessage = 10

// Flags of a message; its lowest two bits are the QoS.
const (
	flagRetain = 1 << (iota + 2)
	flagUTF8
	flagProperties // content type, response topic, correlation data, user properties follow
	flagsMessage   = 3 | flagRetain | flagUTF8 | flagProperties
)

func hasProperties(m *wireMessage) bool {
	return m.ContentType != "" || m.ResponseTopic != "" || len(m.CorrelationData) > 0 || len(m.UserProperties) > 0
}

func (w *encoder) message(m *wireMessage) {
	f := byte(m.QoS) & 3
	if m.Retain {
		f |= flagRetain
	}
	if m.UTF8 {
		f |= flagUTF8
	}
	if hasProperties(m) {
		f |= flagProperties
	}
	w.byte(f)
	w.text(m.Topic)
	w.bytes(m.Payload)
	w.text(m.Origin)
	w.byte(m.Hops)
	w.time(m.At)
	w.uint(m.Order)
	w.span(m.Expiry)
	if f&flagProperties == 0 {
		w.b = append(w.b, 0, 0) // so that no message is shorter than minMessage
		return
	}
	w.text(m.ContentType)
	w.text(m.ResponseTopic)
	w.bytes(m.CorrelationData)
	w.count(len(m.UserProperties))
	for _, p := range m.UserProperties {
		w.text(p.Key)
		w.text(p.Value)
	}
}

func (r *decoder) message(m *wireMessage) {
	f := r.byte()
	if f&^flagsMessage != 0 || f&3 == 3 {
		r.fail("message flags")
	}
	m.QoS, m.Retain, m.UTF8 = message.QoS(f&3), f&flagRetain != 0, f&flagUTF8 != 0
	m.Topic, m.Payload, m.Origin = r.text(), r.bytes(), r.text()
	m.Hops, m.At, m.Order, m.Expiry = r.byte(), r.time(), r.uint(), r.span()
	if f&flagProperties == 0 {
		r.byte()
		r.byte()
		return
	}
	m.ContentType, m.ResponseTopic, m.CorrelationData = r.text(), r.text(), r.bytes()
	for range r.count(2) {
		m.UserProperties = append(m.UserProperties, message.Property{Key: r.text(), Value: r.text()})
	}
}

func (w *encoder) timers(timers []rules.TimerChange) {
	w.count(len(timers))
	for _, t := range timers {
		w.text(t.ID)
		w.span(t.After)
		w.bool(t.Every)
		w.text(t.Name)
		w.bytes(t.Data)
	}
}

func (r *decoder) timers() []rules.TimerChange {
	n := r.count(5)
	if n == 0 {
		return nil
	}
	timers := make([]rules.TimerChange, n)
	for i := range timers {
		timers[i] = rules.TimerChange{ID: r.text(), After: r.span(), Every: r.bool(), Name: r.text(), Data: r.bytes()}
	}
	return timers
}

func (w *encoder) state(changes []rules.StateChange) {
	w.count(len(changes))
	for _, c := range changes {
		w.text(c.Key)
		w.bytes(c.Value) // no JSON value is empty: empty is removed
	}
}

func (r *decoder) state() []rules.StateChange {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	changes := make([]rules.StateChange, n)
	for i := range changes {
		changes[i] = rules.StateChange{Key: r.text(), Value: r.bytes()}
	}
	return changes
}
