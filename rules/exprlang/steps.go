package exprlang

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// action is one entry under "do", as it stands in the file.
type action struct {
	kind stepKind
	at   position
	plan *planStep // of "on_error"; nil is that of the step around it

	publish publish
	x       *expression // if, while, until
	text    *template   // the text of log and notify, the duration of wait
	level   slog.Level
	set     []setField // set, and what a call is given
	wait    *waitStep
	http    *httpStep
	callee  text
	prefix  string // of the rules of a blueprint, of which the callee may be one
	// bodies are the lists of steps inside: then and else; those of choose, with their
	// conditions in cases; that of repeat; those of parallel.
	bodies [][]*action
	cases  []*expression // nil is "else"
	after  bool          // repeat looks at its condition after a turn
}

type stepKind uint8

const (
	stepPublish stepKind = iota
	stepWait
	stepUntil
	stepChoose // if, too
	stepRepeat
	stepParallel
	stepCall
	stepSet
	stepHTTP
	stepLog
	stepStop
)

// planStep is what stands under "on_error".
type planStep struct {
	retry int
	pause time.Duration
	kind  planKind
	do    []*action
}

type planKind uint8

const (
	planStop planKind = iota
	planContinue
	planDo
)

// waitStep is a wait for a condition, or a message.
type waitStep struct {
	filters  []string // empty: those of the rule
	until    *expression
	timeout  *template // nil is a day
	goOn     bool      // after the timeout
	at       position
	anywhere bool // the condition reads nothing of a message
}

// httpStep is a request.
type httpStep struct {
	method  string
	url     *template
	header  []headerField
	body    *payloadNode
	timeout time.Duration
	retries int
	as      string
}

type headerField struct {
	name  string
	value *template
}

// Bounds of the steps of a rule.
const (
	maxBranches   = 16
	maxStepDepth  = 16
	maxRetries    = 10
	longestWait   = 366 * 24 * time.Hour
	notifyTopic   = "gatehouse/notify"
	longestHTTP   = time.Minute
	longestPause  = time.Hour
	maxTimes      = 1_000_000
	stepsInAFile  = 10_000
	maxHeaderKeys = 50
)

// verb is a kind of step: its first key, and which other keys it has.
type verb struct {
	name string
	keys []string
}

var verbs = []verb{
	{"publish", append([]string{"payload", "qos", "retain"}, propertyKeys...)},
	{"wait", nil},
	{"if", []string{"then", "else"}},
	{"choose", nil},
	{"repeat", nil},
	{"parallel", nil},
	{"call", []string{"with"}},
	{"set", nil},
	{"http", nil},
	{"log", []string{"level"}},
	{"notify", nil},
	{"stop", nil},
}

// read reads a step by its verb.
func (v *verb) read(f *ruleFile, s *action, first pair, keys map[string]pair) {
	switch v.name {
	case "publish":
		f.publishStep(s, first, keys)
	case "wait":
		f.waitStep(s, first, keys)
	case "if":
		f.ifStep(s, first, keys)
	case "choose":
		f.chooseStep(s, first, keys)
	case "repeat":
		f.repeatStep(s, first, keys)
	case "parallel":
		f.parallelStep(s, first, keys)
	case "call":
		f.callStep(s, first, keys)
	case "set":
		f.setStep(s, first, keys)
	case "http":
		f.httpStep(s, first, keys)
	case "log":
		f.logStep(s, first, keys)
	case "notify":
		f.notifyStep(s, first, keys)
	case "stop":
		f.stopStep(s, first, keys)
	}
}

// steps reads a list of steps.
func (f *ruleFile) steps(n ast.Node, what string) []*action {
	items, ok := f.sequence(n, what)
	if ok && len(items) == 0 {
		f.errorf(f.start(n), "%s is empty", what)
	}
	if f.depth++; f.depth > maxStepDepth {
		f.errorf(f.start(n), "steps are nested deeper than %d levels", maxStepDepth)
		items = nil
	}
	defer func() { f.depth-- }()
	var all []*action
	for _, item := range items {
		if f.stepCount++; f.stepCount > stepsInAFile {
			f.errorf(f.start(item), "the file has more than %d steps", stepsInAFile)
			break
		}
		if s := f.step(item); s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (f *ruleFile) step(n ast.Node) *action {
	s := &action{at: f.start(n)}
	if word, ok := n.(*ast.StringNode); ok && word.Value == "stop" {
		s.kind = stepStop
		return s
	}
	pairs, ok := f.mapping(n, "what a rule does")
	if !ok {
		return nil
	}
	at := slices.IndexFunc(verbs, func(v verb) bool {
		return slices.ContainsFunc(pairs, func(p pair) bool { return p.key == v.name })
	})
	if at < 0 {
		names := make([]string, len(verbs))
		for i := range verbs {
			names[i] = verbs[i].name
		}
		f.errorf(f.start(n), "the entry has none of %s", strings.Join(names, ", "))
		return nil
	}
	v := &verbs[at]
	keys := make(map[string]pair, len(pairs))
	for _, p := range pairs {
		switch {
		case p.key == v.name || slices.Contains(v.keys, p.key):
			keys[p.key] = p
		case p.key == "on_error": // below, as it may name what the step makes
		default:
			allowed := strings.Join(append([]string{v.name}, v.keys...), ", ")
			f.errorf(p.at, "unknown key %q: what a rule does here has %s and on_error", p.key, allowed)
		}
	}
	v.read(f, s, keys[v.name], keys)
	for _, p := range pairs {
		if p.key == "on_error" {
			s.plan = f.plan(p)
		}
	}
	return s
}

func (f *ruleFile) publishStep(s *action, verb pair, keys map[string]pair) {
	s.kind = stepPublish
	s.publish.topic = f.topic(verb.value)
	if p, ok := keys["payload"]; ok {
		s.publish.payload, _ = f.payload(p.value)
	}
	if p, ok := keys["qos"]; ok {
		s.publish.qos = f.qos(p.value)
	}
	if p, ok := keys["retain"]; ok {
		s.publish.retain = f.boolean(p)
	}
	s.publish.more = f.properties(keys)
}

func (f *ruleFile) notifyStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepPublish
	s.publish.topic = &template{parts: []templatePart{{text: notifyTopic}}}
	if t := f.textOf(verb); t != nil {
		s.publish.payload = &payloadNode{kind: textNode, text: t}
	}
}

func (f *ruleFile) logStep(s *action, verb pair, keys map[string]pair) {
	s.kind = stepLog
	s.text = f.textOf(verb)
	p, ok := keys["level"]
	if !ok {
		return
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	word, ok := f.scalar(p.value, `"level"`)
	level, known := levels[word.value]
	if s.level = level; ok && !known {
		f.errorf(f.start(p.value), "level must be debug, info, warn or error")
	}
}

func (f *ruleFile) stopStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepStop
	if n, ok := verb.value.(*ast.NullNode); ok && implicit(n) {
		return // "- stop:"
	}
	s.text = f.textOf(verb)
}

// textOf is a template that stands under a key.
func (f *ruleFile) textOf(p pair) *template {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	if !ok {
		return nil
	}
	t, _ := f.template(s)
	return t
}

func (f *ruleFile) ifStep(s *action, verb pair, keys map[string]pair) {
	s.kind = stepChoose
	s.cases = []*expression{f.condition(verb)}
	then, ok := keys["then"]
	if !ok {
		f.errorf(s.at, "the \"if\" has no \"then\"")
		return
	}
	s.bodies = [][]*action{f.steps(then.value, `"then"`)}
	if p, ok := keys["else"]; ok {
		s.cases = append(s.cases, nil)
		s.bodies = append(s.bodies, f.steps(p.value, `"else"`))
	}
}

func (f *ruleFile) chooseStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepChoose
	items, ok := f.sequence(verb.value, `"choose"`)
	if ok && len(items) == 0 {
		f.errorf(f.start(verb.value), "\"choose\" is empty")
	}
	for i, item := range items {
		pairs, ok := f.mapping(item, "a choice")
		if !ok {
			continue
		}
		var x *expression
		var body []*action
		conditional, acts := false, false
		for _, p := range pairs {
			switch p.key {
			case "if":
				x, conditional = f.condition(p), true
			case "do":
				body, acts = f.steps(p.value, `"do"`), true
			default:
				f.errorf(p.at, "unknown key %q: a choice has if and do", p.key)
			}
		}
		switch {
		case !acts:
			f.errorf(f.start(item), "the choice has no \"do\"")
		case !conditional && i < len(items)-1:
			f.errorf(f.start(item), "a choice without \"if\" is always taken, so it must be the last")
		}
		s.cases, s.bodies = append(s.cases, x), append(s.bodies, body)
	}
}

func (f *ruleFile) repeatStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepRepeat
	pairs, ok := f.mapping(verb.value, `"repeat"`)
	if !ok {
		return
	}
	bounds, acts := 0, false
	for _, p := range pairs {
		switch p.key {
		case "times":
			bounds++
			s.text = f.textOf(p)
			f.literalTimes(p, s.text)
		case "while":
			bounds++
			s.x = f.condition(p)
		case "until":
			bounds++
			s.x, s.after = f.condition(p), true
		case "do":
			acts = true
			s.bodies = [][]*action{f.steps(p.value, `"do"`)}
		default:
			f.errorf(p.at, "unknown key %q: a repeat has times, while, until and do", p.key)
		}
	}
	switch {
	case bounds != 1:
		f.errorf(verb.at, "a repeat has one of times, while and until")
	case !acts:
		f.errorf(verb.at, "the repeat has no \"do\"")
	}
}

func (f *ruleFile) literalTimes(p pair, t *template) {
	if t == nil {
		return
	}
	if s, ok := t.literal(); ok {
		if n, err := strconv.Atoi(s); err != nil || n < 0 || n > maxTimes {
			f.errorf(f.start(p.value), "times must be a whole number up to %d, or ${...}", maxTimes)
		}
	}
}

func (f *ruleFile) parallelStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepParallel
	items, ok := f.sequence(verb.value, `"parallel"`)
	if ok && (len(items) == 0 || len(items) > maxBranches) {
		f.errorf(f.start(verb.value), "\"parallel\" has 1 to %d lists of steps", maxBranches)
		return
	}
	for _, item := range items {
		s.bodies = append(s.bodies, f.steps(item, "a branch of \"parallel\""))
	}
}

func (f *ruleFile) callStep(s *action, verb pair, keys map[string]pair) {
	s.kind = stepCall
	s.callee, _ = f.scalar(verb.value, `"call"`)
	s.prefix = f.prefix
	if p, ok := keys["with"]; ok {
		s.set = f.set(p.value)
	}
}

func (f *ruleFile) setStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepSet
	s.set = f.set(verb.value)
	for i := range s.set {
		field := &s.set[i]
		field.name = strings.TrimPrefix(field.name, "vars.")
		if !isWord(field.name) {
			f.errorf(verb.at, "%q is no name for a variable: it has letters, digits and _ and does not begin with a digit", field.name)
		}
	}
}

// plan reads "on_error".
func (f *ruleFile) plan(p pair) *planStep {
	if s, ok := p.value.(*ast.StringNode); ok {
		switch s.Value {
		case "stop":
			return &planStep{}
		case "continue":
			return &planStep{kind: planContinue}
		}
		f.errorf(f.start(p.value), "on_error must be stop, continue, {retry: 3, pause: 10s} or {do: [...]}")
		return nil
	}
	pairs, ok := f.mapping(p.value, `"on_error"`)
	if !ok {
		return nil
	}
	plan := &planStep{pause: 10 * time.Second}
	retries, acts := false, false
	for _, q := range pairs {
		switch q.key {
		case "retry":
			plan.retry, retries = f.integer(q, 1, maxRetries), true
		case "pause":
			plan.pause = f.duration(q, longestPause)
		case "do":
			plan.kind, acts = planDo, true
			plan.do = f.steps(q.value, `"do"`)
		case "then":
			if s, ok := f.scalar(q.value, `"then"`); ok && s.value == "continue" {
				plan.kind = planContinue
			} else if ok && s.value != "stop" {
				f.errorf(f.start(q.value), "then must be stop or continue")
			}
		default:
			f.errorf(q.at, "unknown key %q: on_error has retry, pause, then and do", q.key)
		}
	}
	if !retries && !acts {
		f.errorf(p.at, "on_error must be stop, continue, {retry: 3, pause: 10s} or {do: [...]}")
	}
	return plan
}

// integer reads a whole number within bounds.
func (f *ruleFile) integer(p pair, least, most int) int {
	if i, ok := p.value.(*ast.IntegerNode); ok {
		if n, err := strconv.Atoi(i.GetToken().Value); err == nil && n >= least && n <= most {
			return n
		}
	}
	if f.plain(p.value) {
		f.errorf(f.start(p.value), "%s must be a whole number from %d to %d", p.key, least, most)
	}
	return least
}

// duration reads a duration above 0.
func (f *ruleFile) duration(p pair, longest time.Duration) time.Duration {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	if !ok {
		return 0
	}
	d, err := parseDuration(s.value, longest)
	if err == nil && d == 0 {
		err = errNoTime
	}
	if err != nil {
		f.errorf(f.start(p.value), "%s: %v", p.key, err)
	}
	return d
}
