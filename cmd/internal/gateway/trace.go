package gateway

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/rules"
)

// tracePrefix is where runs of rules are told, on a topic a rule, while somebody hears it.
const tracePrefix = "$SYS/gatehouse/trace/"

// traceEvery is how often it is looked for runs to tell, of each rule the last 20 at most.
const traceEvery = 500 * time.Millisecond

// traceLine is one run of a rule on its topic.
type traceLine struct {
	File    string `json:"file"`
	Rule    string `json:"rule"`
	LeftOut uint64 `json:"left_out,omitempty"` // runs before this one that are not told
	console.Run
}

// tracer tells runs of rules on their topics.
type tracer struct {
	g      *Gateway
	topics []string          // of all rules, as of loads
	loads  uint64            // see Gateway.ruleLoads
	told   map[string]uint64 // by topic that is heard: how many runs there were
}

// traceTopics tells the runs of rules on their topics until ctx ends.
func (g *Gateway) traceTopics(ctx context.Context) error {
	t := &tracer{g: g, told: make(map[string]uint64)}
	tick := time.NewTicker(traceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if msgs := t.look(); len(msgs) > 0 {
			if err := g.broker.Publish(ctx, msgs...); err != nil && ctx.Err() == nil {
				g.opt.Log.Debug("runs of rules not told", "error", err)
			}
		}
	}
}

// look returns what is to be told now.
func (t *tracer) look() (msgs []message.Message) {
	if loads := t.g.ruleLoads.Load(); loads != t.loads {
		t.loads, t.topics = loads, t.topics[:0]
		for file, r := range t.g.rules.InForce {
			if name, ok := traced(file, r); ok {
				t.topics = append(t.topics, name)
			}
		}
	}
	heard := make(map[string]bool)
	for _, name := range t.topics {
		if t.g.broker.Heard(name) {
			heard[name] = true
		}
	}
	if len(heard) == 0 {
		clear(t.told)
		return nil
	}
	t.each(func(name string, f *rules.FileStatus, r *rules.RuleStatus) {
		before, known := t.told[name]
		t.told[name] = r.Traced
		if known && heard[name] && r.Traced > before {
			msgs = append(msgs, linesOf(name, f, r, r.Traced-before)...)
		}
	})
	return msgs
}

// traced is the topic of a rule that has one: that which hears the trace has none.
func traced(file string, r *rules.Rule) (name string, ok bool) {
	name = traceTopic(file, r.Name)
	return name, !hearsTrace(r.Filters) && topic.ValidName(name)
}

// each goes through the rules that have a topic.
func (t *tracer) each(do func(name string, f *rules.FileStatus, r *rules.RuleStatus)) {
	files := t.g.rules.Status()
	for i := range files {
		for k := range files[i].Rules {
			r := &files[i].Rules[k]
			if name, ok := traced(files[i].File, &r.Rule); ok {
				do(name, &files[i], r)
			}
		}
	}
}

func hearsTrace(filters []string) bool {
	for _, f := range filters {
		if strings.HasPrefix(f, "$SYS/") {
			return true
		}
	}
	return false
}

// traceTopic is the topic of a rule, with what a topic cannot hold replaced.
func traceTopic(file, rule string) string {
	return tracePrefix + cleanLevels.Replace(strings.ToValidUTF8(file, "_")) + "/" + strings.ReplaceAll(cleanLevels.Replace(strings.ToValidUTF8(rule, "_")), "/", "_")
}

var cleanLevels = strings.NewReplacer("+", "_", "#", "_", "\x00", "_")

// linesOf are the last n runs of a rule, the oldest first.
func linesOf(name string, f *rules.FileStatus, r *rules.RuleStatus, n uint64) []message.Message {
	shown := viewRule(*r).Trace
	left := uint64(0)
	if n > uint64(len(shown)) {
		left, n = n-uint64(len(shown)), uint64(len(shown))
	}
	msgs := make([]message.Message, 0, n)
	for i := int(n) - 1; i >= 0; i-- {
		text, err := json.Marshal(traceLine{File: f.File, Rule: r.Name, LeftOut: left, Run: shown[i]})
		if err != nil { // what the console shows is JSON
			continue
		}
		left = 0
		msgs = append(msgs, message.Message{Topic: name, Payload: text, ContentType: "application/json", UTF8: true})
	}
	return msgs
}
