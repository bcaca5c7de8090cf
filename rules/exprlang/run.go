package exprlang

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// run is one run of a rule that has steps, on its way.
type run struct {
	flow    *flow
	id      string // of its timer: "do/7"
	key     string
	msg     *message.Message // what triggered it; nil if nothing did
	prev    *message.Message
	threads []*thread
	nextID  int
	due     time.Time // of its timer
	stands  bool      // its timer does
	queued  bool      // it has not begun
	turn    time.Time // when it left the queue
	ended   bool
	born    *message.Message // what came while it was waiting is not this
}

// thread is one line of steps of a run; "parallel" makes more of them. What has a tag
// goes into the store.
type thread struct {
	ID    int               `json:"i"`
	Up    int               `json:"u"`           // the thread that waits for it to end; -1 is none
	Left  int               `json:"n,omitempty"` // branches that it waits for
	PC    int               `json:"p"`
	Loops []turns           `json:"l,omitempty"`
	With  []json.RawMessage `json:"w,omitempty"` // what each call around it was given
	Named map[string][]byte `json:"v,omitempty"` // its variables, JSON
	Tries int               `json:"t,omitempty"`
	Asked int               `json:"a,omitempty"` // the request that it waits for
	Wait  waiting           `json:"k,omitempty"`
	After time.Duration     `json:"d,omitempty"` // due so long after the run's timer

	due   time.Time
	since *message.Message // during which its wait began, which does not end it
}

type turns struct {
	N   int `json:"n"`
	Max int `json:"m"` // below 0 is any
}

type waiting uint8

const (
	running   waiting = iota
	forTime           // goes on at PC when it is due
	forUntil          // PC is the wait
	forReply          // PC is the request
	forBranch         // PC is behind the branches
)

// Bounds of one go of a run, which is what it does without a wait.
const (
	maxGo        = 10_000 // steps
	maxGoMsgs    = 1_000
	maxGoBytes   = 4 << 20
	maxThreads   = 64
	maxGoRequest = 16
)

// scope is the variables of a run, for its expressions.
type scope struct {
	named   map[string][]byte
	with    json.RawMessage
	turn    int              // below 0 is none
	trigger *message.Message // while a wait judges another message
	heard   *message.Message
}

// value is the JSON of one of the run's variables, nil if it has none such.
func (s *scope) value(name string) []byte {
	switch name {
	case "with":
		return s.with
	case "turn":
		if s.turn < 0 {
			return nil
		}
		return strconv.AppendInt(nil, int64(s.turn), 10)
	case "trigger":
		return messageJSON(s.trigger)
	case "heard":
		if s.heard != nil {
			return messageJSON(s.heard)
		}
	}
	return s.named[name]
}

// messageJSON is a message for expressions: its topic, payload and properties.
func messageJSON(m *message.Message) []byte {
	if m == nil {
		return nil
	}
	b := append(appendQuoted([]byte(`{"topic":`), m.Topic), `,"payload":`...)
	return append(appendProperties(appendJSONOrText(b, m.Payload), m), '}')
}

// appendJSONOrText writes bytes that are JSON as they are, any others as text.
func appendJSONOrText(b, payload []byte) []byte {
	if len(payload) <= maxPayload && mayBeJSON(payload) && json.Valid(payload) && utf8.Valid(payload) {
		return append(b, payload...)
	}
	return appendQuoted(b, payload)
}

// goes is one go of a run: from a trigger or a wait to the next wait or the end.
type goes struct {
	m    *machine
	e    *evaluator
	run  *run
	call *rules.Call
	out  *rules.Outcome
	// What the outcome had before.
	msgs, requests int
	undo           []rules.StateChange
	states         int
	bytes, steps   int
	stop           bool
}

// proceed lets the threads of a run go on until all wait, or it has ended.
func (g *goes) proceed() error {
	r := g.run
	g.msgs, g.requests, g.states = len(g.out.Publish), len(g.out.Requests), len(g.out.State)
	call := rules.Call{Message: r.msg, Prev: r.prev, Now: g.call.Now}
	g.e.load(&call)
	defer g.e.enter(nil)
	for again := true; again && !g.stop; {
		again = false
		for i := 0; i < len(r.threads) && !g.stop; i++ {
			if t := r.threads[i]; t.Wait == running {
				again = true
				if err := g.thread(t); err != nil {
					g.rollBack()
					return err
				}
			}
		}
		r.threads = slices.DeleteFunc(r.threads, func(t *thread) bool { return t.PC < 0 })
	}
	if g.stop {
		r.threads = nil
	}
	return nil
}

// rollBack takes back what the go has done.
func (g *goes) rollBack() {
	g.out.Publish, g.out.Requests, g.out.State = g.out.Publish[:g.msgs], g.out.Requests[:g.requests], g.out.State[:g.states]
	slices.Reverse(g.undo)
	if len(g.undo) > 0 {
		_ = g.m.state.Apply(g.undo) // as it was, which had room
	}
	g.undo = nil
}

// thread runs one until it waits or ends; then its PC is below 0.
func (g *goes) thread(t *thread) error {
	for t.Wait == running && t.PC >= 0 && !g.stop {
		in := &g.run.flow.code[t.PC]
		if g.steps++; g.steps > maxGo {
			return g.at(in, fmt.Errorf("it went through %d steps without a wait", maxGo))
		}
		t.cut(in)
		g.e.enter(t.scope(in))
		pc := t.PC
		if err := g.step(t, in); err != nil {
			if err := g.failed(t, in, err); err != nil {
				return err
			}
		} else if t.PC != pc || t.Wait == running {
			t.Tries = 0
		}
	}
	return nil
}

// cut drops what belongs to calls and repeats that the thread has left.
func (t *thread) cut(in *instr) {
	t.With = t.With[:min(len(t.With), in.depth)]
	t.Loops = t.Loops[:min(len(t.Loops), in.loops)]
}

func (t *thread) scope(in *instr) *scope {
	s := &scope{named: t.Named, turn: -1}
	if len(t.With) > 0 {
		s.with = t.With[len(t.With)-1]
	}
	if n := len(t.Loops); n > 0 {
		s.turn = t.Loops[n-1].N
	}
	return s
}

func (t *thread) name(name string, value []byte) {
	if t.Named == nil {
		t.Named = make(map[string][]byte)
	}
	t.Named[name] = value
}

// at says in which line something went wrong.
func (g *goes) at(in *instr, err error) error {
	return fmt.Errorf("line %d: %w", in.line, err)
}

// failed does what the plan of a step says about an error, or returns it.
func (g *goes) failed(t *thread, in *instr, err error) error {
	err = g.at(in, err)
	p := in.plan
	if p == nil {
		return err
	}
	if t.Tries < p.retry {
		t.Tries++
		t.Wait = forTime
		t.due = g.call.Now.Add(min(p.pause<<(t.Tries-1), longestPause))
		g.fact("on_error: try again in", t.due.Sub(g.call.Now).String())
		return nil
	}
	t.Tries = 0
	switch p.kind {
	case planContinue:
		g.warn("goes on after an error: " + err.Error())
		t.PC = in.next
	case planDo:
		t.name("error", appendQuoted(nil, err.Error()))
		g.fact("on_error", err.Error())
		t.PC = p.to
	case planStop:
		return err
	}
	return nil
}

// branchEnds ends a thread; the one that waits for the last of them goes on with the
// variables of all.
func (g *goes) branchEnds(t *thread) {
	t.PC = -1
	for _, up := range g.run.threads {
		if up.ID != t.Up {
			continue
		}
		for name, value := range t.Named {
			up.name(name, value)
		}
		if up.Left--; up.Left == 0 {
			up.Wait = running
		}
	}
}

// fork begins the branches of "parallel".
func (g *goes) fork(t *thread, in *instr) error {
	r := g.run
	if len(r.threads)+len(in.branches) > maxThreads {
		return fmt.Errorf("more than %d branches run at once", maxThreads)
	}
	for _, pc := range in.branches {
		r.threads = append(r.threads, &thread{
			ID: r.nextID, Up: t.ID, PC: pc, Loops: slices.Clone(t.Loops), With: slices.Clone(t.With), Named: cloneNamed(t.Named),
		})
		r.nextID++
	}
	t.Wait, t.Left, t.PC = forBranch, len(in.branches), in.to
	return nil
}

func cloneNamed(named map[string][]byte) map[string][]byte {
	if len(named) == 0 {
		return nil
	}
	clone := make(map[string][]byte, len(named))
	for k, v := range named {
		clone[k] = v
	}
	return clone
}

// nextDue is when the first of the threads is due.
func (r *run) nextDue() (due time.Time) {
	for _, t := range r.threads {
		if t.Wait != running && t.Wait != forBranch && (due.IsZero() || t.due.Before(due)) {
			due = t.due
		}
	}
	return due
}
