package jsvm

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// keptRecall is the gateway's copy of what a script remembers beside its state.
type keptRecall struct {
	mu      sync.Mutex
	recall  *recall
	windows []windowSpec
	paces   []paceSpec
	dirty   map[paneKey]bool // changed since the last save; true if a call asks for it
	asked   []paneKey        // those of them that a call asks for
	gone    map[string]bool  // records that the next save takes away
	// Of debounces and throttles; both are nil until there is one.
	unsaved map[paceKey]bool // changed since the last save; true if a call asks for it
	saved   map[paceKey]bool // has a record
	// askedPaces are those that were not saved, and which a call asks for.
	askedPaces []paceKey
}

// putter takes a record, or nil to take it away; an error says that there is no room for it.
type putter = func(key string, value []byte) error

// recordKey is under which key something of a kind, name and key is saved.
func recordKey(kind, name, key string) string {
	return kind + "/" + strconv.Itoa(len(name)) + "/" + name + key
}

// parseRecordKey takes a key apart; kind is empty if it is none.
func parseRecordKey(s string) (kind, name, key string) {
	kind, rest, _ := strings.Cut(s, "/")
	length, rest, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(rest) || kind != windowRecord && kind != paceRecord && kind != pieceRecord {
		return "", "", ""
	}
	return kind, rest[:n], rest[n:]
}

// note applies what an event did, which it may have been promised to keep; it reports
// whether that was anything.
func (k *keptRecall) note(out *wireOutcome, watched *wireMessage, promised bool) bool {
	if len(out.Adds)+len(out.Paced) == 0 && watched == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if watched != nil {
		k.recall.hear(watched)
	}
	for _, a := range out.Adds {
		a.Key = strings.Clone(a.Key)
		k.recall.add(k.windows, a)
		k.change(paneKey{a.Window, a.Key}, promised)
	}
	for _, c := range out.Paced { // whose bytes belong to a frame
		c.Args = bytes.Clone(c.Args)
		k.pace(c, promised)
	}
	return true
}

// knows reports whether m need not be heard: it was, or what came after it on its topic.
func (k *keptRecall) knows(m *message.Message) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.recall.knows(m)
}

// restore takes over what a former version or process has saved, at a steady time. It
// reports whether that was anything.
func (k *keptRecall) restore(kept map[string][]byte, now int64) (restored bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := make(map[paneKey]*foundPane)
	for _, at := range slices.Sorted(maps.Keys(kept)) {
		kind, name, key := parseRecordKey(at)
		ok := true
		switch kind {
		case paceRecord:
			ok = k.resume(name, key, kept[at], now)
			restored = restored || ok
		case windowRecord, pieceRecord:
			ok = k.find(found, at, kept[at])
		}
		if !ok {
			k.gone[at] = true
		}
	}
	return k.restorePanes(found) || restored
}

// inherit takes over what a former version of the file has heard on the topics of these
// rules. It reports whether that was anything.
func (k *keptRecall) inherit(former *keptRecall, list []rules.Rule) (inherited bool) {
	former.mu.Lock()
	var heard []*wireMessage
	former.recall.each(func(m *wireMessage) {
		if watchedBy(list, m.Topic) {
			heard = append(heard, m) // which are never written to
		}
	})
	former.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range heard {
		k.recall.hear(m)
	}
	return len(heard) > 0
}

// watchedBy reports whether one of the rules watches a topic.
func watchedBy(list []rules.Rule, topic string) bool {
	return slices.ContainsFunc(list, func(r rules.Rule) bool {
		return r.Stage == rules.Watch && slices.ContainsFunc(r.Filters, func(f string) bool { return hears(f, topic) })
	})
}

// save gives what has changed of windows, debounces and throttles, or of that what calls
// have asked for.
func (k *keptRecall) save(asked bool, put putter) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.takeAway(put)
	return cmp.Or(k.savePaces(asked, put), k.savePanes(asked, put))
}

// takeAway takes the records away that nobody needs any more.
func (k *keptRecall) takeAway(put putter) {
	for key := range k.gone {
		_ = put(key, nil) // is never refused
	}
	clear(k.gone)
}

// size is about what it takes in a frame.
func (k *keptRecall) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.recall.size()
}

// append writes a record that has a copy of it into a frame.
func (k *keptRecall) append(frame []byte, rec record, put func(*recall)) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	put(k.recall)
	return appendRecord(frame, rec)
}

// Save implements rules.Program: windows are kept, what is watched is heard again. So is
// what the script declares.
func (p *program) Save(asked bool, put func(key string, value []byte) error) error {
	err := p.kept.save(asked, put)
	if !asked {
		err = cmp.Or(err, p.saveDeclared(put))
	}
	return err
}

// watched is the message of a call of a rule that watches.
func (p *program) watched(call *rules.Call) *wireMessage {
	if call.Message == nil || !p.watches(call) {
		return nil
	}
	return &wireMessage{Message: *call.Message}
}

// watches reports whether a call is of a rule that watches.
func (p *program) watches(call *rules.Call) bool {
	r := p.ruleOf(call)
	return r != nil && r.Stage == rules.Watch
}

// peers are the numbers of the programs in force whose state this one may read, 0 for
// one that is not there. The link's mutex is held.
func (l *link) peers(p *program) []uint32 {
	var ids []uint32
	for _, name := range p.uses {
		id := uint32(0)
		if q := l.inForce(name); q != nil {
			id = q.id
		}
		ids = append(ids, id)
	}
	return ids
}

// versionBefore is the version of the same file that is in force, nil if there is none.
func (l *link) versionBefore(p *program) (former *program) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.versions[p.src.State] {
		if q.started && (former == nil || q.id > former.id) {
			former = q
		}
	}
	return former
}

// inForce is the newest program of a file that was started, if it may run.
func (l *link) inForce(name string) *program {
	var newest *program
	for _, q := range l.programs {
		if q.src.Name == name && q.started && !q.quarantine.holds(l.now()) && (newest == nil || q.id > newest.id) {
			newest = q
		}
	}
	return newest
}
