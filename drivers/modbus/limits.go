package modbus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// limitsFile are the keys of a device file that say what the device bears to be asked.
type limitsFile struct {
	// MaxRegisters and MaxBits are how many one request may read: 1 to 125, and 1 to
	// 2000; those if absent.
	MaxRegisters *scalar `yaml:"max_registers"`
	MaxBits      *scalar `yaml:"max_bits"`
	// Gap is how many registers or bits that no point has may be read to save a
	// request, or to give a request a length of its own; absent, as many as pay.
	Gap *scalar `yaml:"gap"`
	// NeverRead are addresses that no request may touch, by table: "100..199" or "7".
	NeverRead map[string]scalars `yaml:"never_read"`
}

// limits are what a device bears to be asked; the zero value is what the standard
// allows.
type limits struct {
	registers, bits int  // 0 is what the standard allows
	gap             int  // valid if hasGap
	hasGap          bool // else as it pays
	never           []span
}

// of is how many bits or registers a reading function may ask for.
func (l *limits) of(fn Function) int {
	n := l.registers
	if fn.bits() {
		n = l.bits
	}
	if n == 0 {
		return fn.limit()
	}
	return n
}

// allows reports whether s may be read in place of the span want of a point.
func (l *limits) allows(s, want span) bool {
	return int(s.count) <= l.of(s.fn) && (!l.hasGap || int(s.count-want.count) <= l.gap) && !l.touches(s)
}

// touches reports whether a span has an address that must not be read.
func (l *limits) touches(s span) bool {
	return slices.ContainsFunc(l.never, func(n span) bool {
		return n.fn == s.fn && n.end() > int(s.addr) && s.end() > int(n.addr)
	})
}

// check reads the limits. The error is a *drivers.ConfigError.
func (f *limitsFile) check(cfg drivers.Config) (l limits, err error) {
	for _, n := range []struct {
		name      string
		text      *scalar
		low, high int64
		to        *int
	}{
		{"max_registers", f.MaxRegisters, 1, maxReadRegisters, &l.registers},
		{"max_bits", f.MaxBits, 1, maxReadBits, &l.bits},
		{"gap", f.Gap, 0, maxReadBits, &l.gap},
	} {
		if n.text == nil {
			continue
		}
		v, err := n.text.whole(n.name, n.low, n.high)
		if err != nil {
			return l, cfg.Errorf("$."+n.name, "%v", err)
		}
		*n.to = int(v)
	}
	l.hasGap = f.Gap != nil
	for table, ranges := range f.NeverRead {
		fn, ok := tables[table]
		if !ok {
			return l, cfg.Errorf("$.never_read", "%q is none of coil, discrete, input and holding", table)
		}
		for _, text := range ranges {
			s, err := parseSpan(fn, string(text))
			if err != nil {
				return l, cfg.Errorf("$.never_read."+table, "%v", err)
			}
			l.never = append(l.never, s)
		}
	}
	return l, nil
}

// tables are the words of a device file.
var tables = map[string]Function{
	"coil": ReadCoils, "discrete": ReadDiscreteInputs, "input": ReadInputRegisters, "holding": ReadHoldingRegisters,
}

// parseSpan reads "100..199" or "7".
func parseSpan(fn Function, text string) (span, error) {
	from, to, isRange := strings.Cut(text, "..")
	if !isRange {
		to = from
	}
	first, err := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || first > last || last-first > 1<<16-2 {
		return span{}, fmt.Errorf("%s is no address or range of addresses such as 100..199", text)
	}
	return span{fn: fn, addr: uint16(first), count: uint16(last - first + 1)}, nil
}

// fits refuses a point that the limits let nobody read.
func (l *limits) fits(cfg drivers.Config, p *pointSpec) error {
	spans := []span{p.span}
	if p.factor != nil {
		spans = append(spans, *p.factor)
	}
	for _, s := range spans {
		switch {
		case int(s.count) > l.of(s.fn):
			return cfg.Errorf(drivers.PointPath(p.Name), "the point has %d registers, and one request may read %d", s.count, l.of(s.fn))
		case l.touches(s):
			return cfg.Errorf(drivers.PointPath(p.Name), "the point needs an address that never_read has")
		}
	}
	return nil
}
