package jsvm

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what one script remembers beside its state. What was touched longest ago
// goes first.
const (
	maxWatched      = 4000    // topics
	maxWatchedBytes = 1 << 20 // of topics and payloads
	maxGone         = 1000    // topics whose last message had no payload
	maxWindows      = 50
	maxKeys         = 1000   // of a window, and of all together
	maxPoints       = 1000   // of a key
	maxAllPoints    = 20_000 // of all windows
	maxPointKey     = 500    // bytes of a key
)

// windowSpec says what a window holds: so many values, those of so long a time, or both.
type windowSpec struct {
	Name string
	Last int           // 0 means maxPoints
	Over time.Duration // 0 means for ever
}

// point is one value in a window.
type point struct {
	At    int64 // by the steady time, in milliseconds
	Value float64
}

// added is a value that an event puts into a window.
type added struct {
	Window int // index of its spec
	Key    string
	point
}

// recall is what a script remembers beside its state: the last message on topics that
// it watches, its windows, and its debounces and throttles. The worker has one to work with, and the gateway one that
// outlives the worker; both get the same changes in the same order, so that they are
// the same.
type recall struct {
	topics map[string]*list.Element
	order  list.List // of *wireMessage, oldest first
	gone   list.List // of those without a payload
	bytes  int

	panes  map[paneKey]*list.Element
	recent list.List // of *pane, oldest first
	points int
	forgot func(*pane) // is told of each that is forgotten; nil for nobody

	pauses map[paceKey]pause // nil until there is one
	keys   map[int]int       // how many of them each has
	held   int               // bytes of them
}

type paneKey struct {
	window int
	key    string
}

// pane is what a window holds under one key.
type pane struct {
	paneKey
	points []point
	first  int64    // the number of the first one since the pane was begun
	kept   keptPane // of the gateway's copy
}

func newRecall() *recall {
	return &recall{topics: make(map[string]*list.Element), panes: make(map[paneKey]*list.Element)}
}

// knows reports whether a message was heard, or what came after it on its topic.
func (r *recall) knows(m *message.Message) bool {
	at := r.topics[m.Topic]
	return at != nil && rules.PassedOver(m.Order, at.Value.(*wireMessage).Order)
}

// hear remembers a message, unless it came before what is known; one without a payload takes
// back what was there.
func (r *recall) hear(m *wireMessage) {
	if r.knows(&m.Message) {
		return
	}
	r.forgetTopic(r.topics[m.Topic])
	if len(m.Payload) == 0 && m.Order == 0 { // none came before it that may still be told
		return
	}
	kept := &wireMessage{Message: message.Message{
		Topic: strings.Clone(m.Topic), Payload: slices.Clone(m.Payload), QoS: m.QoS, Retain: m.Retain,
		Origin: strings.Clone(m.Origin), At: m.At, UTF8: m.UTF8, Order: m.Order,
	}}
	if len(m.Payload) == 0 {
		r.topics[kept.Topic] = r.gone.PushBack(kept)
	} else {
		r.topics[kept.Topic] = r.order.PushBack(kept)
	}
	r.bytes += len(kept.Topic) + len(kept.Payload)
	for r.gone.Len() > maxGone || r.gone.Len() > 0 && r.bytes > maxWatchedBytes {
		r.forgetTopic(r.gone.Front())
	}
	for r.order.Len() > maxWatched || r.bytes > maxWatchedBytes {
		r.forgetTopic(r.order.Front())
	}
}

func (r *recall) forgetTopic(at *list.Element) {
	if at == nil {
		return
	}
	m := at.Value.(*wireMessage)
	delete(r.topics, m.Topic)
	if len(m.Payload) == 0 {
		r.gone.Remove(at)
	} else {
		r.order.Remove(at)
	}
	r.bytes -= len(m.Topic) + len(m.Payload)
}

// last is the last message on a topic, nil if there is none.
func (r *recall) last(topic string) *wireMessage {
	if at := r.topics[topic]; at != nil && len(at.Value.(*wireMessage).Payload) > 0 {
		return at.Value.(*wireMessage)
	}
	return nil
}

// each gives the last message on each topic, those without a payload first.
func (r *recall) each(f func(*wireMessage)) {
	for _, list := range []*list.List{&r.gone, &r.order} {
		for at := list.Front(); at != nil; at = at.Next() {
			f(at.Value.(*wireMessage))
		}
	}
}

// add puts a value into a window.
func (r *recall) add(specs []windowSpec, a added) {
	if a.Window >= len(specs) {
		return
	}
	key := paneKey{a.Window, a.Key}
	at := r.panes[key]
	if at == nil {
		at = r.recent.PushBack(&pane{paneKey: key})
		r.panes[key] = at
	} else {
		r.recent.MoveToBack(at)
	}
	p := at.Value.(*pane)
	r.points -= len(p.points)
	all := append(p.points, a.point)
	p.points = specs[a.Window].trim(all, a.At)
	p.first += int64(len(all) - len(p.points))
	r.points += len(p.points)
	for len(r.panes) > maxKeys || r.points > maxAllPoints {
		r.forgetPane(r.recent.Front())
	}
}

// trim drops what is not in the window any more; what a clock that was wrong says of the
// future is of now. What it returns may be written.
func (w *windowSpec) trim(points []point, now int64) []point {
	for i := range points {
		points[i].At = min(points[i].At, now)
	}
	drop := 0
	if most := w.most(); len(points) > most {
		drop = len(points) - most
	}
	if w.Over > 0 {
		for drop < len(points) && points[drop].At <= now-w.Over.Milliseconds() {
			drop++
		}
	}
	if drop == 0 {
		return points
	}
	return points[:copy(points, points[drop:])]
}

func (w *windowSpec) most() int {
	if w.Last > 0 {
		return w.Last
	}
	return maxPoints
}

func (r *recall) forgetPane(at *list.Element) {
	p := r.recent.Remove(at).(*pane)
	delete(r.panes, p.paneKey)
	r.points -= len(p.points)
	if r.forgot != nil {
		r.forgot(p)
	}
}

// pane is what a window holds under a key, nil if nothing.
func (r *recall) pane(window int, key string) []point {
	if at := r.panes[paneKey{window, key}]; at != nil {
		return at.Value.(*pane).points
	}
	return nil
}

// size is about what it takes in a frame.
func (r *recall) size() int {
	return r.bytes + len(r.topics)*64 + r.points*18 + len(r.panes)*(maxPointKey/4) + r.held + len(r.pauses)*32
}

func (w *encoder) recall(r *recall) {
	if r == nil {
		r = newRecall()
	}
	w.count(len(r.topics))
	r.each(w.message)
	w.count(len(r.panes))
	for at := r.recent.Front(); at != nil; at = at.Next() {
		p := at.Value.(*pane)
		w.count(p.window)
		w.text(p.key)
		w.points(p.points)
	}
	w.pauses(r)
}

func (r *decoder) recall() *recall {
	out := newRecall()
	n := r.count(minMessage)
	if n > maxWatched+maxGone {
		r.fail("number of topics")
	}
	for i := 0; i < n && r.err == nil; i++ {
		m := new(wireMessage)
		r.message(m)
		out.hear(m)
	}
	n = r.count(3)
	if n > maxKeys {
		r.fail("number of keys")
	}
	for i := 0; i < n && r.err == nil; i++ {
		p := &pane{paneKey: paneKey{r.small(), r.text()}}
		p.points = r.points()
		if out.panes[p.paneKey] != nil || out.points+len(p.points) > maxAllPoints {
			r.fail("windows")
			break
		}
		out.panes[p.paneKey] = out.recent.PushBack(p)
		out.points += len(p.points)
	}
	r.pauses(out)
	return out
}

func (w *encoder) points(list []point) {
	w.count(len(list))
	for _, p := range list {
		w.int(p.At)
		w.float(p.Value)
	}
}

func (r *decoder) points() []point {
	n := r.count(9)
	if n > maxPoints {
		r.fail("number of points")
		return nil
	}
	points := make([]point, n)
	for i := range points {
		points[i] = point{At: r.int(), Value: r.float()}
	}
	return points
}

func (w *encoder) adds(list []added) {
	w.count(len(list))
	for _, a := range list {
		w.count(a.Window)
		w.text(a.Key)
		w.int(a.At)
		w.float(a.Value)
	}
}

func (r *decoder) adds() []added {
	var list []added
	for range r.count(11) {
		list = append(list, added{Window: r.small(), Key: r.text(), point: point{At: r.int(), Value: r.float()}})
	}
	return list
}

func (w *encoder) specs(list []windowSpec) {
	w.count(len(list))
	for _, s := range list {
		w.text(s.Name)
		w.count(s.Last)
		w.span(s.Over)
	}
}

func (r *decoder) specs() []windowSpec {
	n := r.count(3)
	if n > maxWindows {
		r.fail("number of windows")
		return nil
	}
	var list []windowSpec
	for range n {
		list = append(list, windowSpec{Name: r.text(), Last: r.small(), Over: r.span()})
	}
	return list
}
