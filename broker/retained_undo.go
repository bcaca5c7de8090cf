package broker

import "github.com/gatehouse/gatehouse/broker/message"

// retaining is a change of a retained message of which the store has not said yet
// whether it has it. Its publisher is told when it has not, and then nobody may read it.
type retaining struct {
	topic   string
	before  *message.Message // nil is none
	prev    *retaining       // the change before it that was open then
	taken   bool
	refused bool
}

// change does what set does, and remembers what was before until settle is called.
func (r *retained) change(m *message.Message, l *Limits) (*retaining, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.get(m.Topic)
	if !r.setLocked(m, l) {
		return nil, false
	}
	if r.open == nil {
		r.open = make(map[string]*retaining)
	}
	c := &retaining{topic: m.Topic, before: was, prev: r.open[m.Topic]}
	r.open[m.Topic] = c
	return c, true
}

// settle ends a change: one that was refused is undone, unless a later one has come.
func (r *retained) settle(c *retaining, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.taken, c.refused = !refused, refused
	last := r.open[c.topic] == c
	if !refused {
		c.prev = nil // whatever was before does not matter any more
		if last {
			delete(r.open, c.topic)
		}
		return
	}
	if !last {
		return // the one after it goes back to what was before this one
	}
	before, prev := c.before, c.prev
	for prev != nil && prev.refused {
		before, prev = prev.before, prev.prev
	}
	if before == nil {
		r.clear(&r.root, c.topic, true)
	} else {
		r.put(r.level(c.topic), before)
	}
	delete(r.open, c.topic)
	if prev != nil && !prev.taken {
		r.open[c.topic] = prev
	}
}
