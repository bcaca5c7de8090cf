package modbus

import (
	"bytes"
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
	for _, cfg := range files {
		if !onLine(cfg.Text) {
			continue // to decode it all for nothing takes long
		}
		spec, err := decodeDevice(cfg, d.opts.Profiles)
		if err != nil || !spec.line() {
			continue
		}
		l := byName[spec.bus()]
		if l == nil {
			l = &sharedLine{}
			byName[spec.bus()] = l
			order = append(order, l)
		}
		l.add(cfg.Device, spec)
	}
	var lines []drivers.Line
	for _, l := range order {
		if l.speed != nil {
			lines = append(lines, l.forecast(d))
		}
	}
	return lines
}

// onLine reports whether a file may be that of a device on a line.
func onLine(text []byte) bool {
	for _, k := range []kind{kindSerial, kindRTUTCP, kindASCIITCP} {
		if bytes.Contains(text, []byte(k)) {
			return true
		}
	}
	return false
}

// sharedLine is a line, and who is on it.
type sharedLine struct {
	devices []string
	specs   []*deviceSpec
	speed   *SerialConfig // nil if nobody knows
}

func (l *sharedLine) add(device string, s *deviceSpec) {
	l.devices, l.specs = append(l.devices, device), append(l.specs, s)
	speed := s.behind
	if s.kind == kindSerial {
		speed = &s.serial
	}
	if l.speed == nil || speed != nil && speed.char() > l.speed.char() {
		l.speed = speed
	}
}

func (l *sharedLine) forecast(d *Driver) drivers.Line {
	line := drivers.Line{Name: l.specs[0].bus(), Speed: fmt.Sprintf("%d baud", l.speed.Baud), Devices: l.devices}
	for _, s := range l.specs {
		if s.kind != kindSerial {
			s.behind = l.speed
		}
		line.Asked += 100 * s.share(d.latency(s))
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

// tick is what is due at once: points of one interval.
type tick struct {
	every, next time.Duration
	points      []int
}

// share is how much of the line's time the unit's points ask for; 1 is all. Points
// that are due together are read together.
func (s *deviceSpec) share(latency time.Duration) float64 {
	d := newDevice(s, newBus("", nil, nil))
	var ticks []*tick
	for i, p := range s.points {
		if p.Every <= 0 {
			continue
		}
		at := slices.IndexFunc(ticks, func(t *tick) bool { return t.every == p.Every })
		if at < 0 {
			at = len(ticks)
			ticks = append(ticks, &tick{every: p.Every})
		}
		ticks[at].points = append(ticks[at].points, i)
		if f := d.factors[i]; f > 0 && !slices.Contains(ticks[at].points, f) {
			ticks[at].points = append(ticks[at].points, f)
		}
	}
	if len(ticks) == 0 {
		return 0
	}
	costs := map[string]time.Duration{}
	var took, now time.Duration
	for range forecastTicks {
		var due []int
		key, again := "", true
		for i, t := range ticks {
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
			cost = s.lineTime(d.spans, due, latency)
			costs[key] = cost
		}
		took += cost
		now = slices.MinFunc(ticks, func(a, b *tick) int { return int(a.next - b.next) }).next
	}
	return took.Seconds() / now.Seconds()
}

// lineTime is how long the line is in use to read what is due.
func (s *deviceSpec) lineTime(spans []span, due []int, latency time.Duration) (d time.Duration) {
	c, t := s.cost(latency), s.known()
	m := mode(rtuMode{})
	if t.ascii() {
		m = asciiMode{}
	}
	for _, b := range plan(spans, due, c, &s.limits, &refusals{now: time.Now}) {
		r := request{fn: b.fn, addr: b.addr, count: b.count}
		chars := m.chars(len(r.appendPDU(nil))) + m.chars(r.answerLen())
		d += time.Duration(chars)*t.serial.char() + t.serial.RS485.DelayBefore + max(latency, t.gap()) + t.gap()
	}
	return d
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
