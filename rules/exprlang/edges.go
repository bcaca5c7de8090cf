package exprlang

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/rules"
)

// maxEdgeKeys is how many keys a rule remembers whether their value is above, or what it
// was.
const maxEdgeKeys = 10_000

// maxKeptValue is the longest value, as JSON, that changes are found in.
const maxKeptValue = 4 << 10

// trigger is what of a message makes a rule run: a value that passes a limit or changes,
// or a device that goes.
type trigger struct {
	value           *expression // nil if only devices do
	above, below    *expression
	hysteresis      float64
	rising, falling bool // which edges count
	changed         bool
	by              float64     // by more than, of changed
	key             *expression // nil: the topic
	devices         []device
	states          *keyed[standing]
	buf             []byte

	before lastCall
	now    string // the edge of that call

	// While the rule is compiled.
	place         position
	hasEdge       bool
	statusFilters []string
}

// lastCall tells which call was judged last.
type lastCall struct {
	evaluator *evaluator
	gen       uint64
}

// device is one under "offline" or "online".
type device struct {
	filter string // of its status topic
	goes   string // "offline" or "online"
}

// standing is what is remembered of a key.
type standing struct {
	On    bool   `json:"on,omitempty"`
	Value string `json:"value,omitempty"` // JSON, for changed
}

// The edges, as expressions see them.
const (
	edgeRising  = "rising"
	edgeFalling = "falling"
	edgeChanged = "changed"
)

// triggerKey reads a key that says what makes a rule run; false if it is none.
func (f *ruleFile) triggerKey(r *compiled, p pair) bool {
	if r.trigger == nil {
		r.trigger = &trigger{rising: true}
	}
	t := r.trigger
	if t.place.line == 0 && p.key != "windows" && p.key != "retained" && p.key != "hook" {
		t.place = p.at
	}
	switch p.key {
	case "windows": // were read before all others
	case "retained":
		r.Retained = f.boolean(p)
	case "hook":
		r.Hooks = f.hooks(p)
	case "offline", "online":
		f.devicesOf(r, p)
	case "value":
		t.value = f.valueOf(p, false)
	case "above":
		t.above = f.valueOf(p, false)
	case "below":
		t.below = f.valueOf(p, false)
	case "hysteresis":
		t.hysteresis = f.amount(p)
	case "by":
		t.key = f.valueOf(p, false)
	case "edge":
		t.hasEdge = true
		f.edgeOf(t, p)
	case "changed":
		t.changed = true
		if s, ok := f.scalar(p.value, `"changed"`); ok && s.value != "true" {
			t.by = f.amount(p)
		}
	default:
		return false
	}
	return true
}

// amount is a number that is not below 0.
func (f *ruleFile) amount(p pair) float64 {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	if !ok {
		return 0
	}
	v, err := strconv.ParseFloat(s.value, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		f.errorf(f.start(p.value), "%s is a number, 0 or above%s", p.key, map[bool]string{true: ", or true"}[p.key == "changed"])
	}
	return v
}

func (f *ruleFile) edgeOf(t *trigger, p pair) {
	s, ok := f.scalar(p.value, `"edge"`)
	t.rising = s.value == edgeRising || s.value == "both"
	t.falling = s.value == edgeFalling || s.value == "both"
	if ok && !t.rising && !t.falling {
		f.errorf(f.start(p.value), "edge is rising, falling or both")
	}
}

// hooks reads the names of webhooks.
func (f *ruleFile) hooks(p pair) []string {
	var all []string
	for _, node := range f.oneOrMore(p.value, "webhooks") {
		s, ok := f.scalar(node, "the name of a webhook")
		switch {
		case !ok:
		case s.value == "" || len(s.value) > 64 || strings.Trim(s.value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "":
			f.errorf(f.start(node), "the name of a webhook is letters, digits, - and _, at most 64")
		default:
			all = append(all, s.value)
		}
	}
	return all
}

// devicesOf reads the devices that a rule waits for to go or to come.
func (f *ruleFile) devicesOf(r *compiled, p pair) {
	for _, node := range f.oneOrMore(p.value, "devices") {
		s, ok := f.scalar(node, "a device")
		if !ok {
			continue
		}
		filter := s.value + "/status"
		if err := rules.CheckFilter(filter); err != nil || s.value == "" || strings.Contains(s.value, "#") {
			f.errorf(f.start(node), "%q is not the topic of a device, or + for any", s.value)
			continue
		}
		r.trigger.devices = append(r.trigger.devices, device{filter: filter, goes: p.key})
		r.trigger.statusFilters = append(r.trigger.statusFilters, filter)
	}
}

// finishTrigger checks what the keys come to together, and leaves no trigger to a rule
// that needs none.
func (f *ruleFile) finishTrigger(r *compiled, since int) {
	t := r.trigger
	if t == nil {
		return
	}
	r.Filters = append(r.Filters, t.statusFilters...)
	limited := t.above != nil || t.below != nil
	switch {
	case len(f.errs) > since:
	case t.value == nil && (limited || t.changed || t.key != nil || t.hasEdge || t.hysteresis != 0):
		f.errorf(t.place, "above, below, hysteresis, edge, changed and by are about a value: the rule has no \"value\"")
	case t.value != nil && !limited && !t.changed:
		f.errorf(t.place, "the rule has a value, and not what is to become of it: it wants above, below or changed")
	case t.changed && (limited || t.hysteresis != 0 || t.hasEdge):
		f.errorf(t.place, "changed goes without above, below, hysteresis and edge")
	case t.value != nil && len(r.Filters) == 0 && len(r.Hooks) == 0:
		f.errorf(t.place, "a value is that of a message: the rule wants on")
	case t.value == nil && len(t.devices) == 0:
		r.trigger = nil
	}
	t.states = newKeyed[standing](savePrefix("e", r.Name, t.kind()), maxEdgeKeys)
}

// kind says what the trigger remembers of a key.
func (t *trigger) kind() string {
	switch {
	case t.value == nil:
		return "device"
	case t.changed:
		return "changed"
	}
	return "limit"
}

// fires reports whether the message at hand makes the rule run.
func (t *trigger) fires(e *evaluator) (bool, error) {
	edge, err := t.judge(e)
	t.now, t.before = edge, lastCall{e, e.gen}
	if e.facts != nil {
		e.tellTrigger(t, err)
	}
	return edge != "", err
}

// edgeNow is the edge for expressions: nil outside of a call of the rule.
func (t *trigger) edgeNow(e *evaluator) any {
	if t.before.evaluator != e || t.before.gen != e.gen || t.now == "" || t.now == plainEdge {
		return nil
	}
	return t.now
}

// plainEdge is the edge of a message that the trigger does not speak about.
const plainEdge = "-"

func (t *trigger) judge(e *evaluator) (string, error) {
	for i := range t.devices {
		if d := &t.devices[i]; d.is(e.msg.Topic) {
			return t.status(e)
		}
	}
	if t.value == nil {
		return plainEdge, nil
	}
	key := append(t.buf[:0], e.msg.Topic...)
	if t.key != nil {
		var err error
		if key, err = e.appendWord(t.buf[:0], t.key); err != nil {
			return "", err
		}
	}
	t.buf = key
	if t.changed {
		return t.change(e, key)
	}
	return t.pass(e, key)
}

func (d *device) is(topic string) bool { return hears(d.filter, topic) }

// status judges the status of a device.
func (t *trigger) status(e *evaluator) (string, error) {
	text := string(e.msg.Payload)
	if text != "online" && text != "offline" {
		return "", nil
	}
	t.buf = append(t.buf[:0], e.msg.Topic...)
	if c := t.states.find(t.buf); c != nil && c.value.Value == text {
		return "", nil // not news
	}
	c := t.states.use(t.buf)
	if c == nil {
		return "", errLongKey
	}
	c.value.Value = text
	for i := range t.devices {
		if d := &t.devices[i]; d.goes == text && d.is(e.msg.Topic) {
			return text, nil
		}
	}
	return "", nil
}

var errLongKey = &notEvaluated{reason: fmt.Sprintf("the key has more than %d bytes", maxKeyBytes)}

// numberOf is the value of an expression that is to be a number.
func (e *evaluator) numberOf(x *expression, what string) (float64, error) {
	v, err := e.run(x)
	if err != nil {
		return 0, err
	}
	f, ok := toFloat(v)
	switch {
	case v == nil && x.bare >= 0:
		return 0, e.slots[x.bare].missing
	case !ok:
		return 0, &notEvaluated{reason: fmt.Sprintf("%s is %s, not a number", what, typeName(v))}
	}
	return f, nil
}

// pass judges a value against the limits.
func (t *trigger) pass(e *evaluator, key []byte) (string, error) {
	v, err := e.numberOf(t.value, "the value")
	if err != nil {
		return "", err
	}
	inside, outside := true, false // well within all limits, beyond one of them
	if t.above != nil {
		limit, err := e.numberOf(t.above, "above")
		if err != nil {
			return "", err
		}
		inside, outside = v <= limit-t.hysteresis, v > limit
	}
	if t.below != nil {
		limit, err := e.numberOf(t.below, "below")
		if err != nil {
			return "", err
		}
		inside, outside = inside && v >= limit+t.hysteresis, outside || v < limit
	}
	c := t.states.find(key)
	was := c != nil && c.value.On
	if was && !inside || !was && !outside {
		return "", nil
	}
	return t.turn(key, was)
}

// turn notes that a value went beyond a limit, or came back.
func (t *trigger) turn(key []byte, was bool) (string, error) {
	c := t.states.use(key)
	if c == nil {
		return "", errLongKey
	}
	c.value.On = !was
	switch {
	case c.value.On && t.rising:
		return edgeRising, nil
	case !c.value.On && t.falling:
		return edgeFalling, nil
	}
	return "", nil
}

// change judges whether a value is another one than the last that counted. The first one
// is not.
func (t *trigger) change(e *evaluator, key []byte) (string, error) {
	text, err := e.appendJSON(nil, t.value)
	if err != nil {
		return "", err
	}
	if len(text) > maxKeptValue {
		return "", &notEvaluated{reason: fmt.Sprintf("the value has more than %d bytes", maxKeptValue)}
	}
	c := t.states.find(key)
	if c != nil {
		if c.value.Value == string(text) {
			return "", nil
		}
		if near, err := t.near(c.value.Value, string(text)); near || err != nil {
			return "", err
		}
	}
	known := c != nil
	if c = t.states.use(key); c == nil {
		return "", errLongKey
	}
	c.value.Value = string(text)
	if !known {
		return "", nil
	}
	return edgeChanged, nil
}

// near reports whether two numbers differ by no more than what counts.
func (t *trigger) near(before, now string) (bool, error) {
	if t.by == 0 && isWhole(before) && isWhole(now) {
		return false, nil // their digits differ, be it beyond those of a float64
	}
	a, errA := strconv.ParseFloat(before, 64)
	b, errB := strconv.ParseFloat(now, 64)
	switch {
	case errA == nil && errB == nil:
		return math.Abs(a-b) <= t.by, nil
	case t.by == 0:
		return false, nil
	}
	return false, &notEvaluated{reason: "the value is not a number, so it cannot change by so much"}
}

// isWhole reports whether JSON is a whole number in its one way of writing.
func isWhole(text string) bool {
	i, err := strconv.ParseInt(text, 10, 64)
	return err == nil && strconv.FormatInt(i, 10) == text
}

func (t *trigger) each(visit func(*expression)) {
	if t == nil {
		return
	}
	for _, x := range []*expression{t.value, t.above, t.below, t.key} {
		if x != nil {
			visit(x)
		}
	}
}

// write saves what is remembered of a key.
func (t *trigger) write(c *cell[standing], put putter) error {
	b, err := json.Marshal(&c.value)
	if err != nil {
		return nil // it has nothing that JSON has not
	}
	c.saved = true
	return put(t.states.prefix+c.key, b)
}

func (t *trigger) restore(key string, value []byte) error {
	var l standing
	if err := json.Unmarshal(value, &l); err != nil {
		return errors.New("what was kept of an edge is not JSON")
	}
	t.states.restore(key, l)
	return nil
}
