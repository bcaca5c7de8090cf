package jsvm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// steady is the time that windows, debounces and throttles go by: it goes on whatever the
// clock on the wall is set to, and over a restart with the keeper's timeline.
type steady struct {
	first time.Time
	base  int64 // of first, in milliseconds
}

// milliseconds is the steady time.
func (p *program) milliseconds(now time.Time) int64 {
	s := p.steady.Load()
	if s == nil {
		p.steady.CompareAndSwap(nil, &steady{first: now, base: now.UnixMilli()})
		s = p.steady.Load()
	}
	return s.base + now.Sub(s.first).Milliseconds()
}

// startSteady has the steady time go on from another version, or process.
func (p *program) startSteady(call *rules.Call) {
	switch {
	case call.Timeline != nil:
		p.steady.Store(&steady{first: call.Now, base: call.Timeline.Keep(call.Now).UnixMilli()})
	case p.former == nil || p.former.steady.Load() == nil:
		p.steady.Store(&steady{first: call.Now, base: call.Now.UnixMilli()})
	default:
		p.steady.Store(p.former.steady.Load())
	}
}

// count has what the top level did count from now on.
func (p *program) count(out *wireOutcome, now int64) {
	for i := range out.Adds {
		out.Adds[i].At = now
	}
	for i := range out.Paced {
		if c := &out.Paced[i]; c.Pace < len(p.kept.paces) {
			c.At, c.Due = now, now+p.kept.paces[c.Pace].milliseconds()
		}
	}
}

// paceRecord is what is kept of a key, if no timer holds it.
const paceRecord = "pace"

// debounceOf is the debounce whose timer a call is about.
func (k *keptRecall) debounceOf(name, id string) (key paceKey, ok bool) {
	for i := range k.paces {
		if p := &k.paces[i]; !p.Throttle && p.timer() == name {
			return paceKey{i, p.timerKey(id)}, true
		}
	}
	return key, false
}

// pace makes a change, which a call may ask to be kept with it. What a timer was just set
// with is kept with that.
func (k *keptRecall) pace(p paced, asked bool) {
	if p.Pace >= len(k.paces) {
		return
	}
	spec, key := &k.paces[p.Pace], paceKey{p.Pace, p.Key}
	k.recall.setPause(p)
	if p.Over && !k.saved[key] || !p.Over && !spec.Throttle && p.At+spec.milliseconds() == p.Due {
		delete(k.unsaved, key)
		return
	}
	if k.unsaved == nil {
		k.unsaved = make(map[paceKey]bool)
	}
	was := k.unsaved[key]
	asked = asked || k.atOnce(p) && !p.Over
	if k.unsaved[key] = was || asked; asked && !was {
		k.askedPaces = append(k.askedPaces, key)
	}
}

// keptThrottle is from what interval on it is kept at once that a throttle let a call pass,
// so that a power cut does not let another one.
const keptThrottle = 10 * time.Second

// asks reports whether what is remembered of a call is to be kept with it: the call was
// promised, or such a one has let it pass.
func (k *keptRecall) asks(call *rules.Call, w *wireOutcome) bool {
	return call.Promised && len(w.Adds)+len(w.Paced) > 0 || slices.ContainsFunc(w.Paced, k.atOnce)
}

func (k *keptRecall) atOnce(p paced) bool {
	return p.Pace < len(k.paces) && k.paces[p.Pace].Throttle && k.paces[p.Pace].Interval >= keptThrottle
}

// adopt goes on with the timers of debounces, which are due so long from now.
func (k *keptRecall) adopt(standing []rules.Standing, now int64) (adopted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range standing {
		key, ok := k.debounceOf(standing[i].Name, standing[i].ID)
		if !ok {
			continue
		}
		var kept keptBurst
		if json.Unmarshal(standing[i].Data, &kept) != nil {
			kept = keptBurst{At: now}
		}
		k.recall.setPause(paced{Pace: key.pace, Key: key.key, pause: pause{
			At: min(kept.At, now), Due: now + standing[i].Left.Milliseconds(), Args: slices.Clone(kept.Args),
		}})
		adopted = true
	}
	return adopted
}

// resume takes over what was saved of a key: of a debounce, if its timer stands and knows
// of no later call.
func (k *keptRecall) resume(name, key string, value []byte, now int64) bool {
	i := slices.IndexFunc(k.paces, func(p paceSpec) bool { return p.Name == name })
	var kept keptBurst
	if i < 0 || len(key) > maxPointKey || json.Unmarshal(value, &kept) != nil {
		return false
	}
	at := min(kept.At, now)
	was, stands := k.recall.pauses[paceKey{i, key}]
	switch spec := &k.paces[i]; {
	case spec.Throttle && (spec.over(at, now) || len(k.recall.pauses) >= maxPauses):
		return false
	case !spec.Throttle && (!stands || was.At > at):
		return false
	}
	k.remember(paceKey{i, key})
	k.recall.setPause(paced{Pace: i, Key: key, pause: pause{At: at, Due: was.Due, Args: kept.Args}})
	return true
}

// remember notes that there is a record of a key.
func (k *keptRecall) remember(key paceKey) {
	if k.saved == nil {
		k.saved = make(map[paceKey]bool)
	}
	k.saved[key] = true
}

// savePaces gives what no timer holds, or of that what calls have asked for.
func (k *keptRecall) savePaces(asked bool, put putter) (refused error) {
	for _, key := range k.askedPaces {
		refused = cmp.Or(refused, k.savePace(key, put))
	}
	clear(k.askedPaces)
	if k.askedPaces = k.askedPaces[:0]; asked {
		return refused
	}
	for key := range k.unsaved {
		refused = cmp.Or(refused, k.savePace(key, put))
	}
	return refused
}

func (k *keptRecall) savePace(key paceKey, put putter) error {
	if _, is := k.unsaved[key]; !is {
		return nil
	}
	delete(k.unsaved, key)
	name := recordKey(paceRecord, k.paces[key.pace].Name, key.key)
	was, ok := k.recall.pauses[key]
	if !ok {
		delete(k.saved, key)
		return put(name, nil)
	}
	k.remember(key)
	if err := put(name, burstData(&was)); err != nil {
		return fmt.Errorf("%q: %w", k.paces[key.pace].Name, err)
	}
	return nil
}

// lateOf is how late the call of a timer is: for that of a debounce, if it was not called
// meanwhile.
func (p *program) lateOf(call *rules.Call) time.Duration {
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	key, ok := p.kept.debounceOf(call.Name, call.Timer)
	if !ok {
		return call.Late
	}
	was := p.kept.recall.pauses[key]
	since := p.milliseconds(call.Now) - was.At - p.kept.paces[key.pace].milliseconds()
	return min(call.Late, time.Duration(since)*time.Millisecond)
}

// endBurst forgets a burst whose timer has come, and came to nothing.
func (p *program) endBurst(call *rules.Call) {
	if call.Trigger != rules.OnTimer || call.Name == "" {
		return
	}
	p.kept.mu.Lock()
	key, ok := p.kept.debounceOf(call.Name, call.Timer)
	if ok {
		p.kept.pace(paced{Pace: key.pace, Key: key.key, Over: true}, false)
	}
	p.kept.mu.Unlock()
	if ok {
		p.link.markStale(p)
	}
}
