package jsvm

import (
	"bytes"
	"encoding/json"
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
	dirty   map[paneKey]bool // changed since the last save
	gone    map[string]bool  // keys of a former version that the next save takes away
	// Of debounces and throttles; both are nil until there is one.
	unsaved map[paceKey]bool // changed since the last save
	saved   map[paceKey]bool // has a record
}

// windowKey is under which key a pane is saved.
func windowKey(w *windowSpec, key string) string { return recordKey(windowRecord, w.Name, key) }

// windowRecord is what is kept of a key of a window.
const windowRecord = "window"

// recordKey is under which key something of a kind, name and key is saved.
func recordKey(kind, name, key string) string {
	return kind + "/" + strconv.Itoa(len(name)) + "/" + name + key
}

// parseRecordKey takes a key apart; kind is empty if it is none.
func parseRecordKey(s string) (kind, name, key string) {
	kind, rest, _ := strings.Cut(s, "/")
	length, rest, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(rest) || kind != windowRecord && kind != paceRecord {
		return "", "", ""
	}
	return kind, rest[:n], rest[n:]
}

// note applies what an event did; it reports whether that was anything.
func (k *keptRecall) note(out *wireOutcome, watched *wireMessage) bool {
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
		k.dirty[paneKey{a.Window, a.Key}] = true
	}
	for _, c := range out.Paced { // whose bytes belong to a frame
		c.Args = bytes.Clone(c.Args)
		k.pace(c)
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
	for _, at := range slices.Sorted(maps.Keys(kept)) {
		kind, name, key := parseRecordKey(at)
		if kind == paceRecord {
			if k.resume(name, key, kept[at], now) {
				restored = true
			} else {
				k.gone[at] = true
			}
		}
		if kind != windowRecord {
			continue
		}
		i := slices.IndexFunc(k.windows, func(w windowSpec) bool { return w.Name == name })
		var values [][2]float64
		if i < 0 || len(key) > maxPointKey || json.Unmarshal(kept[at], &values) != nil {
			k.gone[at] = true
			continue
		}
		for _, v := range values {
			k.recall.add(k.windows, added{Window: i, Key: key, point: point{At: int64(v[0]), Value: v[1]}})
			restored = true
		}
	}
	return restored
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

// save gives what has changed of windows, debounces and throttles.
func (k *keptRecall) save(put func(key string, value []byte)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key := range k.gone {
		put(key, nil)
	}
	clear(k.gone)
	k.savePaces(put)
	for key := range k.dirty {
		name := windowKey(&k.windows[key.window], key.key)
		points := k.recall.pane(key.window, key.key)
		if points == nil { // forgotten for others
			put(name, nil)
			continue
		}
		values := make([][2]float64, len(points))
		for i, p := range points {
			values[i] = [2]float64{float64(p.At), p.Value}
		}
		b, err := json.Marshal(values)
		if err != nil {
			continue // the worker was told to take finite numbers only
		}
		put(name, b)
	}
	clear(k.dirty)
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
func (p *program) Save(put func(key string, value []byte)) {
	p.kept.save(put)
	p.saveDeclared(put)
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
