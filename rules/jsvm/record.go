package jsvm

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// wireVersion is the version of this protocol. Both ends are one binary, so that a
// difference means that the file was replaced below a running gateway.
const wireVersion = 7

// The kinds of records.
const (
	kindHello byte = iota + 1
	kindLoad
	kindCall
	kindState
	kindUnload
	kindLoaded
	kindResult
	kindHoard
	kindAsk
	kindTold
)

// record is what a frame holds: a pointer to one of the structs of this package.
type record interface {
	write(*encoder)
	read(*decoder)
}

// helloRecord is the first record to a worker.
type helloRecord struct {
	Version  uint64
	Deadline time.Duration // of an event
	Memory   int64         // bytes for scripts
}

// loadRecord compiles a script and runs its top level.
type loadRecord struct {
	Seq    uint64
	Script uint32
	Name   string
	Text   []byte
	Files  []wireFile          // that it may require
	State  []rules.StateChange // its values
	Recall *recall
	Fresh  bool   // its top level is to count, not just to rebuild its functions
	Expect uint64 // fingerprint of the rules it must have; 0 for any
	Now    time.Time
	Steady int64 // see steady
}

// callRecord is one run of a rule.
type callRecord struct {
	Seq     uint64
	Script  uint32
	Trigger rules.Trigger
	Rule    int
	Message *wireMessage // for rules.OnMessage
	Timer   string       // for rules.OnTimer, and of the request for rules.OnReply
	Name    string       // for these two
	Data    []byte
	// Schedule is for rules.OnSchedule, Late for this and rules.OnTimer.
	Schedule string
	Late     time.Duration
	Reply    *rules.Reply // for rules.OnReply
	Explain  bool
	Peers    []uint32 // the scripts behind its Uses, 0 for one that is not there
	Now      time.Time
	Steady   int64 // see steady
}

// stateRecord replaces the values that a script has, and what else it remembers.
type stateRecord struct {
	Script uint32
	Values []rules.StateChange
	Recall *recall
}

// unloadRecord ends a script.
type unloadRecord struct{ Script uint32 }

// loadedRecord answers a loadRecord.
type loadedRecord struct {
	Seq   uint64
	Rules []wireRule
	// Windows, Paces and Uses are what else the top level declared.
	Windows []windowSpec
	Paces   []paceSpec
	Uses    []string
	Varies  bool // the next time they may be others
	Result  wireOutcome
}

// resultRecord answers a callRecord.
type resultRecord struct {
	Seq    uint64
	Lost   byte // notLost, lostAfter or lostBefore
	Result wireOutcome
}

// Whether the script has to be loaded again.
const (
	notLost    byte = iota
	lostAfter       // the call was made, and its runtime is torn
	lostBefore      // the call was not made: there is no runtime
)

// hoardRecord says that the worker ends because scripts took too much memory.
type hoardRecord struct {
	Script uint32 // the one to blame; 0 for none
	Bytes  int64  // that it took
	Event  bool   // in one event, which is over; else it held them between events
}

// wireMessage is a message on the pipe: what scripts may see of it. Expires is not
// carried; Expiry is the time left, 0 for never.
type wireMessage struct {
	message.Message
	Expiry time.Duration
}

// fault is an error at a place in the script.
type fault struct {
	File         string // "" for the script itself
	Line, Column int
	Msg          string
}

// wireOutcome is a rules.Outcome on the pipe.
type wireOutcome struct {
	Fired    bool
	Verdict  message.Action
	Replace  *wireMessage // for message.Replace
	Publish  []wireMessage
	Timers   []rules.TimerChange
	State    []rules.StateChange
	Logs     []rules.LogLine
	Requests []rules.Request
	Adds     []added      // to windows
	Paced    []paced      // of debounces and throttles
	Facts    []rules.Fact // if they were asked for
	Fault    *fault       // nil when all went well
	Took     time.Duration
}

// appendRecord appends a record to a frame.
func appendRecord(b []byte, rec record) []byte {
	w := encoder{b: append(b, kindOf(rec))}
	rec.write(&w)
	return w.b
}

func kindOf(rec record) byte {
	switch rec.(type) {
	case *helloRecord:
		return kindHello
	case *loadRecord:
		return kindLoad
	case *callRecord:
		return kindCall
	case *stateRecord:
		return kindState
	case *unloadRecord:
		return kindUnload
	case *loadedRecord:
		return kindLoaded
	case *resultRecord:
		return kindResult
	case *hoardRecord:
		return kindHoard
	case *askRecord:
		return kindAsk
	case *toldRecord:
		return kindTold
	default:
		panic(fmt.Sprintf("wire: no kind for %T", rec))
	}
}

// decodeRecord takes the first record from a frame's body and returns what follows it.
// Byte slices in the record share the body's memory. Its errors wrap errMalformed.
func decodeRecord(body []byte) (record, []byte, error) {
	r := decoder{b: body}
	var rec record
	switch kind := r.byte(); kind {
	case kindHello:
		rec = new(helloRecord)
	case kindLoad:
		rec = new(loadRecord)
	case kindCall:
		rec = new(callRecord)
	case kindState:
		rec = new(stateRecord)
	case kindUnload:
		rec = new(unloadRecord)
	case kindLoaded:
		rec = new(loadedRecord)
	case kindResult:
		rec = new(resultRecord)
	case kindHoard:
		rec = new(hoardRecord)
	case kindAsk:
		rec = new(askRecord)
	case kindTold:
		rec = new(toldRecord)
	default:
		r.fail(fmt.Sprintf("record kind %d", kind))
		return nil, nil, r.err
	}
	rec.read(&r)
	if r.err != nil {
		return nil, nil, r.err
	}
	return rec, r.b, nil
}

func (h *helloRecord) write(w *encoder) {
	w.uint(h.Version)
	w.span(h.Deadline)
	w.int(h.Memory)
}

func (h *helloRecord) read(r *decoder) {
	h.Version = r.uint()
	h.Deadline, h.Memory = r.span(), r.int()
}

func (l *loadRecord) write(w *encoder) {
	w.uint(l.Seq)
	w.uint(uint64(l.Script))
	w.text(l.Name)
	w.bytes(l.Text)
	w.files(l.Files)
	w.state(l.State)
	w.recall(l.Recall)
	w.bool(l.Fresh)
	w.uint(l.Expect)
	w.time(l.Now)
	w.int(l.Steady)
}

func (l *loadRecord) read(r *decoder) {
	l.Seq, l.Script = r.uint(), r.script()
	l.Name, l.Text = r.text(), r.bytes()
	l.Files = r.files()
	l.State, l.Recall = r.state(), r.recall()
	l.Fresh, l.Expect, l.Now, l.Steady = r.bool(), r.uint(), r.time(), r.int()
}

func (c *callRecord) write(w *encoder) {
	w.uint(c.Seq)
	w.uint(uint64(c.Script))
	w.byte(byte(c.Trigger))
	w.time(c.Now)
	w.int(c.Steady)
	w.count(c.Rule)
	w.bool(c.Explain)
	w.count(len(c.Peers))
	for _, id := range c.Peers {
		w.uint(uint64(id))
	}
	switch c.Trigger {
	case rules.OnMessage:
		w.message(c.Message)
	case rules.OnTimer:
		w.kept(c)
		w.span(c.Late)
	case rules.OnReply:
		w.kept(c)
		w.reply(c.Reply)
	case rules.OnSchedule:
		w.text(c.Schedule)
		w.span(c.Late)
	case rules.OnStart: // the worker is not asked
	}
}

func (c *callRecord) read(r *decoder) {
	c.Seq, c.Script = r.uint(), r.script()
	c.Trigger = rules.Trigger(r.enum(byte(rules.OnReply)))
	c.Now, c.Steady = r.time(), r.int()
	c.Rule = r.small()
	c.Explain = r.bool()
	for range min(r.count(1), maxUses) {
		c.Peers = append(c.Peers, r.script())
	}
	switch c.Trigger {
	case rules.OnMessage:
		c.Message = new(wireMessage)
		r.message(c.Message)
	case rules.OnTimer:
		r.kept(c)
		c.Late = r.span()
	case rules.OnReply:
		r.kept(c)
		c.Reply = new(rules.Reply)
		r.reply(c.Reply)
	case rules.OnSchedule:
		c.Schedule = r.text()
		c.Late = r.span()
	case rules.OnStart: // the worker is not asked
	}
}

func (s *stateRecord) write(w *encoder) {
	w.uint(uint64(s.Script))
	w.state(s.Values)
	w.recall(s.Recall)
}

func (s *stateRecord) read(r *decoder) {
	s.Script, s.Values, s.Recall = r.script(), r.state(), r.recall()
}

func (u *unloadRecord) write(w *encoder) { w.uint(uint64(u.Script)) }
func (u *unloadRecord) read(r *decoder)  { u.Script = r.script() }

func (h *hoardRecord) write(w *encoder) { w.uint(uint64(h.Script)); w.int(h.Bytes); w.bool(h.Event) }

func (h *hoardRecord) read(r *decoder) { h.Script, h.Bytes, h.Event = r.script(), r.int(), r.bool() }

func (l *loadedRecord) write(w *encoder) {
	w.uint(l.Seq)
	w.count(len(l.Rules))
	for i := range l.Rules {
		w.rule(&l.Rules[i])
	}
	w.specs(l.Windows)
	w.paceSpecs(l.Paces)
	w.texts(l.Uses)
	w.bool(l.Varies)
	w.outcome(&l.Result)
}

func (l *loadedRecord) read(r *decoder) {
	l.Seq = r.uint()
	n := r.count(minRule)
	if n > maxRules {
		r.fail("number of rules")
		return
	}
	if n > 0 {
		l.Rules = make([]wireRule, n)
	}
	for i := range l.Rules {
		r.rule(&l.Rules[i])
	}
	l.Windows, l.Paces, l.Uses, l.Varies = r.specs(), r.paceSpecs(), r.texts(), r.bool()
	r.outcome(&l.Result)
}

func (s *resultRecord) write(w *encoder) { w.uint(s.Seq); w.byte(s.Lost); w.outcome(&s.Result) }
func (s *resultRecord) read(r *decoder) {
	s.Seq, s.Lost = r.uint(), r.enum(lostBefore)
	r.outcome(&s.Result)
}

func (r *decoder) script() uint32 {
	v := r.uint()
	if v > 1<<32-1 {
		r.fail("script number")
	}
	return uint32(v)
}

func (w *encoder) logs(lines []rules.LogLine) {
	w.count(len(lines))
	for _, l := range lines {
		w.int(int64(l.Level))
		w.text(l.Text)
	}
}

func (r *decoder) logs() []rules.LogLine {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	lines := make([]rules.LogLine, n)
	for i := range lines {
		level := r.int()
		if level < -128 || level > 127 {
			r.fail("level")
		}
		lines[i] = rules.LogLine{Level: slog.Level(level), Text: r.text()}
	}
	return lines
}
