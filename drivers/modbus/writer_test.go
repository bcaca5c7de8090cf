package modbus_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// claim is what somebody is told of a write.
type claim int

const (
	claimDone claim = iota
	claimHeld       // perhaps it was so before
	claimRefused
	claimUnknown
	claimCount
)

// ledger judges what is told of writes by what the unit knows. Each place is written by
// one writer only.
type ledger struct {
	look func(func(*memory)) // at the memory of the unit

	mu     sync.Mutex
	claims [claimCount]int
	values int // that were read
	late   int // of those that were no longer so
	lies   []string
}

// place is where a writer writes: some bits of a few coils or registers.
type place struct {
	fn    modbus.Function // that reads it
	addr  uint16
	count uint16
	mask  uint16 // 0 is that nobody else writes these registers
}

func (p place) coils() bool { return p.fn == modbus.ReadCoils }

// seen is what a place was at a time.
type seen struct {
	values []uint16
	times  int
}

func (l *ledger) now(p place) (s seen) {
	l.look(func(m *memory) {
		for i := range p.count {
			value, times := m.get(p.fn, p.addr+i)
			if p.mask != 0 {
				value &= p.mask
			}
			s.values = append(s.values, value)
			if i == 0 {
				s.times = times
			}
		}
	})
	return s
}

func (l *ledger) lie(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies = append(l.lies, fmt.Sprintf(format, args...))
}

// write does a write and judges what it gives. Before is what the place was when the last
// write to it ended: nobody else may have changed it.
func (l *ledger) write(who string, p place, want []uint16, last *seen, do func() (claim, string)) {
	before := l.now(p)
	if last.values != nil && fmt.Sprint(last.values) != fmt.Sprint(before.values) {
		l.lie("%s at %v: %x was written, somebody made that %x", who, p, last.values, before.values)
	}
	told, why := do()
	after := l.now(p)
	*last = after
	l.mu.Lock()
	l.claims[told]++
	l.mu.Unlock()
	n := after.times - before.times
	if p.mask != 0 { // others write these registers, too: what is written is always new
		n = 0
		if fmt.Sprint(before.values) != fmt.Sprint(after.values) {
			n = 1
		}
	}
	switch {
	case told <= claimHeld && fmt.Sprint(after.values) != fmt.Sprint(want):
		l.lie("%s at %v: %x is said to be done, the unit holds %x (%s)", who, p, want, after.values, why)
	case told == claimDone && n != 1, told != claimRefused && n > 1:
		l.lie("%s at %v: %x was done %d times (%s)", who, p, want, n, why)
	case told == claimRefused && n != 0:
		l.lie("%s at %v: %x is said to be refused, and was done (%s)", who, p, want, why)
	}
}

// read judges a value that was read of a place, or of its first register: it may be as
// late as an answer can be.
func (l *ledger) read(who string, p place, got []uint16, asked time.Time, latest time.Duration) {
	mask := p.mask
	if mask == 0 {
		mask = 0xFFFF
	}
	l.look(func(m *memory) {
		for i, v := range got {
			addr := p.addr + uint16(i)
			l.mu.Lock()
			l.values++
			if !m.held(p.fn, addr, v, mask, asked) {
				l.late++
			}
			l.mu.Unlock()
			if !m.held(p.fn, addr, v, mask, asked.Add(-latest)) {
				l.lie("%s at %v: %x was read of %d, which it has not held in the last %v", who, p, v, addr, latest)
			}
		}
	})
}

// verdict is the end of a test.
func (l *ledger) verdict(t *testing.T, name string) {
	t.Helper()
	t.Logf("%s: %d writes done, %d found done, %d refused, %d unknown, %d values read, %d of them late; %d lies", name,
		l.claims[claimDone], l.claims[claimHeld], l.claims[claimRefused], l.claims[claimUnknown], l.values, l.late, len(l.lies))
	for _, text := range l.lies[:min(len(l.lies), 10)] {
		t.Error("NOT TRUE: ", text)
	}
	for c, n := range l.claims {
		if n < 5 && claim(c) != claimHeld {
			t.Errorf("%s: the test saw %d of claim %d only", name, n, c)
		}
	}
}
