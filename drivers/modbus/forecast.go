package modbus

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// assumedLatency is how soon a unit answers that has not been asked yet.
	assumedLatency = 10 * time.Millisecond
	// forecastTicks is how many reads of a unit a forecast looks at, at most.
	forecastTicks = 1000
)

// Forecast implements [drivers.LineSharer], for serial lines, and for those behind a
// stream of which the file of one of their devices tells the speed. If several do, the
// slowest counts.
func (d *Driver) Forecast(files []drivers.Config) []drivers.Line {
	byName := map[string]*sharedLine{}
	var order []*sharedLine
	for i, demand := range d.demandsOf(files) {
		if demand == nil {
			continue
		}
		name := demand.bus()
		l := byName[name]
		if l == nil {
			l = &sharedLine{name: name}
			byName[name] = l
			order = append(order, l)
		}
		l.add(files[i].Device, demand)
	}
	var lines []drivers.Line
	for _, l := range order {
		if l.speed != nil {
			lines = append(lines, l.forecast(d))
		}
	}
	return lines
}

// demand is what a unit asks of its line: what a forecast needs of a device file.
type demand struct {
	deviceSpec // without points
	spans      []span
	ticks      []tick
}

// tick is what is due at once: points of one interval.
type tick struct {
	every, next time.Duration
	points      []int
}

// newDemand is nil for a device that is on no line.
func newDemand(s *deviceSpec) *demand {
	if !s.line() {
		return nil
	}
	d := newDevice(s, newBus("", nil, nil))
	out := &demand{deviceSpec: *s, spans: d.spans}
	out.points = nil
	type scaled struct{ tick, factor int }
	known := map[scaled]bool{}
	for i, p := range s.points {
		if p.Every <= 0 {
			continue
		}
		at := slices.IndexFunc(out.ticks, func(t tick) bool { return t.every == p.Every })
		if at < 0 {
			at = len(out.ticks)
			out.ticks = append(out.ticks, tick{every: p.Every})
		}
		t := &out.ticks[at]
		t.points = append(t.points, i)
		if f := d.factors[i]; f > 0 && !known[scaled{at, f}] {
			t.points, known[scaled{at, f}] = append(t.points, f), true
		}
	}
	return out
}

// checked is the demand of a device file. To decode a file of 10,000 points takes a second,
// on a small machine several.
type checked struct {
	text   [sha256.Size]byte
	demand *demand
}

// keep remembers the demand of a device file.
func (d *Driver) keep(cfg drivers.Config, wants *demand) {
	c := checked{sha256.Sum256(cfg.Text), wants}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.demands[cfg.Device] = c
}

// demandsOf are the demands of device files, as they are remembered or read again; nil is
// none. Those of other devices are forgotten.
func (d *Driver) demandsOf(files []drivers.Config) []*demand {
	wanted := make(map[string]checked, len(files))
	demands := make([]*demand, len(files))
	for i, cfg := range files {
		text := sha256.Sum256(cfg.Text)
		d.mu.Lock()
		c, ok := d.demands[cfg.Device]
		d.mu.Unlock()
		if !ok || c.text != text {
			c = checked{text: text}
			if spec, err := decodeDevice(cfg, d.opts.Profiles); err == nil {
				c.demand = newDemand(spec)
			}
		}
		wanted[cfg.Device], demands[i] = c, c.demand
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.demands = wanted
	return demands
}

// sharedLine is a line, and who is on it.
type sharedLine struct {
	name    string
	devices []string
	demands []*demand
	speed   *SerialConfig // nil if nobody knows
}

func (l *sharedLine) add(device string, d *demand) {
	l.devices, l.demands = append(l.devices, device), append(l.demands, d)
	speed := d.behind
	if d.kind == kindSerial {
		speed = &d.serial
	}
	if l.speed == nil || speed != nil && speed.char() > l.speed.char() {
		l.speed = speed
	}
}

func (l *sharedLine) forecast(d *Driver) drivers.Line {
	line := drivers.Line{Name: l.name, Speed: fmt.Sprintf("%d baud", l.speed.Baud), Devices: l.devices}
	for _, remembered := range l.demands {
		wants := *remembered
		if wants.kind != kindSerial {
			wants.behind = l.speed
		}
		line.Asked += 100 * wants.share(d.latency(&wants.deviceSpec))
	}
	return line
}

// latency is that of a unit, as far as it is known: what is measured through a stream has
// the characters in it.
func (d *Driver) latency(s *deviceSpec) time.Duration {
	if b := d.bus(s.bus()); b != nil && s.kind == kindSerial {
		if l := b.condition(s.unit, s.timeout).latency; l > 0 {
			return l
		}
	}
	return assumedLatency
}

func (d *Driver) bus(name string) *bus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buses[name]
}

// Busy implements [drivers.LineSharer].
func (d *Driver) Busy(line string) (percent float64, ok bool) {
	b := d.bus(line)
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.load.percent(time.Now()), true
}

// share is how much of the line's time the unit's points ask for; 1 is all. Points
// that are due together are read together.
func (d *demand) share(latency time.Duration) float64 {
	ticks := slices.Clone(d.ticks)
	if len(ticks) == 0 {
		return 0
	}
	costs := map[string]time.Duration{}
	var took, now time.Duration
	for range forecastTicks {
		var due []int
		key, again := "", true
		for i := range ticks {
			t := &ticks[i]
			if again = again && t.next == now; t.next == now {
				due, key = append(due, t.points...), key+fmt.Sprint(i, " ")
				t.next += t.every
			}
		}
		if again && now > 0 { // all meet, as at the start
			break
		}
		cost, known := costs[key]
		if !known {
			cost = d.lineTime(due, latency)
			costs[key] = cost
		}
		took += cost
		now = slices.MinFunc(ticks, func(a, b tick) int { return cmp.Compare(a.next, b.next) }).next
	}
	return took.Seconds() / now.Seconds()
}

// lineTime is how long the line is in use to read what is due.
func (d *demand) lineTime(due []int, latency time.Duration) (took time.Duration) {
	c, t := d.cost(latency), d.known()
	m := mode(rtuMode{})
	if t.ascii() {
		m = asciiMode{}
	}
	for _, b := range plan(d.spans, due, c, &d.limits, &refusals{now: time.Now}) {
		r := request{fn: b.fn, addr: b.addr, count: b.count}
		chars := m.chars(len(r.appendPDU(nil))) + m.chars(r.answerLen())
		took += time.Duration(chars)*t.serial.char() + t.serial.RS485.DelayBefore + max(latency, t.gap()) + t.gap()
	}
	return took
}

// loadSeconds is over how long the load of a bus is measured.
const loadSeconds = 60

// load measures how much of the time a bus is in use. Its mutex is the bus's.
type load struct {
	first int64 // the second in which it began; 0 is not yet
	took  [loadSeconds]time.Duration
	when  [loadSeconds]int64 // the second that took is of
}

// add notes that a job began at start and has ended.
func (l *load) add(start, end time.Time) {
	second := end.Unix()
	if l.first == 0 {
		l.first = start.Unix()
	}
	i := second % loadSeconds
	if l.when[i] != second {
		l.when[i], l.took[i] = second, 0
	}
	l.took[i] += end.Sub(start)
}

// percent is how much of the last minute the bus was in use.
func (l *load) percent(now time.Time) float64 {
	if l.first == 0 {
		return 0
	}
	var took time.Duration
	for i, second := range l.when {
		if age := now.Unix() - second; age >= 0 && age < loadSeconds {
			took += l.took[i]
		}
	}
	of := min(loadSeconds, now.Unix()-l.first+1)
	return min(100, 100*took.Seconds()/float64(of))
}

// busy notes that the bus was in use since start.
func (b *bus) busy(start time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.load.add(start, time.Now())
}
