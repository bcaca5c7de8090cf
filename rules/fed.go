package rules

import (
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// fed is what a rule of QoS 1 or 2 was given of what is retained, by topic: a message that had
// just come then may still wait in its subscription, of which the store may have the
// most, and would be heard a second time.
type fed struct {
	at     time.Time // when
	last   uint64    // the greatest order
	topics map[string]*fedMessage
}

type fedMessage struct {
	order  uint64
	behind bool // one that came before it was heard after it
}

// remainder is how long after a rule was fed a message that waited then may come after
// others that did not.
const remainder = 10 * time.Second

// newFed notes the messages of calls that are made now.
func newFed(calls []Call, now time.Time) *fed {
	f := &fed{at: now, topics: make(map[string]*fedMessage, len(calls))}
	for i := range calls {
		m := calls[i].Message
		f.topics[m.Topic] = &fedMessage{order: m.Order}
		f.last = max(f.last, m.Order)
	}
	return f
}

// again reports whether the rule has heard m. One that came before what the rule was fed
// it gets all the same, and then once more that which it was fed, so that the last one that it
// hears is the last one that came.
func (f *fed) again(m *message.Message) bool {
	was := f.topics[m.Topic]
	switch {
	case was == nil:
		return false
	case m.Order == 0 || m.Order < was.order:
		was.behind = true
		return false
	}
	delete(f.topics, m.Topic)
	return m.Order == was.order && !was.behind
}

// over reports whether none comes any more that waited, now that m does.
func (f *fed) over(m *message.Message, now time.Time) bool {
	return len(f.topics) == 0 || m.Order > f.last && now.Sub(f.at) > remainder
}

// heardAgain reports whether the rule was fed m already.
func (j *judge) heardAgain(m *message.Message, now time.Time) bool {
	if j.fed.over(m, now) {
		j.fed = nil
		return false
	}
	return j.fed.again(m)
}
