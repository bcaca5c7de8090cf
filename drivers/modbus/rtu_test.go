package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// fakePoint is a point of a fake unit, and what it must read.
type fakePoint struct {
	fn   modbus.Function
	addr uint16
}

var tableKeys = map[modbus.Function]string{
	modbus.ReadCoils: "coil", modbus.ReadDiscreteInputs: "discrete",
	modbus.ReadHoldingRegisters: "holding", modbus.ReadInputRegisters: "input",
}

func (p fakePoint) name() string { return fmt.Sprintf("%s%d", tableKeys[p.fn], p.addr) }

func (p fakePoint) want(unit uint8) string {
	if p.fn <= modbus.ReadDiscreteInputs {
		return fmt.Sprint(fakeBit(unit, p.fn, p.addr))
	}
	return fmt.Sprint(fakeValue(unit, p.fn, p.addr))
}

// fakePoints are points in every table, near and far.
func fakePoints() []fakePoint {
	var ps []fakePoint
	for fn := modbus.ReadCoils; fn <= modbus.ReadInputRegisters; fn++ {
		for _, addr := range []uint16{0, 1, 2, 7, 40, 41, 100, 200, 201, 300, 301, 302, 400, 500, 600, 601, 602, 700, 1000, 1023} {
			ps = append(ps, fakePoint{fn, addr})
		}
	}
	return ps
}

// rtuFile is the device file of a fake unit.
func rtuFile(unit uint8, timeout time.Duration, points []fakePoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\nunit: %d\ntimeout: %v\npoints:\n", unit, timeout)
	for _, p := range points {
		fmt.Fprintf(&b, "  %s: {%s: %d}\n", p.name(), tableKeys[p.fn], p.addr)
	}
	return b.String()
}

// later lets virtual time pass.
func later(d time.Duration) { <-time.After(d) }

// some picks points at random.
func some(rng *rand.Rand, points []fakePoint) []fakePoint {
	picked := slices.Clone(points)
	rng.Shuffle(len(picked), func(i, k int) { picked[i], picked[k] = picked[k], picked[i] })
	return picked[:1+rng.IntN(len(picked)/4)]
}

func names(points []fakePoint) []string {
	out := make([]string, len(points))
	for i, p := range points {
		out[i] = p.name()
	}
	return out
}

// checker counts what a torture test saw.
type checker struct {
	t                        *testing.T
	unit                     uint8
	good, bad, none, reopens int
}

// see checks readings: a value is right, or there is none.
func (c *checker) see(points []fakePoint, readings []drivers.Reading) (complete bool) {
	byName := map[string]fakePoint{}
	for _, p := range points {
		byName[p.name()] = p
	}
	for _, r := range readings {
		p, asked := byName[r.Point]
		switch {
		case !asked:
			c.t.Errorf("unit %d: a reading of %q, which nobody asked for", c.unit, r.Point)
		case r.Quality == drivers.Bad:
			c.bad++
		case r.Value.String() != p.want(c.unit):
			c.t.Errorf("unit %d: WRONG VALUE: %s is %s, want %s", c.unit, r.Point, r.Value, p.want(c.unit))
		default:
			c.good++
		}
		delete(byName, r.Point)
	}
	c.none += len(byName)
	return len(byName) == 0
}

func TestLineNeverGivesAnotherRegistersValue(t *testing.T) {
	const rounds = 400
	for seed := range uint64(4) {
		for _, line := range []string{
			"serial: {port: /dev/fake, baud: 9600}",
			"serial: {port: /dev/fake, baud: 9600, mode: ascii}",
			"rtu_tcp: fake:4001",
			"ascii_tcp: fake:4001",
		} {
			t.Run(fmt.Sprintf("%s seed %d", line[:9], seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tortureLine(t, seed, rounds, line)
				})
			})
		}
	}
}

func tortureLine(t *testing.T, seed uint64, rounds int, transport string) {
	const timeout = 300 * time.Millisecond
	line := newFakeLine(seed, timeout, 1)
	line.ascii = strings.Contains(transport, "ascii")
	d := newDriver(t, modbus.Options{OpenSerial: line.open, Dial: line.dial})
	points := fakePoints()
	file := strings.Replace(rtuFile(1, timeout, points), "serial: {port: /dev/fake, baud: 9600}", transport, 1)
	dev, err := d.Open(t.Context(), config(t, file))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	c := &checker{t: t, unit: 1}
	for round := range rounds {
		line.setFaulty(round%5 != 4)
		due := some(rng, points)
		readings, err := dev.Read(t.Context(), names(due))
		complete := c.see(due, readings)
		if errors.Is(err, drivers.ErrLost) {
			if err := dev.Close(); err != nil {
				t.Fatal(err)
			}
			line.setFaulty(false)
			later(35 * time.Second)
			if dev, err = d.Open(t.Context(), config(t, file)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			c.reopens++
			continue
		}
		if round%5 == 4 && !complete {
			// The unit may be in a back-off from the round before, or a point be left
			// out for a minute; then the next request must do.
			later(61 * time.Second)
			readings, err = dev.Read(t.Context(), names(due))
			if err != nil || !c.see(due, readings) {
				t.Errorf("round %d: not in step again: %d of %d readings, %v", round, len(readings), len(due), err)
			}
		}
		later(time.Duration(rng.IntN(400)) * time.Millisecond)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	total := 0
	for _, n := range line.counts {
		total += n
	}
	t.Logf("%d exchanges, faults %v; readings: %d right, %d bad, %d none; %d reopened", total, line.counts, c.good, c.bad, c.none, c.reopens)
	if c.good < rounds || total < 2*rounds {
		t.Errorf("the test saw too little: %d readings, %d exchanges", c.good, total)
	}
	if c.bad > 0 {
		t.Errorf("%d points that are there were refused", c.bad)
	}
	if rtu := strings.HasSuffix(transport, "9600}"); rtu && line.hasty > 0 {
		t.Errorf("%d requests without a silence of 3.5 characters before them", line.hasty)
	}
	later(time.Minute) // what is still under way arrives
}

func TestRTUDeadUnitLeavesTheLineToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 500 * time.Millisecond
		line := newFakeLine(1, timeout, 1, 2, 3)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()
		devices := map[uint8]drivers.Device{}
		for unit := uint8(1); unit <= 3; unit++ {
			devices[unit] = open(t, d, rtuFile(unit, timeout, points[:30]))
		}
		line.with(2, func(u *fakeUnit) { u.dead, u.asked = true, 0 })
		const cycles = 60
		worst := time.Duration(0)
		done := make(chan error, 3)
		for unit, dev := range devices {
			go func() {
				for range cycles {
					start := time.Now()
					_, err := dev.Read(context.Background(), names(points[:30]))
					if unit != 2 && err != nil {
						done <- fmt.Errorf("unit %d: %w", unit, err)
						return
					}
					if unit == 1 {
						worst = max(worst, time.Since(start))
					}
					later(time.Second - time.Since(start)%time.Second)
				}
				done <- nil
			}()
		}
		for range devices {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// Two strikes, then a probe after 1, 2, 4, 8, 16 and 30 s.
		if asked := line.asked(2); asked < 4 || asked > 10 {
			t.Errorf("the dead unit was asked %d times in a minute", asked)
		}
		if worst > 3*time.Second {
			t.Errorf("a live unit's reading took %v beside a dead one", worst)
		}
		t.Logf("dead unit asked %d times in %d s; worst reading of a live one %v", line.asked(2), cycles, worst)
		line.with(2, func(u *fakeUnit) { u.dead = false })
		later(31 * time.Second)
		if _, err := devices[2].Read(t.Context(), names(points[:30])); err != nil {
			t.Errorf("the unit lives again, but: %v", err)
		}
	})
}

func TestRTUMissingAddressDoesNotPoisonItsNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].missing = map[uint16]bool{301: true, 602: true, 8: true, 3: true}
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()
		dev := open(t, d, rtuFile(1, time.Second, points))
		want := map[string]string{}
		for _, p := range points {
			want[p.name()] = p.want(1)
			if line.units[1].missing[p.addr] {
				want[p.name()] = "bad: " + modbus.Exception{Function: p.fn, Code: modbus.IllegalAddress}.Error()
			}
		}
		wantRead(t, dev, want)
		first := line.asked(1)
		for range 3 {
			wantRead(t, dev, want)
		}
		line.with(1, func(u *fakeUnit) { u.asked = 0 })
		wantRead(t, dev, want)
		t.Logf("%d requests at first, %d when the refusals are known", first, line.asked(1))
		if line.asked(1) > first/2 {
			t.Errorf("%d requests at first, and still %d", first, line.asked(1))
		}
	})
}

// A unit that gives only one register at a time leaves no other length to ask for.
func TestRTUUnitThatTakesOneLengthOnly(t *testing.T) {
	for _, faults := range [][]int{nil, {int(faultDuplicate)}, {int(faultLate)}, {int(faultStaleFirst), int(faultNoiseBefore)}} {
		t.Run(fmt.Sprint(faults), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const timeout = 300 * time.Millisecond
				line := newFakeLine(3, timeout, 1)
				line.units[1].exact = true
				for _, f := range faults {
					line.only = append(line.only, fault(f))
				}
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				points := fakePoints()[40:60]
				dev := open(t, d, rtuFile(1, timeout, points))
				c := &checker{t: t, unit: 1}
				start := time.Now()
				for range 40 {
					line.setFaulty(len(faults) > 0)
					readings, err := dev.Read(t.Context(), names(points))
					c.see(points, readings)
					if err != nil {
						later(10 * time.Second)
					}
				}
				t.Logf("%d right, %d bad, %d none; %v a reading of %d points", c.good, c.bad, c.none, time.Since(start)/40, len(points))
				if c.bad > 0 || c.good < 50 {
					t.Errorf("%d right, %d bad", c.good, c.bad)
				}
				later(time.Minute)
			})
		})
	}
}

// On a line without trouble such a unit is read fast; the first answer that comes
// twice must not pass, either.
func TestRTUFirstStaleAnswerOfAUnitThatTakesOneLengthOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 300 * time.Millisecond
		line := newFakeLine(5, timeout, 1)
		line.units[1].exact = true
		line.only, line.percent = []fault{faultDuplicate}, 2
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[40:60]
		dev := open(t, d, rtuFile(1, timeout, points))
		read(t, dev, names(points)...)
		line.setFaulty(true)
		c := &checker{t: t, unit: 1}
		for range 500 {
			later(time.Minute)
			readings, err := dev.Read(t.Context(), names(points))
			if err != nil {
				t.Fatal(err)
			}
			c.see(points, readings)
		}
		t.Logf("%d right, %d bad, %d none, %d answers came twice", c.good, c.bad, c.none, line.counts[faultDuplicate])
		if c.bad > 0 || c.none > 10 || line.counts[faultDuplicate] < 100 {
			t.Errorf("%d bad, %d none", c.bad, c.none)
		}
		later(time.Minute)
	})
}

func TestRTUWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, `
driver: modbus
serial: {port: /dev/fake, baud: 9600}
points:
  coil: {coil: 3, writable: true}
  one: {holding: 4, writable: true}
  two: {holding: 6, type: int32, writable: true}
`)
		for point, value := range map[string]string{"coil": "true", "one": "65535", "two": "-2"} {
			if err := write(t, dev, point, value); err != nil {
				t.Error(err)
			}
		}
		line.mu.Lock()
		line.only, line.faulty = []fault{faultWrongUnit, faultCRC, faultLost}, true
		line.mu.Unlock()
		failed := 0
		for range 30 {
			if write(t, dev, "two", "7") != nil {
				failed++
			}
			later(31 * time.Second)
		}
		if failed == 0 || failed == 30 {
			t.Errorf("%d of 30 writes failed on a bad line", failed)
		}
	})
}

func TestRTUSharesOnePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		file := rtuFile(1, time.Second, fakePoints())
		first, err := d.Open(t.Context(), config(t, file))
		if err != nil {
			t.Fatal(err)
		}
		second := open(t, d, rtuFile(2, time.Second, fakePoints()))
		if line.opened != 1 {
			t.Errorf("the port was opened %d times", line.opened)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		want := map[string]string{}
		for _, p := range fakePoints() {
			want[p.name()] = p.want(2)
		}
		wantRead(t, second, want)
		if got := slices.Sorted(maps.Keys(want)); len(got) != len(second.Points()) {
			t.Errorf("%d points, want %d", len(second.Points()), len(got))
		}
	})
}

// sentPort notes when the last request was sent.
type sentPort struct {
	modbus.Port
	at *time.Time
}

func (p sentPort) Write(b []byte) (int, error) {
	*p.at = time.Now()
	return p.Port.Write(b)
}

// The silence before a request begins with the last character, not with the wish to send.
func TestRTUSilenceThatHasPassedIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = 50 * time.Millisecond
		line, sent := newFakeLine(1, time.Second, 1), time.Time{}
		d := newDriver(t, modbus.Options{OpenSerial: func(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			p, err := line.open(ctx, c)
			return sentPort{p, &sent}, err
		}})
		points := fakePoints()[:1]
		file := strings.Replace(rtuFile(1, time.Second, points), "unit: 1", "unit: 1\nsilence: "+silence.String(), 1)
		dev := open(t, d, file)
		for i, c := range []struct {
			after, want time.Duration // since the last answer
			noise       bool
		}{
			{after: 0, want: silence}, // the line is not known yet
			{after: 0, want: silence},
			{after: 20 * time.Millisecond, want: silence},
			{after: silence, want: silence},
			{after: time.Minute, want: time.Minute},
			{after: time.Minute, want: time.Minute + 2*silence, noise: true},
		} {
			ended := time.Now()
			if c.noise {
				line.port.deliver(time.Second, []byte{0x55})
			}
			later(c.after)
			wantRead(t, dev, map[string]string{points[0].name(): points[0].want(1)})
			if got := sent.Sub(ended); got != c.want {
				t.Errorf("request %d was sent %v after the last answer, want %v", i, got, c.want)
			}
		}
	})
}

func TestRTUReadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Minute, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, rtuFile(1, time.Minute, fakePoints()))
		line.with(1, func(u *fakeUnit) { u.dead = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := dev.Read(ctx, []string{"coil0"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 1200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// The files of a line's devices are saved one after the other: until the last one is,
// the others can only wait.
func TestRTUSpeedOfALineIsChangedInOneFileAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		old, err := d.Open(t.Context(), config(t, rtuFile(2, time.Second, fakePoints())))
		if err != nil {
			t.Fatal(err)
		}
		file := strings.Replace(rtuFile(1, time.Second, fakePoints()), "9600", "19200", 1)
		_, err = d.Open(t.Context(), config(t, file))
		if err == nil || errors.Is(err, drivers.ErrConfig) || errors.Is(err, drivers.ErrLost) ||
			!strings.Contains(err.Error(), "/dev/fake") {
			t.Errorf("want it told that it has to wait, got %v", err)
		}
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		read(t, open(t, d, file), "coil0")
	})
}

// echoFile is a device on a line that repeats what is sent.
const echoFile = "driver: modbus\nserial: {port: /dev/fake}\nunit: %d\npoints:\n  speed: {holding: 5, writable: true}\n"

func TestRTUEchoOfAWriteIsNoAnswer(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, line *fakeLine, one, two drivers.Device){
		"at once": func(*testing.T, *fakeLine, drivers.Device, drivers.Device) {},
		"after the port was opened again": func(t *testing.T, line *fakeLine, _, two drivers.Device) {
			line.port.breakDown()
			if err := write(t, two, "speed", "8"); !errors.Is(err, drivers.ErrLost) {
				t.Errorf("the port is gone, and Write gives %v", err)
			}
		},
		"after an echo that was spoiled": func(t *testing.T, line *fakeLine, one, _ drivers.Device) {
			line.spoilEcho = true
			read(t, one, "speed")
			line.spoilEcho = false
		},
		"with noise before it": func(_ *testing.T, line *fakeLine, _, _ drivers.Device) { line.echo = []byte{0} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, time.Second, 1, 2)
				line.echo = []byte{}
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				one, two := open(t, d, fmt.Sprintf(echoFile, 1)), open(t, d, fmt.Sprintf(echoFile, 2))
				if err := write(t, two, "speed", "7"); err != nil {
					t.Errorf("a unit that lives: %v", err)
				}
				line.with(2, func(u *fakeUnit) { u.dead = true })
				before(t, line, one, two)
				later(time.Second)
				if err := write(t, two, "speed", "8"); err == nil {
					t.Error("a dead unit has confirmed a write")
				}
			})
		})
	}
}

// What a line repeats comes at once: the answer's own latency says how long a second
// one may take.
func TestRTUFirstStaleAnswerOnALineThatRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 300 * time.Millisecond
		line := newFakeLine(5, timeout, 1)
		line.echo = []byte{}
		line.units[1].exact, line.units[1].latency = true, 100*time.Millisecond
		line.only, line.percent = []fault{faultDuplicate}, 2
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[40:60]
		dev := open(t, d, rtuFile(1, timeout, points))
		read(t, dev, names(points)...)
		line.setFaulty(true)
		c := &checker{t: t, unit: 1}
		for range 300 {
			later(time.Minute)
			readings, err := dev.Read(t.Context(), names(points))
			if err != nil {
				t.Fatal(err)
			}
			c.see(points, readings)
		}
		if c.good < 5000 || line.counts[faultDuplicate] < 50 {
			t.Errorf("%d right, %d none, %d answers came twice", c.good, c.none, line.counts[faultDuplicate])
		}
		later(time.Minute)
	})
}

// The answer to a write of several registers shows not what was written.
func TestRTULateAnswerToAWriteIsNotThatOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 300 * time.Millisecond
		line := newFakeLine(5, timeout, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\ntimeout: 300ms\npoints:\n"+
			"  total: {holding: 6, type: int32, writable: true}\n")
		line.with(1, func(u *fakeUnit) { u.latency = 450 * time.Millisecond })
		if err := write(t, dev, "total", "7"); err == nil {
			t.Error("the answer came too late, and nobody noticed")
		}
		line.with(1, func(u *fakeUnit) { u.dead = true })
		if err := write(t, dev, "total", "8"); err == nil {
			t.Error("the late answer to the first write has confirmed the second")
		}
		line.with(1, func(u *fakeUnit) { u.dead, u.latency = false, 20*time.Millisecond })
		later(10 * time.Second)
		start := time.Now()
		if err := write(t, dev, "total", "9"); err != nil || time.Since(start) > timeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// restless is a port that cannot wait.
type restless struct{ modbus.Port }

func (restless) Sleep(context.Context, time.Duration) error { return errUnplugged }

// A port at which nobody can wait is lost, and opened again, as one that cannot be read.
func TestPortThatCannotWaitIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: func(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			p, err := line.open(ctx, c)
			if line.opened == 1 && err == nil {
				p = restless{p}
			}
			return p, err
		}})
		c := dial(t, d, modbus.Target{Serial: modbus.SerialConfig{Port: "/dev/fake", Baud: 9600}})
		if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 50); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("want the port lost, got %v", err)
		}
		later(time.Minute)
		if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 50); err != nil {
			t.Error(err)
		}
	})
}
