package exprlang

import (
	"container/list"
	"slices"
	"strings"
	"sync"

	"github.com/expr-lang/expr/ast"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what one file remembers of topics. What was heard longest ago goes first; a
// longer payload is not remembered.
const (
	maxStateTopics  = 10_000
	maxStateBytes   = 4 << 20 // of topics and payloads
	maxStatePayload = 256 << 10
	// maxGone is of how many topics without one it is remembered when the last came.
	maxGone = 1000
)

// memory is the last payload on the topics that state() names. Its methods may be
// called by any goroutine.
type memory struct {
	mu     sync.Mutex
	topics map[string]*list.Element
	order  list.List // of *remembered, oldest first
	gone   list.List // of those that have no payload
	bytes  int
	doc    document
}

// remembered is the last payload on a topic, decoded when it is first read.
type remembered struct {
	topic   string
	payload []byte
	none    bool   // the last message had none, or one that is too long
	order   uint64 // of that message
	decoded bool
	value   any // never written to once it is decoded
	numbers numbers
}

func newMemory() *memory { return &memory{topics: make(map[string]*list.Element)} }

// memoryOf is the memory of all versions of a file.
func memoryOf(s *rules.State) *memory {
	if s == nil {
		return newMemory()
	}
	if m, ok := s.Beside(func() any { return newMemory() }).(*memory); ok {
		return m
	}
	return newMemory() // another language had the file
}

// keep forgets what none of the filters hears any more: it would stand still.
func (m *memory) keep(filters []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, at := range m.topics {
		if !slices.ContainsFunc(filters, func(f string) bool { return hears(f, name) }) {
			m.forget(at)
		}
	}
}

// hears reports whether a filter without "#" matches a topic.
func hears(filter, topic string) bool {
	for {
		want, restF, moreF := strings.Cut(filter, "/")
		have, restT, moreT := strings.Cut(topic, "/")
		if want != "+" && want != have || moreF != moreT {
			return false
		}
		if !moreF {
			return true
		}
		filter, topic = restF, restT
	}
}

// hear remembers a message, unless it came before what is known. An empty payload is none,
// as that of a retained message which is taken away.
func (m *memory) hear(msg *message.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.topics[msg.Topic]
	if at != nil && rules.PassedOver(msg.Order, at.Value.(*remembered).order) {
		return
	}
	if len(msg.Payload) == 0 || len(msg.Payload) > maxStatePayload {
		m.lose(msg, at)
		return
	}
	if at == nil || at.Value.(*remembered).none {
		m.forget(at)
		at = m.order.PushBack(&remembered{topic: msg.Topic})
		m.topics[msg.Topic] = at
		m.bytes += len(msg.Topic)
	} else {
		m.order.MoveToBack(at)
	}
	r := at.Value.(*remembered)
	m.bytes += len(msg.Payload) - len(r.payload)
	if cap(r.payload) > 2*len(msg.Payload)+64 {
		r.payload = nil // what a longer one took is not counted any more
	}
	r.payload, r.order = append(r.payload[:0], msg.Payload...), msg.Order
	r.decoded, r.value = false, nil
	m.bound()
}

// bound forgets what is too much.
func (m *memory) bound() {
	for m.gone.Len() > maxGone || m.gone.Len() > 0 && m.bytes > maxStateBytes {
		m.forget(m.gone.Front())
	}
	for m.order.Len() > maxStateTopics || m.bytes > maxStateBytes {
		m.forget(m.order.Front())
	}
}

// lose remembers that there is nothing on a topic: what came before may still be told.
func (m *memory) lose(msg *message.Message, at *list.Element) {
	m.forget(at)
	if msg.Order == 0 {
		return
	}
	m.topics[msg.Topic] = m.gone.PushBack(&remembered{topic: msg.Topic, none: true, order: msg.Order})
	m.bytes += len(msg.Topic)
	m.bound()
}

func (m *memory) forget(at *list.Element) {
	if at == nil {
		return
	}
	r := at.Value.(*remembered)
	delete(m.topics, r.topic)
	if r.none {
		m.gone.Remove(at)
	} else {
		m.order.Remove(at)
	}
	m.bytes -= len(r.topic) + len(r.payload)
}

// read is what stands below a path in the last payload on a topic. The digits of its
// numbers are told to seen.
func (m *memory) read(topic []byte, path []step, seen *numbers) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.topics[string(topic)]
	if at == nil {
		return nil
	}
	r := at.Value.(*remembered)
	if r.none {
		return nil
	}
	if !r.decoded {
		m.decode(r)
	}
	v := walk(r.value, path)
	switch v.(type) {
	case float64, map[string]any, []any:
		seen.seen = append(seen.seen, r.numbers.seen...)
	}
	return v
}

func (m *memory) decode(r *remembered) {
	r.decoded = true
	r.numbers.reset()
	m.doc.load(r.payload, true)
	if m.doc.look() == isJSON {
		r.value = r.numbers.decode(m.doc.value)
	} else {
		r.value = string(r.payload)
	}
	m.doc.load(nil, false)
}

// watch is the rule that hears what state() names, nil if nothing does.
func (f *ruleFile) watch() *compiled {
	own := &f.table.own
	if len(own.watched) == 0 {
		return nil
	}
	name := "state()"
	for f.names[name] > 0 {
		name += " "
	}
	return &compiled{Rule: rules.Rule{Name: name, Line: 1, Stage: rules.Watch, Early: true, Filters: own.watched}, watch: own.memory}
}

// hears notes the filter that hears what a slot gives.
func (o *ownNames) hears(g *given, filter string) {
	if o.filters == nil {
		o.filters = make(map[*given]string)
	}
	o.filters[g] = filter
}

// topicsOf are the filters that hear what the state() of an expression name.
func (f *ruleFile) topicsOf(x *expression) (filters []string) {
	for _, i := range x.slots {
		if filter := f.table.own.filters[f.table.slots[i].given]; filter != "" && !slices.Contains(filters, filter) {
			filters = append(filters, filter)
		}
	}
	return filters
}

// topicPart is a piece of the topic that state() is asked for.
type topicPart struct {
	text string
	x    *expression // instead of text
}

// ofRule reports whether a part reads what each rule has for itself.
func (c *compilation) ofRule(p topicPart) bool {
	return p.x != nil && slices.ContainsFunc(p.x.slots, c.table.ofRule)
}

// stateCall is state(topic), with a topic of text and expressions.
func (c *compilation) stateCall(n *ast.CallNode) (string, *refusal) {
	if len(n.Arguments) != 1 {
		return "", refuse(n, "state wants one topic: state(\"home/hall/door\")")
	}
	arg := n.Arguments[0]
	parts, filter, refused := c.topicParts(arg)
	if refused != nil {
		return "", refused
	}
	own := &c.table.own
	if !slices.Contains(own.watched, filter) {
		own.watched = append(own.watched, filter)
	}
	m := own.memory
	name := slotName("state(%s)", arg.String())
	if slices.ContainsFunc(parts, c.ofRule) {
		name += c.table.own.rule.mark()
	}
	c.table.add1(name, func(e *evaluator, path []step) any {
		topic, ok := e.topicOf(parts)
		if !ok {
			return nil
		}
		return m.read(topic, path, &e.numbers)
	})
	c.table.own.hears(c.table.slots[c.table.index[name]].given, filter)
	return name, nil
}

// topicParts takes a topic apart, and gives the filter that hears whatever it may be.
func (c *compilation) topicParts(arg ast.Node) (parts []topicPart, filter string, refused *refusal) {
	written := false
	for _, n := range summands(arg, nil) {
		if text, ok := literalText(n); ok {
			if strings.ContainsAny(text, "+#") {
				return nil, "", refuse(n, "state wants a topic, without wildcards")
			}
			parts, filter, written = append(parts, topicPart{text: text}), filter+text, true
			continue
		}
		x, refused := c.topicExpression(n)
		if refused != nil {
			return nil, "", refused
		}
		parts, filter = append(parts, topicPart{x: x}), filter+"+"
	}
	if !written {
		return nil, "", refuse(arg, "state wants a topic of which a part is written, such as \"home/\" + parts[1] + \"/door\"")
	}
	if err := rules.CheckFilter(filter); err != nil {
		if strings.Contains(filter, "+") {
			return nil, "", refuse(arg, "what an expression gives must be a whole level of the topic, between slashes: this one would be heard as %q", filter)
		}
		return nil, "", refuse(arg, "%v", err)
	}
	return parts, filter, nil
}

// topicExpression compiles an expression that gives one level of a topic.
func (c *compilation) topicExpression(n ast.Node) (*expression, *refusal) {
	var outside *refusal
	eachNode(n, func(inner ast.Node) {
		switch inner := inner.(type) {
		case *ast.PointerNode:
			outside = refuse(inner, "the topic of state() cannot be made of an element of a list")
		case *ast.IdentifierNode:
			if slices.Contains(c.lets, inner.Value) {
				outside = refuse(inner, "the topic of state() cannot be made of %q, which a let declares", inner.Value)
			} else if inner.Value == "topic" && inner == n {
				outside = refuse(inner, "the topic has several levels: take parts[0], parts[1] ...")
			}
		}
	})
	if outside != nil {
		return nil, outside
	}
	x, refused := compileRule(n.String(), c.table, false)
	if refused != nil {
		refused.at = n.Location().From
	}
	return x, refused
}

// summands are what a sum of texts consists of, in order.
func summands(n ast.Node, all []ast.Node) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && b.Operator == "+" {
		return summands(b.Right, summands(b.Left, all))
	}
	return append(all, n)
}

// topicOf puts a topic together; false if a part of it is missing.
func (e *evaluator) topicOf(parts []topicPart) ([]byte, bool) {
	b := e.topic[:0]
	e.topic = nil // a part may be a state() of its own
	for i := range parts {
		p := &parts[i]
		if p.x == nil {
			b = append(b, p.text...)
			continue
		}
		var err error
		if b, err = e.appendWord(b, p.x); err != nil {
			e.topic = b
			return nil, false
		}
	}
	e.topic = b
	return b, true
}
