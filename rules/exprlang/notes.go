package exprlang

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// heldBytes bounds the payloads that are saved of the bursts of a rule, and of what it has
// heard for silent. One that is over it is saved without.
const heldBytes = 256 << 10

// notes are what is saved of a rule by key, beside its timers: a record for each.
type notes struct {
	kind    string
	changed map[string]bool // since it was saved; true if a call asks for it
	asked   int             // how many of these are true
	saved   map[string]int  // the keys that have a record, and the bytes of its payload
	held    int             // all of these
}

// notesOf are those of a kind.
func (w *flow) notesOf(kind string) *notes {
	for i := range w.notes {
		if w.notes[i].kind == kind {
			return &w.notes[i]
		}
	}
	panic("no notes are kept of " + kind)
}

// note notes that a call has changed what is known of a key.
func (w *flow) note(kind, key string, call *rules.Call, out *rules.Outcome) {
	w.notesOf(kind).note(key, call.Promised)
	out.Save = out.Save || call.Promised
}

// note notes that what is known of a key has changed; a call may ask for it to be kept.
func (n *notes) note(key string, asks bool) {
	asked, listed := n.changed[key]
	if now := asks && !asked; now || !listed {
		if n.changed == nil {
			n.changed = make(map[string]bool)
		}
		n.changed[key] = asked || now
		if now {
			n.asked++
		}
	}
}

// ask has it kept with the call that a key has changed.
func (n *notes) ask(key string, out *rules.Outcome) {
	if asked, listed := n.changed[key]; listed && !asked {
		n.changed[key] = true
		n.asked++
	}
	out.Save = true
}

// keep notes that there is a record of a key.
func (n *notes) keep(key string, bytes int) {
	if n.saved == nil {
		n.saved = make(map[string]int)
	}
	n.held += bytes - n.saved[key]
	n.saved[key] = bytes
}

// drop reports whether there was a record of a key.
func (n *notes) drop(key string) (was bool) {
	bytes, was := n.saved[key]
	n.held -= bytes
	delete(n.saved, key)
	return was
}

// take gives the keys that have changed, or of these those that calls ask for.
func (n *notes) take(asked bool) (keys []string) {
	if len(n.changed) == 0 || asked && n.asked == 0 {
		return nil
	}
	for key, now := range n.changed {
		if now || !asked {
			keys = append(keys, key)
			delete(n.changed, key)
		}
	}
	n.asked = 0
	slices.Sort(keys)
	return keys
}

// savedKey is what is known of a key, as it is saved.
type savedKey struct {
	At    int64     `json:"at"` // by the timeline, in Unix milliseconds
	Msg   *keptText `json:"m,omitempty"`
	Prev  *keptText `json:"p,omitempty"`
	Burst uint64    `json:"c,omitempty"`
	Key   string    `json:"k,omitempty"` // if the name of the record has not room for it
}

// noteName is the name of the record of a key. It reports false if the key, a long topic,
// is not in it.
func noteName(kind string, w *flow, key string) (name string, whole bool) {
	if whole = len(key) <= maxKeyBytes; !whole {
		key = "\x00" + hashOf([]byte(key))
	}
	return kind + "/" + w.word() + "/" + key, whole
}

// open takes over what was saved, before the notes are used.
func (m *machine) open(kept map[string][]byte, now time.Time) {
	m.orphans = m.orphans[:0]
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		kind, rest, _ := strings.Cut(name, "/")
		if kind != kindSilent && kind != kindBurst && kind != kindPassed {
			continue // somebody else's
		}
		word, key, one := strings.Cut(rest, "/")
		w := m.byWord(word)
		switch {
		case w == nil:
			m.orphans = append(m.orphans, name)
		case one:
			var s savedKey
			err := json.Unmarshal(kept[name], &s)
			if key = cmp.Or(s.Key, key); err != nil || !m.openKey(w, kind, key, &s, now) {
				m.orphans = append(m.orphans, name)
				continue
			}
			w.notesOf(kind).keep(key, s.Msg.size()+s.Prev.size())
		default: // of a version that had all keys in one record
			m.orphans = append(m.orphans, name)
			var all map[string]savedKey
			_ = json.Unmarshal(kept[name], &all) // what is none is gone
			for key, s := range all {
				if m.openKey(w, kind, key, &s, now) {
					w.notesOf(kind).note(key, true) // with what takes the record away
				}
			}
		}
	}
	for _, w := range m.flows {
		w.sortPasses()
	}
}

// openKey takes over what was saved of a key. It reports false if nobody needs it.
func (m *machine) openKey(w *flow, kind, key string, s *savedKey, now time.Time) bool {
	at := m.ago(s.At, now)
	switch {
	case kind == kindSilent && w.heard != nil:
		l := &lastHeard{at: at, msg: m.kept(s.Msg)}
		if old := w.heard[key]; old != nil {
			l.quiet = old.quiet
			if old.at.After(at) {
				l.at = old.at
			}
		}
		w.heard[key] = l
		return true
	case kind == kindPassed && w.passed != nil && now.Sub(at) < w.throttle:
		w.passed[key] = at
		w.passes = append(w.passes, passage{key, at})
		return true
	case kind == kindBurst && w.bursts != nil:
		m.seq = max(m.seq, s.Burst) // a power cut may have left one that is over
		if h := w.bursts[key]; h != nil && h.number == s.Burst {
			h.msg, h.prev, h.due = m.kept(s.Msg), m.kept(s.Prev), at.Add(w.debounce)
			return true
		}
	}
	return false
}

// ago is a time that was saved, by the clock that goes on; now if it is to come.
func (m *machine) ago(at int64, now time.Time) time.Time {
	then := time.UnixMilli(at)
	if m.line != nil {
		return now.Add(-max(now.Sub(m.line.Kept(then)), 0))
	}
	return now.Add(-max(now.Round(0).Sub(then), 0))
}

// stamp is a time as it is saved, in milliseconds.
func (m *machine) stamp(at, now time.Time) int64 {
	if m.line != nil {
		return m.line.Keep(at).UnixMilli()
	}
	return now.Round(0).Add(-now.Sub(at)).UnixMilli()
}

// save gives what has changed of what no timer holds, or what calls have asked for of it.
func (m *machine) save(asked bool, put putter) (refused error) {
	for _, name := range m.orphans {
		_ = put(name, nil) // is never refused
	}
	m.orphans = m.orphans[:0]
	for _, w := range m.flows {
		if !asked {
			w.forgetPasses(m.now)
		}
		for i := range w.notes {
			n := &w.notes[i]
			for _, key := range n.take(asked) {
				if err := m.saveKey(w, n, key, put); err != nil && refused == nil {
					refused = fmt.Errorf("%s of rule %q: %w", n.kind, w.rule.Name, err)
				}
			}
		}
	}
	return refused
}

// saveKey gives what is known of a key, nothing if nothing is any more.
func (m *machine) saveKey(w *flow, n *notes, key string, put putter) error {
	s, msg, there := savedKey{}, (*message.Message)(nil), false
	switch n.kind {
	case kindSilent:
		if l := w.heard[key]; l != nil {
			s.At, msg, there = m.stamp(l.at, m.now), l.msg, true
		}
	case kindPassed:
		var at time.Time
		if at, there = w.passed[key]; there {
			s.At = m.stamp(at, m.now)
		}
	case kindBurst:
		if h := w.bursts[key]; h != nil {
			s.At, s.Burst, msg, there = m.stamp(h.due.Add(-w.debounce), m.now), h.number, h.msg, true
			s.Prev = m.keep(h.prev)
		}
	}
	name, whole := noteName(n.kind, w, key)
	if !whole {
		s.Key = key
	}
	if was := n.drop(key); !there {
		if was {
			return put(name, nil)
		}
		return nil
	}
	s.Msg = m.keep(msg)
	bytes := s.Msg.size() + s.Prev.size()
	if n.held+bytes > heldBytes {
		s.Msg, s.Prev, bytes = &keptText{Topic: s.Msg.Topic}, nil, 0
	}
	value, err := json.Marshal(&s)
	if err != nil {
		return nil // of strings and numbers there is nothing that JSON has not
	}
	n.keep(key, bytes)
	return put(name, value)
}
