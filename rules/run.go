package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// errNotMade is the error of a call that a program left without an outcome.
var errNotMade = errors.New("the program returned no outcome for it")

// runProgram makes the calls, within timeout. There is an outcome for each call,
// whatever the program does.
func (e *Engine) runProgram(ctx context.Context, u *unit, calls []Call, timeout time.Duration) []Outcome {
	bounded := &deadline{Context: ctx, at: time.Now().Add(timeout)}
	defer bounded.stop()
	outs, err := runGuarded(bounded, u.prog, calls)
	if err == nil && len(outs) == len(calls) {
		return outs
	}
	if err == nil {
		err = errNotMade
	}
	outs = append(make([]Outcome, 0, len(calls)), outs[:min(len(outs), len(calls))]...)
	for len(outs) < len(calls) {
		outs = append(outs, Outcome{Err: err})
	}
	return outs
}

// reuse gives the program back what runProgram has returned.
func (u *unit) reuse(outs []Outcome) {
	if r, ok := u.prog.(Reuser); ok {
		r.Reuse(outs)
	}
}

func runGuarded(ctx context.Context, p Program, calls []Call) (outs []Outcome, err error) {
	defer recovered(&err)
	return p.Run(ctx, calls), nil
}

// deadline is a context with a timeout whose timer is made when somebody first
// waits for it: most programs never do.
type deadline struct {
	context.Context
	at   time.Time
	mu   sync.Mutex
	done context.Context
	free context.CancelFunc
}

func (d *deadline) Deadline() (time.Time, bool) { return d.start().Deadline() }
func (d *deadline) Done() <-chan struct{}       { return d.start().Done() }
func (d *deadline) Err() error                  { return d.start().Err() }

func (d *deadline) start() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done, d.free = context.WithDeadline(d.Context, d.at)
	}
	return d.done
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free != nil {
		d.free()
	}
}

// entry says what became of one call. Before tells that a message passed on.
func entry(j *judge, call *Call, out *Outcome) TraceEntry {
	t := TraceEntry{At: call.Now, Took: out.Took, Outcome: RanNotFired, Trigger: call.trigger(), Facts: out.Facts}
	if call.Message != nil {
		t.Topic = call.Message.Topic
	}
	switch {
	case errors.Is(out.Err, ErrNotEvaluated):
		t.Outcome, t.Why = RanNotEvaluated, out.Err.Error()
	case out.Err != nil:
		t.Outcome, t.Why = RanFailed, abridged(out.Err.Error())
	case out.Refused != "":
		t.Outcome, t.Why = RanRefused, abridged(out.Refused)
	case out.Missed:
		t.Outcome, t.Why = RanMissed, "it was due "+call.Late.Round(time.Second).String()+" ago"
	case out.Fired && j.Shadow:
		t.Outcome = RanShadow
	case out.Fired:
		t.Outcome = RanFired
	}
	return t
}

// trigger names what runs the call, if it is no message.
func (c *Call) trigger() string {
	switch c.Trigger {
	case OnTimer:
		return "timer"
	case OnReply:
		return "reply"
	case OnSchedule:
		return c.Schedule
	case OnMessage, OnStart:
	}
	return ""
}

// judgeOf is whom a call's outcome is told of: the rule, for a timer or a hidden rule
// the one that it belongs to, or the file itself.
func (u *unit) judgeOf(call *Call, out *Outcome) *judge {
	j := u.own
	if call.Trigger == OnMessage || call.Trigger == OnSchedule {
		j = u.rules[call.Rule]
	}
	if out != nil && (j == u.own || j.Hidden) && out.For > 0 && out.For <= len(u.rules) {
		return u.rules[out.For-1]
	}
	return j
}

// note counts one call, logs what the rule had to say and, once a period, its
// error.
func (e *Engine) note(j *judge, t TraceEntry, out *Outcome) {
	if !j.Hidden || out.Err != nil {
		j.ran(t)
		if e.ran != nil {
			e.ran(Ran{File: j.unit.file, Rule: j.Rule, Entry: t})
		}
	}
	if out.Err != nil {
		e.complain(j, t.At, t.Outcome, out.Err)
	}
	for _, line := range out.Logs {
		e.say(j, line)
	}
}

// complain logs an error of a rule unless it did so in this period.
func (e *Engine) complain(j *judge, now time.Time, what string, err error) {
	silent, ok := j.mayLog(now, e.opts.LogPeriod)
	if !ok {
		return
	}
	e.log.Warn("rule did not do its work", "file", j.unit.file, "rule", j.Name, "outcome", what, "error", err, "others_since", silent)
}

// linesAPeriod is how many lines a rule may log in a period; the rest is counted.
const linesAPeriod = 100

func (e *Engine) say(j *judge, line LogLine) {
	silent, ok := j.mayTalk(e.clock.Now(), e.opts.LogPeriod)
	if !ok {
		return
	}
	attrs := []slog.Attr{slog.String("file", j.unit.file), slog.String("rule", j.Name), slog.String("text", line.Text)}
	if silent > 0 {
		attrs = append(attrs, slog.Uint64("lines_left_out", silent))
	}
	e.log.LogAttrs(context.Background(), line.Level, "rule says", attrs...)
}

// failedPublish notes that a message of a rule was not accepted.
func (e *Engine) failedPublish(j *judge, err error) {
	now := e.clock.Now()
	j.failed(now, abridged(err.Error()))
	e.complain(j, now, RanFailed, fmt.Errorf("its message was not published: %w", err))
}
