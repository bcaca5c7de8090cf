package exprlang

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsonview"
)

// Language compiles rule files in YAML. It has no state and may be shared.
type Language struct{}

var _ rules.Language = Language{}

// New returns the language.
func New() Language { return Language{} }

// Name is "expr".
func (Language) Name() string { return "expr" }

// Extensions are those of YAML.
func (Language) Extensions() []string { return []string{".yaml", ".yml"} }

// Compile compiles one file. The error joins a *rules.Error for each thing that is
// wrong with it, at most 20.
func (Language) Compile(_ context.Context, src rules.Source) (rules.Program, error) {
	f, err := compileFile(&src)
	if err != nil {
		return nil, err
	}
	p := &program{rules: f.rules, table: f.table}
	p.machine = newMachine(f.rules, src.State)
	table := p.table // not the file with its text
	p.evaluators.New = func() any { return newEvaluator(table) }
	return p, nil
}

// Run waits for ctx: expressions need nothing to run in.
func (Language) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// program is one compiled file.
type program struct {
	rules      []*compiled
	table      *table
	unused     []string  // keys of Call.Kept that are to be taken away
	evaluators sync.Pool // of *evaluator
	outcomes   sync.Pool // of *[]rules.Outcome, see Reuse
	machine    *machine  // nil if no rule has steps that it must do
}

func (p *program) Close() error { return nil }

// Rules makes the list each time: whoever asks has it for himself.
func (p *program) Rules() []rules.Rule {
	all := make([]rules.Rule, len(p.rules))
	for i, r := range p.rules {
		all[i] = r.Rule
	}
	return all
}

// Handles reports whether a timer is that of a rule of this name, and shape.
func (p *program) Handles(name string) bool {
	return p.machine != nil && p.machine.handles[name] != nil
}

// Save gives windows, edges, and what rules remember beside their timers.
func (p *program) Save(asked bool, put func(key string, value []byte) error) error {
	err := p.saveValues(asked, put)
	if p.machine != nil {
		err = cmp.Or(err, p.machine.save(asked, put))
	}
	return err
}

// Run judges the messages. It looks at ctx between calls only: a single one is
// short by the bounds of limits.go.
func (p *program) Run(ctx context.Context, calls []rules.Call) []rules.Outcome {
	outs := p.room(len(calls))
	e := p.evaluators.Get().(*evaluator)
	e.plugins.ctx = ctx
	began, looked, flowed := time.Now(), time.Duration(0), false
	for i := range calls {
		if i&63 == 63 && ctx.Err() != nil {
			for k := i; k < len(calls); k++ {
				outs[k].Err = ctx.Err()
			}
			break
		}
		e.left = len(calls) - i
		e.explain(&calls[i], &outs[i])
		e.plugins.begin()
		if calls[i].Trigger == rules.OnStart {
			p.restoreValues(&calls[i])
		}
		if p.flows(&calls[i]) {
			p.machine.call(e, &calls[i], &outs[i])
			flowed = true
			ended := time.Since(began)
			outs[i].Took, looked = ended-looked, ended
			continue
		}
		if t := calls[i].Trigger; t != rules.OnMessage && t != rules.OnSchedule || calls[i].Rule >= len(p.rules) {
			continue
		}
		if p.rules[calls[i].Rule].judge(e, &calls[i], &outs[i]) {
			ended := time.Since(began) // which asks for less than Now
			outs[i].Took, looked = ended-looked, ended
		}
	}
	if flowed { // never by a Before rule, which run at the same time
		p.machine.settle()
	}
	e.unload()
	p.evaluators.Put(e)
	return outs
}

// mostReused is how many outcomes, and messages of one, are kept to be used again.
const mostReused = 512

// room is memory for so many outcomes, all zero but for the arrays of their Publish.
func (p *program) room(n int) []rules.Outcome {
	if outs, ok := p.outcomes.Get().(*[]rules.Outcome); ok && cap(*outs) >= n {
		return (*outs)[:n]
	}
	return make([]rules.Outcome, n)
}

// Reuse implements [rules.Reuser].
func (p *program) Reuse(outs []rules.Outcome) {
	if cap(outs) > mostReused {
		return
	}
	for i := range outs {
		msgs := outs[i].Publish[:0]
		if clear(msgs[:cap(msgs)]); cap(msgs) > mostReused {
			msgs = nil
		}
		outs[i] = rules.Outcome{Publish: msgs}
	}
	p.outcomes.Put(&outs)
}

// flows reports whether a call is one for the machine.
func (p *program) flows(call *rules.Call) bool {
	if p.machine == nil {
		return false
	}
	switch call.Trigger {
	case rules.OnMessage, rules.OnSchedule:
		return call.Rule < len(p.rules) && (p.rules[call.Rule].flow != nil || p.rules[call.Rule].part != nil)
	case rules.OnTimer, rules.OnReply, rules.OnStart:
	}
	return true
}

// judge makes one call. It reports false for the most frequent case, a condition
// that does not hold, which is not worth the time to look at the clock.
func (r *compiled) judge(e *evaluator, call *rules.Call, out *rules.Outcome) bool {
	if r.watch != nil {
		r.watch.hear(call.Message)
		return false
	}
	e.load(call)
	holds := true
	if len(r.windows) > 0 || r.trigger != nil {
		if holds, out.Err = r.notice(e, call, out); !holds {
			return out.Err != nil
		}
	}
	if r.gate != nil {
		var decided bool
		if out.Verdict, decided, out.Err = r.gate.judge(e); decided || out.Err != nil {
			out.Fired = decided
			return true
		}
	}
	if r.when != nil {
		holds, out.Err = e.condition(r.when)
	}
	switch {
	case out.Err != nil:
	case r.Stage == rules.Before:
		out.Verdict, out.Err = r.verdict(e, call.Message, holds && r.when != nil)
		out.Fired = out.Verdict.Action != message.Pass
	case holds:
		out.Err = r.publish(e, out)
		out.Fired = out.Err == nil
		if call.Explain {
			explainPublish(call, out)
		}
	default:
		return false
	}
	return true
}

// publish makes the messages of a rule, all or none.
func (r *compiled) publish(e *evaluator, out *rules.Outcome) error {
	n := len(r.do)
	if cap(out.Publish) < n {
		out.Publish = e.messages(n)[:0]
	}
	msgs := out.Publish[:n]
	for i := range msgs {
		if err := r.do[i].message(e, &msgs[i]); err != nil {
			clear(msgs)
			return err
		}
	}
	out.Publish = msgs
	return nil
}

// verdict is what a filter makes of a message.
func (r *compiled) verdict(e *evaluator, m *message.Message, drop bool) (message.Verdict, error) {
	if drop {
		return message.Verdict{Action: message.Drop}, nil
	}
	if r.redirect == nil && len(r.set) == 0 {
		return message.Verdict{}, nil
	}
	changed := *m
	if r.redirect != nil {
		topic, err := r.redirect.topicText(e)
		if err == nil {
			err = rules.CheckTopic(topic)
		}
		if err != nil {
			return message.Verdict{}, err
		}
		changed.Topic = topic
	}
	if len(r.set) > 0 {
		payload, err := r.fields(e)
		if err != nil {
			return message.Verdict{}, err
		}
		changed.Payload = payload
	}
	return message.Verdict{Action: message.Replace, Message: &changed}, nil
}

var errNoObject = &notEvaluated{reason: "the payload is not a JSON object, so it has no fields to set"}

// fields is the payload with the fields of "set" in their places, or at its end.
// The other members stay as they came.
func (r *compiled) fields(e *evaluator) ([]byte, error) {
	values := make([][]byte, len(r.set))
	for i := range r.set {
		var err error
		if values[i], err = e.appendJSON(nil, r.set[i].x); err != nil {
			return nil, err
		}
	}
	if e.payload.look() != isJSON || e.payload.value.Kind() != jsonview.Object {
		if err := e.payload.fault(); err != nil {
			return nil, err
		}
		return nil, errNoObject
	}
	b := make([]byte, 0, len(e.payload.bytes)+32*len(r.set))
	b = append(b, '{')
	written := make([]bool, len(r.set))
	for key, v := range e.payload.value.Members {
		name := key.Text()
		at := slices.IndexFunc(r.set, func(s setField) bool { return s.name == name })
		switch {
		case at < 0:
			b = appendRaw(append(appendRawString(comma(b), key), ':'), v)
		case !written[at]:
			b = append(append(comma(b), r.set[at].key...), values[at]...)
			written[at] = true
		}
	}
	for i := range r.set {
		if !written[i] {
			b = append(append(comma(b), r.set[i].key...), values[i]...)
		}
	}
	return append(b, '}'), nil
}

// comma separates members.
func comma(b []byte) []byte {
	if b[len(b)-1] == '{' {
		return b
	}
	return append(b, ',')
}
