package modbus

import (
	"sync"
	"time"
)

// lengths remembers which block an answer of a given length is of, for the units of
// one line: as long as no two blocks of a unit and function code share a length, an
// answer that comes late, or twice, fits no other block's request.
type lengths struct {
	mu   sync.Mutex
	used map[slot]*use
}

// slot is what an answer shows of its request.
type slot struct {
	unit  uint8
	fn    Function
	bytes uint8
}

// use is the block that a slot belongs to.
type use struct {
	addr, count uint16
	pins        int       // requests that are under way
	until       time.Time // no answer comes later
}

// pruneAbove is how many slots are kept before those that have run out are dropped.
const pruneAbove = 512

// pinnedWait is after how long a slot that is in use is looked at again.
const pinnedWait = 10 * time.Millisecond

// claim takes the slot of a block, if no other block has it. Each claim is given
// back by release.
func (l *lengths) claim(unit uint8, fn Function, addr, count uint16, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := slot{unit: unit, fn: fn, bytes: uint8(fn.bytes(int(count)))}
	u := l.used[key]
	switch {
	case u == nil:
		l.prune(now)
		u = &use{addr: addr, count: count}
		l.used[key] = u
	case u.addr == addr && u.count == count:
	case u.pins == 0 && !now.Before(u.until):
		u.addr, u.count = addr, count
	default:
		return false
	}
	u.pins++
	return true
}

// seize takes the slot of a block from another block, unless that is being read just
// now. Who seizes must be able to tell a stale answer in another way.
func (l *lengths) seize(unit uint8, fn Function, addr, count uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.used[slot{unit: unit, fn: fn, bytes: uint8(fn.bytes(int(count)))}]
	if u == nil || u.pins > 0 {
		return false
	}
	u.addr, u.count, u.pins = addr, count, 1
	return true
}

// wait is how long the slot of a block stays another's, if that is not read again.
func (l *lengths) wait(unit uint8, fn Function, count uint16, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.used[slot{unit: unit, fn: fn, bytes: uint8(fn.bytes(int(count)))}]
	if u == nil {
		return 0
	}
	if u.pins > 0 {
		return pinnedWait
	}
	return max(0, u.until.Sub(now))
}

// release gives a claim back; the slot stays taken until then.
func (l *lengths) release(unit uint8, fn Function, count uint16, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.used[slot{unit: unit, fn: fn, bytes: uint8(fn.bytes(int(count)))}]
	if u == nil {
		return
	}
	u.pins--
	if until.After(u.until) {
		u.until = until
	}
}

func (l *lengths) prune(now time.Time) {
	if len(l.used) < pruneAbove {
		return
	}
	for key, u := range l.used {
		if u.pins == 0 && !now.Before(u.until) {
			delete(l.used, key)
		}
	}
}
