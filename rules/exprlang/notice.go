package exprlang

import (
	"fmt"
	"slices"
	"strconv"
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
func (r *compiled) notice(e *evaluator, call *rules.Call, out *rules.Outcome) (goesOn bool, err error) {
	if call.Trigger != rules.OnMessage {
		return true, nil
	}
	r.hear(e, call, out)
	if r.trigger == nil {
		return true, nil
	}
	r.trigger.states.promised = call.Promised
	goesOn, err = r.trigger.fires(e)
	out.Save = out.Save || len(r.trigger.states.asked) > 0
	return goesOn, err
}

// hear has the rule's windows hear a message.
func (r *compiled) hear(e *evaluator, call *rules.Call, out *rules.Outcome) {
	for _, w := range r.windows {
		w.panes.promised = call.Promised
		w.hear(e)
		out.Save = out.Save || len(w.panes.asked) > 0
	}
}

// saveValues gives what windows and edges are to outlive the program, or what calls have
// asked for of it.
func (p *program) saveValues(asked bool, put putter) (refused error) {
	for _, key := range p.unused { // before what may be written under the same name
		_ = put(key, nil) // is never refused
	}
	p.unused = nil
	for _, r := range p.rules {
		for _, w := range r.windows {
			if err := w.panes.save(asked, put, w.write); err != nil && refused == nil {
				refused = fmt.Errorf("window %q of rule %q: %w", w.name, r.Name, err)
			}
		}
		if r.trigger == nil {
			continue
		}
		if err := r.trigger.states.save(asked, put, r.trigger.write); err != nil && refused == nil {
			refused = fmt.Errorf("rule %q: %w", r.Name, err)
		}
	}
	return refused
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
	for _, key := range keys {
		part := strings.SplitN(key, "\x00", 5)
		if part[0] == "p" && (len(part) != 5 || !p.restorePiece(part, call.Kept[key])) {
			p.unused = append(p.unused, key)
		}
	}
	for _, r := range p.rules {
		for _, w := range r.windows {
			w.restored(now)
		}
	}
}

// windowOf is a window by the names of its rule and itself, nil if there is none.
func (p *program) windowOf(rule, name string) *window {
	for _, r := range p.rules {
		if r.Name != rule || r.Stage != rules.After {
			continue
		}
		for _, w := range r.windows {
			if w.name == name {
				return w
			}
		}
	}
	return nil
}

// restorePiece takes over a piece of what a window holds under a key.
func (p *program) restorePiece(part []string, value []byte) bool {
	w := p.windowOf(part[1], part[2])
	slot, err := strconv.Atoi(part[3])
	return w != nil && err == nil && w.restorePiece(slot, part[4], value)
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
	w := p.windowOf(part[1], part[2])
	return w != nil && w.restore(part[3], value, now) == nil
}
