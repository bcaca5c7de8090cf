package rules

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// FileStatus is how one file of the folder is.
type FileStatus struct {
	File     string
	Language string
	// Hash is the SHA-256, in hexadecimal, of the version in force, and Loaded
	// when it came into force; empty and zero if no version ever did.
	Hash   string
	Loaded time.Time
	// Err is what is wrong with the newest version, nil if it is in force.
	Err *Error
	// Rules are those of the version in force.
	Rules []RuleStatus
	// Own tells of the runs that belong to no rule: starts and timers.
	Own Runs
}

// RuleStatus is how one rule is.
type RuleStatus struct {
	Rule
	Runs
}

// Runs is what is told about runs.
type Runs struct {
	Counters    Counters
	LastError   string
	LastErrorAt time.Time
	Trace       []TraceEntry // the last 20, newest first
	Traced      uint64       // how many there were, those of Trace among them
}

// Status tells how the files are, by name.
func (e *Engine) Status() []FileStatus {
	e.mu.Lock()
	files := e.files
	e.mu.Unlock()
	all := make([]FileStatus, 0, len(files))
	for _, f := range files {
		s := FileStatus{File: f.name, Language: e.lanes[f.lane].lang.Name(), Err: f.err}
		if f.unit != nil {
			s.Hash, s.Loaded, s.Own = f.unit.hash, f.unit.loaded, f.unit.own.runs()
			for _, j := range f.unit.rules {
				if j.Hidden || j.Stage == Watch {
					continue
				}
				s.Rules = append(s.Rules, RuleStatus{Rule: *j.Rule, Runs: j.told()})
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b FileStatus) int { return cmp.Compare(a.File, b.File) })
	return all
}

// Broken are the files of the folder whose newest version is not right, by name.
func (e *Engine) Broken() (names []string) {
	e.mu.Lock()
	files := e.files
	e.mu.Unlock()
	for name, f := range files {
		if f.err != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// InForce goes through the rules in force that are shown, by file: what they are without
// what they did, for less than a Status. They are not to be changed.
func (e *Engine) InForce(yield func(file string, r *Rule) bool) {
	e.mu.Lock()
	files := e.files
	e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name].unit == nil {
			continue
		}
		for _, j := range files[name].unit.rules {
			if !j.Hidden && j.Stage != Watch && !yield(name, j.Rule) {
				return
			}
		}
	}
}

// told is what is told about a rule, the messages included that it was not asked about.
func (j *judge) told() Runs {
	r := j.runs()
	r.Counters.Heard += j.unasked()
	return r
}

func (t *tally) runs() Runs {
	var r Runs
	r.Counters, r.LastError, r.LastErrorAt, r.Trace = t.view()
	r.Traced = r.Counters.Heard
	return r
}

// statusPrefix is where the engine tells how the files are, a topic a file.
const statusPrefix = "$SYS/gatehouse/rules/"

type statusPayload struct {
	File   string   `json:"file"`
	OK     bool     `json:"ok"`
	Error  string   `json:"error,omitempty"`
	Line   int      `json:"line,omitempty"`
	Column int      `json:"column,omitempty"`
	Rules  []string `json:"rules"`
}

// statusTopics is what is to stand on the status topics.
func (e *Engine) statusTopics() map[string]string {
	e.mu.Lock()
	files := e.files
	e.mu.Unlock()
	wanted := make(map[string]string, len(files))
	for _, f := range files {
		p := statusPayload{File: f.name, OK: f.err == nil, Rules: []string{}}
		if f.err != nil {
			p.Error, p.Line, p.Column = f.err.Error(), f.err.Line, f.err.Column
		}
		if f.unit != nil {
			for _, j := range f.unit.rules {
				if !j.Hidden && j.Stage != Watch {
					p.Rules = append(p.Rules, j.Name)
				}
			}
		}
		text, err := json.Marshal(p)
		name := statusTopic(f.name)
		if err != nil || !topic.ValidName(name) {
			continue // a name of 65,000 bytes; Status still tells
		}
		wanted[name] = string(text)
	}
	return wanted
}

// statusTopic is the topic of a file: its path, with what a topic cannot hold
// replaced.
func statusTopic(file string) string {
	clean := strings.NewReplacer("+", "_", "#", "_", "\x00", "_").Replace(strings.ToValidUTF8(file, "_"))
	return statusPrefix + clean
}

// report publishes the status topics, all at first and then what changed.
func (e *Engine) report(ctx context.Context) error {
	const retry = time.Second
	told := make(map[string]string)
	for {
		var again <-chan time.Time
		if err := e.tell(ctx, told); err != nil && ctx.Err() == nil {
			e.log.Warn("cannot publish how the rules are", "error", err)
			again = e.clock.After(retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.told:
		case <-again:
		}
	}
}

// tell publishes where told differs from what is wanted, and updates it.
func (e *Engine) tell(ctx context.Context, told map[string]string) error {
	wanted := e.statusTopics()
	bus := e.currentBus()
	publish := func(name, text string) error {
		return bus.Publish(ctx, message.Message{
			Topic: name, Payload: []byte(text), Retain: true, ContentType: "application/json", UTF8: true,
		})
	}
	for name := range told {
		if _, there := wanted[name]; !there {
			if err := publish(name, ""); err != nil {
				return err
			}
			delete(told, name)
		}
	}
	for name, text := range wanted {
		if told[name] == text {
			continue
		}
		if err := publish(name, text); err != nil {
			return err
		}
		told[name] = text
	}
	return nil
}
