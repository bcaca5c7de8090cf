package broker

import (
	"fmt"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// MaxClass is the highest class of a [Priority].
const MaxClass = 3

// Priority gives the messages of a topic filter a class. Where messages wait for a
// client, because its Receive Maximum or its socket is full or it was away, those of
// a higher class go first, and when the queue is full those of the lowest are
// dropped first; within a class they keep their order. Nothing overtakes what was
// sent. A message that several filters match is of the highest class of them; one
// that none matches is of class 0.
type Priority struct {
	Filter string
	Class  int // 1 to [MaxClass]
}

func checkPriorities(table []Priority) error {
	for _, p := range table {
		switch {
		case !topic.ValidFilter(p.Filter):
			return fmt.Errorf("priority: topic filter %q is not valid", p.Filter)
		case p.Class < 1 || p.Class > MaxClass:
			return fmt.Errorf("priority of %q is %d: it is 1 to %d", p.Filter, p.Class, MaxClass)
		}
	}
	return nil
}

// classify is the class of a message in a session's queue. In-process subscribers
// hear everything in order.
func (srv *Server) classify(s *Session, m *message.Message) uint8 {
	if srv.classes == nil || s.bus != nil {
		return 0
	}
	class := 0
	for c := range srv.classes.Match(m.Topic) {
		class = max(class, c)
	}
	return uint8(class)
}

// classOf is that of a publish, which is looked up once.
func (srv *Server) classOf(s *Session, p *pub) uint8 {
	if srv.classes == nil || s.bus != nil {
		return 0
	}
	if p.class == 0 {
		p.class = srv.classify(s, &p.msg) + 1
	}
	return p.class - 1
}

func priorityTree(table []Priority) *topic.Tree[int] {
	if len(table) == 0 {
		return nil
	}
	t := &topic.Tree[int]{}
	for _, p := range table {
		t.Add(p.Filter, p.Class)
	}
	return t
}

// urgent holds what is of a class above 0, by class less one.
type urgent [MaxClass]lane

// lane is where the messages of a class are.
func (q *queue) lane(class uint8) *lane {
	if class == 0 {
		return &q.plain
	}
	if q.urgent == nil {
		q.urgent = &urgent{}
	}
	return &q.urgent[class-1]
}

// classOf is the class of a lane.
func (q *queue) classOf(l *lane) uint8 {
	if q.urgent != nil {
		for i := range q.urgent {
			if l == &q.urgent[i] {
				return uint8(i + 1)
			}
		}
	}
	return 0
}

// first is the lane of the highest class that waits.
func (q *queue) first() *lane {
	if q.urgent != nil {
		for i := MaxClass - 1; i >= 0; i-- {
			if q.urgent[i].len() > 0 {
				return &q.urgent[i]
			}
		}
	}
	return &q.plain
}

// lanes yields all lanes, the highest class first.
func (q *queue) lanes(yield func(*lane) bool) {
	if q.urgent != nil {
		for i := MaxClass - 1; i >= 0; i-- {
			if !yield(&q.urgent[i]) {
				return
			}
		}
	}
	yield(&q.plain)
}

// lowestFirst yields them the other way round.
func (q *queue) lowestFirst(yield func(*lane) bool) {
	if !yield(&q.plain) || q.urgent == nil {
		return
	}
	for i := range q.urgent {
		if !yield(&q.urgent[i]) {
			return
		}
	}
}
