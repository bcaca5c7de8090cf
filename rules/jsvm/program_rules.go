package jsvm

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

var errNoPlace = errors.New("the sun needs to know where it is: set rules.place in the configuration")

// defaultGrace is what Rule.Grace means by 0.
const defaultGrace = time.Hour

// takeRules makes rules of what the top level said.
func (p *program) takeRules(list []wireRule) error {
	p.print, p.declared = fingerprint(list, p.kept.windows, p.kept.paces, p.uses), list
	p.rules = make([]rules.Rule, len(list))
	p.named = map[ruleKind]map[string]int{kindTimer: {}, kindReply: {}}
	zone := p.src.Zone
	if zone == nil {
		zone = time.Local
	}
	for i := range list {
		r := &list[i]
		p.rules[i] = r.Rule
		for _, t := range r.Times {
			s, err := t.schedule(zone, p.src.Place)
			if err != nil {
				return p.errorAt(r.Line, 0, err.Error())
			}
			p.rules[i].Schedules = append(p.rules[i].Schedules, s)
		}
		if r.Kind != kindPlain {
			p.named[r.Kind][r.Named] = i
		}
	}
	return nil
}

// ownerOf is Outcome.For of a call.
func (p *program) ownerOf(call *rules.Call) int {
	if call.Trigger != rules.OnTimer && call.Trigger != rules.OnReply {
		return 0
	}
	if at := p.ruleIndex(call); at < len(p.rules) {
		return at + 1
	}
	return 0
}

// withoutWorker answers calls that need none: what came too late, or to nobody.
func (p *program) withoutWorker(call *rules.Call) (out rules.Outcome, over bool) {
	if call.Trigger != rules.OnTimer && call.Trigger != rules.OnReply || call.Name == "" || call.Name == awaited {
		return out, false
	}
	out.For = p.ownerOf(call)
	switch {
	case out.For == 0:
		text := fmt.Sprintf("nothing handles %q any more", call.Name)
		out.Logs = []rules.LogLine{{Level: slog.LevelWarn, Text: text}}
		return out, true
	case call.Trigger == rules.OnTimer && call.Late > 0:
		if out.Missed = late(p.lateOf(call), p.rules[out.For-1].Grace); out.Missed {
			p.endBurst(call)
		}
		return out, out.Missed
	}
	return out, false
}

// late reports whether something is too long past to be made good.
func late(by, grace time.Duration) bool {
	if grace == 0 {
		grace = defaultGrace
	}
	return by > 0 && by > grace
}
