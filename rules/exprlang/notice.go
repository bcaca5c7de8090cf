package exprlang

import (
	"slices"
	"strings"

	"github.com/gatehouse/gatehouse/rules"
)

// beginRule prepares the names that the expressions of a rule may use.
func (f *ruleFile) beginRule(r *compiled, pairs []pair) {
	edge := func(p pair) bool { return p.key == "value" || p.key == "offline" || p.key == "online" }
	f.table.own.rule = &ruleNames{number: len(f.rules), rule: r, edge: slices.ContainsFunc(pairs, edge)}
	for _, p := range pairs {
		if p.key == "windows" {
			f.windowsOf(r, p)
		}
	}
}

// endRule is called when all keys of a rule are read.
func (f *ruleFile) endRule(r *compiled, since int) {
	f.table.own.rule = nil
	f.finishTrigger(r, since)
	for _, w := range r.windows {
		w.ready(r.Name)
	}
}

// notice has the rule's windows and its trigger hear a message, before its condition.
// It reports whether the rule is to go on.
func (r *compiled) notice(e *evaluator, call *rules.Call) (bool, error) {
	if call.Trigger != rules.OnMessage {
		return true, nil
	}
	for _, w := range r.windows {
		w.hear(e)
	}
	if r.trigger == nil {
		return true, nil
	}
	return r.trigger.fires(e)
}

// saveValues gives what windows and edges are to outlive the program.
func (p *program) saveValues(put func(key string, value []byte)) {
	for _, r := range p.rules {
		for _, w := range r.windows {
			w.panes.save(put, w.encode)
		}
		if r.trigger != nil {
			r.trigger.states.save(put, encodeStanding)
		}
	}
	for _, key := range p.unused {
		put(key, nil)
	}
	p.unused = nil
}

// restoreValues takes over what windows and edges another version, or process, has left.
// What no rule has a use for any more is taken away.
func (p *program) restoreValues(call *rules.Call) {
	p.table.own.memory.keep(p.table.own.watched)
	p.table.own.steady.start(call)
	now := p.table.own.steady.milliseconds(call.Now)
	keys := make([]string, 0, len(call.Kept))
	for key := range call.Kept {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		part := strings.SplitN(key, "\x00", 4)
		if len(part) != 4 || part[0] != "w" && part[0] != "e" {
			continue
		}
		if !p.restoreValue(part, call.Kept[key], now) {
			p.unused = append(p.unused, key)
		}
	}
}

func (p *program) restoreValue(part []string, value []byte, now int64) bool {
	at := slices.IndexFunc(p.rules, func(r *compiled) bool { return r.Name == part[1] && r.Stage == rules.After })
	if at < 0 {
		return false
	}
	r := p.rules[at]
	if part[0] == "e" {
		return r.trigger != nil && r.trigger.kind() == part[2] && r.trigger.restore(part[3], value) == nil
	}
	at = slices.IndexFunc(r.windows, func(w *window) bool { return w.name == part[2] })
	return at >= 0 && r.windows[at].restore(part[3], value, now) == nil
}
