package exprlang_test

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

// standIn stands for the engine: it makes the calls of one program, in virtual time, and
// keeps what the engine would keep. A restart throws the program away.
type standIn struct {
	tb      rapid.TB
	source  string
	folder  fs.FS
	prev    map[string]*message.Message
	prog    rules.Program
	state   *rules.State
	now     time.Time
	timers  map[string]standingTimer
	asked   map[string]rules.Request
	order   []string // of asked
	kept    map[string][]byte
	explain bool
	// promised says that calls are: what a program asks to be kept of them is.
	promised bool
	late     time.Duration // of timers that are due now

	did    []string // what can be seen from outside
	facts  []rules.Fact
	outs   []rules.Outcome
	set    int // timers that were set
	fired  map[string]int
	misses int
}

type standingTimer struct {
	rules.TimerChange
	due time.Time
	seq int
}

func newStandIn(tb rapid.TB, source string) *standIn {
	tb.Helper()
	return newStandInOf(tb, source, nil)
}

// newStandInOf is one of a file that may read others of a folder.
func newStandInOf(tb rapid.TB, source string, folder fs.FS) *standIn {
	tb.Helper()
	s := &standIn{
		tb: tb, source: source, folder: folder, state: rules.NewState(nil), now: noon, timers: make(map[string]standingTimer),
		asked: make(map[string]rules.Request), kept: make(map[string][]byte), prev: make(map[string]*message.Message), fired: make(map[string]int),
	}
	s.begin()
	return s
}

// begin compiles the source and starts the program.
func (s *standIn) begin() {
	s.tb.Helper()
	p, err := exprlang.New().Compile(context.Background(), rules.Source{
		Name: "t.yaml", Text: []byte(s.source), State: s.state, Zone: time.UTC,
		Read: func(name string) ([]byte, error) { return fs.ReadFile(s.folder, name) },
	})
	if err != nil {
		s.tb.Fatalf("%s\n%v", s.source, err)
	}
	s.prog = p
	var left []rules.Standing
	for _, id := range slices.Sorted(maps.Keys(s.timers)) {
		t := s.timers[id]
		if !p.Handles(t.Name) {
			delete(s.timers, id)
			continue
		}
		left = append(left, rules.Standing{ID: id, Name: t.Name, Data: t.Data, Left: t.due.Sub(s.now)})
	}
	for _, id := range slices.Sorted(maps.Keys(s.asked)) {
		if q := s.asked[id]; p.Handles(q.Name) {
			left = append(left, rules.Standing{ID: id, Name: q.Name, Data: q.Data})
		} else {
			delete(s.asked, id)
		}
	}
	s.call(rules.Call{Trigger: rules.OnStart, Standing: left, Kept: maps.Clone(s.kept)})
}

// restart ends the process, which is away for a while. A power cut saves nothing.
func (s *standIn) restart(down time.Duration, powerCut bool) {
	s.tb.Helper()
	if !powerCut {
		s.save()
	}
	values := s.state.Snapshot()
	s.state = rules.NewState(values)
	s.now = s.now.Add(down)
	s.begin()
	s.late = down
	s.fire(s.now)
	s.late = 0
}

func (s *standIn) save() { s.saveOf(false) }

func (s *standIn) saveOf(asked bool) {
	if err := s.prog.Save(asked, keep(s.kept)); err != nil {
		s.tb.Error(err)
	}
}

// call makes calls at once, as those of one batch, and keeps what they did.
func (s *standIn) call(calls ...rules.Call) []rules.Outcome {
	s.tb.Helper()
	for i := range calls {
		calls[i].Now, calls[i].Explain, calls[i].Promised = s.now, s.explain, s.promised
	}
	outs := s.prog.Run(context.Background(), calls)
	asks := false
	for i := range outs {
		s.apply(&outs[i])
		asks = asks || outs[i].Save
	}
	if asks {
		s.saveOf(true)
	}
	s.outs = append(s.outs, outs...)
	return outs
}

func (s *standIn) apply(out *rules.Outcome) {
	s.tb.Helper()
	for _, m := range out.Publish {
		s.did = append(s.did, strings.TrimSpace(m.Topic+" "+string(m.Payload)))
	}
	for _, q := range out.Requests {
		if _, there := s.asked[q.ID]; there {
			s.tb.Errorf("the request %q is on its way already", q.ID)
		}
		s.asked[q.ID] = q
		s.order = append(s.order, q.ID)
		s.did = append(s.did, strings.TrimSpace(q.Method+" "+q.URL+" "+string(q.Body)))
	}
	for _, l := range out.Logs {
		s.did = append(s.did, l.Level.String()+" "+l.Text)
	}
	for _, c := range out.Timers {
		if c.After <= 0 {
			delete(s.timers, c.ID)
			continue
		}
		if len(c.ID)+len(c.Name)+len(c.Data) > 64<<10 || c.Name == "" || !s.prog.Handles(c.Name) {
			s.tb.Errorf("the timer %+v cannot be kept", c)
		}
		s.set++
		c.Data = slices.Clone(c.Data)
		s.timers[c.ID] = standingTimer{TimerChange: c, due: s.now.Add(c.After), seq: s.set}
	}
	if out.Err != nil {
		s.did = append(s.did, "error: "+out.Err.Error())
	}
	if out.Refused != "" {
		s.did = append(s.did, "refused: "+out.Refused)
	}
	if out.Missed {
		s.did = append(s.did, "missed")
		s.misses++
	}
	s.facts = append(s.facts, out.Facts...)
	if out.For > 0 {
		s.fired[s.prog.Rules()[out.For-1].Name]++
	}
}

// hear makes the calls for messages that come at once: "topic payload".
func (s *standIn) hear(msgs ...string) {
	s.tb.Helper()
	var calls []rules.Call
	for _, text := range msgs {
		name, payload, _ := strings.Cut(text, " ")
		m := &message.Message{Topic: name, Payload: []byte(payload), Origin: "client/x"}
		for i, r := range s.prog.Rules() {
			if slices.ContainsFunc(r.Filters, func(f string) bool { return topic.Match(f, name) }) {
				call := rules.Call{Trigger: rules.OnMessage, Rule: i, Message: m}
				if r.Prev {
					call.Prev = s.prev[name]
				}
				calls = append(calls, call)
			}
		}
		s.prev[name] = m
	}
	slices.SortStableFunc(calls, func(a, b rules.Call) int { // those that watch hear first
		watch := func(c rules.Call) int { return int(s.prog.Rules()[c.Rule].Stage) }
		return cmp.Compare(watch(b), watch(a))
	})
	s.call(calls...)
}

// advance lets time go by.
func (s *standIn) advance(d time.Duration) {
	s.tb.Helper()
	end := s.now.Add(d)
	s.fire(end)
	s.now = end
}

// fire makes the calls of the timers that are due until then, each at its time.
func (s *standIn) fire(until time.Time) {
	s.tb.Helper()
	for n := 0; ; n++ {
		if n > 10_000 {
			s.tb.Fatal("the timers go on and on")
		}
		next := slices.SortedFunc(maps.Values(s.timers), func(a, b standingTimer) int {
			return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.seq, b.seq))
		})
		if len(next) == 0 || next[0].due.After(until) {
			break
		}
		t := next[0]
		delete(s.timers, t.ID)
		call := rules.Call{Trigger: rules.OnTimer, Timer: t.ID, Name: t.Name, Data: t.Data}
		if t.due.After(s.now) {
			s.now = t.due
		} else if late := s.now.Sub(t.due); s.late > 0 && late > 90*time.Second {
			call.Late = late
		}
		s.call(call)
	}
}

// reply answers the request that has been on its way for longest.
func (s *standIn) reply(r rules.Reply) {
	s.tb.Helper()
	for len(s.order) > 0 {
		id := s.order[0]
		s.order = s.order[1:]
		q, there := s.asked[id]
		if !there {
			continue
		}
		delete(s.asked, id)
		s.call(rules.Call{Trigger: rules.OnReply, Timer: id, Name: q.Name, Data: q.Data, Reply: &r})
		return
	}
	s.tb.Error("no request is on its way")
}

// play does what a scenario says, a line each:
//
//	> topic payload     a message comes
//	+ 5s                time goes by
//	= topic payload     this was published (or asked, logged ...) since, in this order
//	restart [10m] [cut] the process ends, after it saved unless it is cut, and comes back
//	change FROM -> TO   the file is changed, and loaded
//	reply 200 body      the request is answered; "reply error why" that it failed
func (s *standIn) play(scenario string) {
	s.tb.Helper()
	for n, line := range strings.Split(strings.TrimSpace(scenario), "\n") {
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		if verb == "=" {
			if len(s.did) == 0 || s.did[0] != rest {
				s.tb.Fatalf("line %d: %s\nbut it did %q", n+1, line, s.did)
			}
			s.did = s.did[1:]
			continue
		}
		if len(s.did) > 0 {
			s.tb.Fatalf("line %d: %s\nbefore that it did %q", n+1, line, s.did)
		}
		words := strings.Fields(rest)
		switch verb {
		case "":
		case ">":
			s.hear(rest)
		case "+":
			s.advance(s.span(rest))
		case "restart":
			down, cut := time.Duration(0), slices.Contains(words, "cut")
			if len(words) > 0 && words[0] != "cut" {
				down = s.span(words[0])
			}
			s.restart(down, cut)
		case "change":
			from, to, _ := strings.Cut(rest, " -> ")
			if !strings.Contains(s.source, from) {
				s.tb.Fatalf("line %d: the file has no %q", n+1, from)
			}
			s.source = strings.ReplaceAll(s.source, from, to)
			s.restart(0, false)
		case "reply":
			r := rules.Reply{Err: strings.Join(words[1:], " ")}
			if words[0] != "error" {
				if _, err := fmt.Sscan(words[0], &r.Status); err != nil {
					s.tb.Fatal(err)
				}
				r.Body, r.Err = []byte(r.Err), ""
			}
			s.reply(r)
		default:
			s.tb.Fatalf("line %d: unknown %q", n+1, verb)
		}
	}
	if len(s.did) > 0 {
		s.tb.Fatalf("at the end it did %q", s.did)
	}
}

func (s *standIn) span(text string) time.Duration {
	s.tb.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.tb.Fatal(err)
	}
	return d
}
