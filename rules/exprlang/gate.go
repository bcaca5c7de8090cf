package exprlang

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsonschema"
)

// gate is what a filter asks of a message before anything else.
type gate struct {
	reject  *expression
	reason  byte
	schema  *jsonschema.Schema
	invalid message.Action // of what does not follow the schema: Drop or Reject
	failed  byte           // the reason for that
}

// maxChecked is the longest payload that is checked against a schema.
const maxChecked = 256 << 10

// reasons are the reason codes that the acknowledgement of a publish can have (MQTT 5.0
// §3.4.2.1, table 3-4), by the names of §2.4.
var reasons = map[string]byte{
	"unspecified_error":             0x80,
	"implementation_specific_error": rules.ReasonFailed,
	"not_authorized":                0x87,
	"topic_name_invalid":            0x90,
	"quota_exceeded":                0x97,
	"payload_format_invalid":        payloadFormatInvalid,
}

const payloadFormatInvalid = 0x99

const reasonNames = "unspecified_error, implementation_specific_error, not_authorized, topic_name_invalid, quota_exceeded and payload_format_invalid"

// gateKey reads a key of a filter that lets messages through or not, or says which
// filter comes first; false if it is none.
func (f *ruleFile) gateKey(r *compiled, p pair) bool {
	if r.gate == nil {
		r.gate = &gate{invalid: message.Reject}
	}
	g := r.gate
	switch p.key {
	case "reject":
		g.reject = f.valueOf(p, true)
	case "reason":
		g.reason = f.reason(p.value)
	case "schema":
		g.schema = f.schema(p.value)
	case "on_invalid":
		s, ok := f.scalar(p.value, `"on_invalid"`)
		switch {
		case !ok:
		case s.value == "drop":
			g.invalid = message.Drop
		case s.value != "reject":
			f.errorf(f.start(p.value), "on_invalid must be reject or drop")
		}
	case "priority":
		r.Priority = f.priority(p.value)
	case "enabled":
		r.disabled = !f.boolean(p) && f.plain(p.value)
	default:
		return false
	}
	return true
}

// reason reads the name or number of a reason code.
func (f *ruleFile) reason(n ast.Node) byte {
	s, ok := f.scalar(n, `"reason"`)
	if !ok {
		return 0
	}
	code, known := reasons[s.value]
	if !known {
		if number, err := strconv.ParseUint(s.value, 0, 8); err == nil {
			for _, c := range reasons {
				if number == uint64(c) {
					code, known = c, true
				}
			}
		}
	}
	if !known {
		f.errorf(f.start(n), "a message can be refused with the reasons %s, not with %q", reasonNames, s.value)
	}
	return code
}

func (f *ruleFile) priority(n ast.Node) int {
	s, ok := f.scalar(n, `"priority"`)
	if !ok {
		return 0
	}
	priority, err := strconv.Atoi(s.value)
	if err != nil || priority < -1000 || priority > 1000 {
		f.errorf(f.start(n), "priority is a whole number from -1000 to 1000")
	}
	return priority
}

// finishGate checks what the keys come to together, and leaves no gate to a filter that
// has none.
func (f *ruleFile) finishGate(r *compiled, pairs []pair) {
	g := r.gate
	if r.disabled {
		r.Filters = nil
	}
	if g == nil {
		return
	}
	has := func(key string) bool { return slices.ContainsFunc(pairs, func(p pair) bool { return p.key == key }) }
	for _, p := range pairs {
		switch {
		case p.key == "reason" && !has("reject") && !has("schema"):
			f.errorf(p.at, "a reason is for reject and schema")
		case p.key == "on_invalid" && !has("schema"):
			f.errorf(p.at, "on_invalid is for a schema")
		}
	}
	g.failed = payloadFormatInvalid
	if g.reason != 0 {
		g.failed = g.reason
	} else {
		g.reason = rules.ReasonFailed
	}
	if g.reject == nil && g.schema == nil {
		r.gate = nil
	}
}

// judge reports whether the gate decides what becomes of the message at hand.
func (g *gate) judge(e *evaluator) (v message.Verdict, decided bool, err error) {
	if g.schema != nil && !g.follows(e) {
		return message.Verdict{Action: g.invalid, Reason: g.failed}, true, nil
	}
	if g.reject == nil {
		return v, false, nil
	}
	rejected, err := e.condition(g.reject)
	if err != nil || !rejected {
		return v, false, err
	}
	return message.Verdict{Action: message.Reject, Reason: g.reason}, true, nil
}

// follows reports whether the payload is JSON that follows the schema.
func (g *gate) follows(e *evaluator) bool {
	fault := g.fault(e)
	if e.facts != nil {
		e.tell("schema", cmp.Or(fault, "followed"))
	}
	return fault == ""
}

// fault is what is wrong with the payload, "" if nothing is.
func (g *gate) fault(e *evaluator) string {
	switch {
	case len(e.payload.bytes) > maxChecked:
		return "the payload has more than " + strconv.Itoa(maxChecked) + " bytes"
	case e.payload.look() != isJSON:
		return "the payload is not JSON"
	}
	var own numbers
	if err := g.schema.Validate(own.decode(e.payload.value)); err != nil {
		return err.Error()
	}
	return ""
}

func (g *gate) each(visit func(*expression)) {
	if g != nil && g.reject != nil {
		visit(g.reject)
	}
}
