package rules

import (
	"hash/maphash"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// fed is what a rule was given of what is retained, by topic: a message that had just come
// then may still wait in its subscription, and would be heard a second time.
type fed struct {
	at     time.Time // when
	topics map[string]*fedMessage
}

type fedMessage struct {
	at      time.Time
	payload uint64
	behind  bool // one that came before it was heard after it
}

var fedSeed = maphash.MakeSeed()

// remainder is how long after a rule was fed a message that waited then may come.
const remainder = 10 * time.Second

// newFed notes the messages of calls that are made now.
func newFed(calls []Call, now time.Time) *fed {
	f := &fed{at: now, topics: make(map[string]*fedMessage, len(calls))}
	for i := range calls {
		m := calls[i].Message
		f.topics[m.Topic] = &fedMessage{at: m.At, payload: maphash.Bytes(fedSeed, m.Payload)}
	}
	return f
}

// again reports whether the rule has heard m, or what came after it on the topic. At
// QoS 0 a message that is late in this way is over; above, where every one is heard, the
// rule gets it, and then once more the one that it was fed, so that the last one
// that it hears is the last one that came.
func (f *fed) again(m *message.Message, every bool) bool {
	was := f.topics[m.Topic]
	switch {
	case was == nil || !m.At.Before(f.at): // it did not wait
		return false
	case m.At.Equal(was.at) && maphash.Bytes(fedSeed, m.Payload) == was.payload:
		delete(f.topics, m.Topic)
		return !was.behind
	case !every && !m.At.After(was.at): // of one moment are those that came at once
		return true
	case m.At.After(was.at):
		delete(f.topics, m.Topic)
		return false
	}
	was.behind = true
	return false
}

// over reports whether none comes any more that waited.
func (f *fed) over(now time.Time) bool { return len(f.topics) == 0 || now.Sub(f.at) > remainder }

// heardAgain reports whether the rule was fed m already.
func (j *judge) heardAgain(m *message.Message, now time.Time) bool {
	if j.fed.over(now) {
		j.fed = nil
		return false
	}
	return j.fed.again(m, j.ear() == keptEar)
}
