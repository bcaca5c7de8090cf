package rules

import "github.com/gatehouse/gatehouse/broker/message"

// Bounds of a history: beyond them the topic that was heard longest ago is
// forgotten.
const (
	historyTopics = 10_000
	historyBytes  = 8 << 20
)

// history remembers the last message of each topic, within bounds. It is not safe
// for concurrent use.
type history struct {
	topics         map[string]*remembered
	newest, oldest *remembered
	bytes          int
}

type remembered struct {
	msg          *message.Message
	size         int
	newer, older *remembered
}

func newHistory() *history { return &history{topics: make(map[string]*remembered)} }

// swap returns the last message of m's topic, nil if none is remembered, and
// remembers m in its place.
func (h *history) swap(m *message.Message) *message.Message {
	kept := *m
	size := kept.Size()
	r := h.topics[m.Topic]
	var before *message.Message
	if r == nil {
		r = &remembered{}
		h.topics[m.Topic] = r
	} else {
		before = r.msg
		h.bytes -= r.size
		h.unlink(r)
	}
	r.msg, r.size = &kept, size
	h.bytes += size
	h.link(r)
	for len(h.topics) > historyTopics || h.bytes > historyBytes {
		h.forget(h.oldest)
	}
	return before
}

func (h *history) link(r *remembered) {
	r.older, r.newer = h.newest, nil
	if h.newest != nil {
		h.newest.newer = r
	} else {
		h.oldest = r
	}
	h.newest = r
}

func (h *history) unlink(r *remembered) {
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		h.newest = r.older
	}
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		h.oldest = r.newer
	}
}

func (h *history) forget(r *remembered) {
	h.unlink(r)
	h.bytes -= r.size
	delete(h.topics, r.msg.Topic)
}
