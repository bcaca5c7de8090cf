package modbus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// pollAll reads all devices over and over for a while, and counts the readings of each.
func pollAll(devices []drivers.Device, points []string, d time.Duration) []int {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	counts := make([]int, len(devices))
	var all sync.WaitGroup
	for i, dev := range devices {
		all.Go(func() {
			for ctx.Err() == nil {
				readings, err := dev.Read(ctx, points)
				if err == nil {
					counts[i] += len(readings)
				} else {
					later(100 * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	return counts
}

func sum(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// nine are the units 1 to 9 of a line that is as busy as can be; unit 10 is their neighbor.
type nine struct {
	t         *testing.T
	line      *fakeLine
	driver    *modbus.Driver
	points    []fakePoint
	devices   []drivers.Device
	neighbor  string // its file
	transport string // of a fakeLine
}

func newNine(t *testing.T, seed uint64, transport string) *nine {
	n := &nine{t: t, line: newFakeLine(seed, time.Second, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), points: fakePoints()[:6], transport: transport}
	n.line.ascii = strings.Contains(transport, "ascii")
	n.driver = newDriver(t, modbus.Options{OpenSerial: n.line.open, Dial: n.line.dial})
	for unit := uint8(1); unit <= 9; unit++ {
		n.devices = append(n.devices, open(t, n.driver, n.file(unit)))
	}
	n.neighbor = n.file(10)
	return n
}

func (n *nine) file(unit uint8) string {
	return strings.Replace(rtuFile(unit, time.Second, n.points), faultLines["RTU"], n.transport, 1)
}

// alone counts the readings without the tenth unit.
func (n *nine) alone(d time.Duration) int {
	n.t.Helper()
	count := sum(pollAll(n.devices, names(n.points), d))
	// Who was cut off has left an answer behind: the next one hears it, and is wary.
	if _, err := n.devices[0].Read(n.t.Context(), names(n.points)); err != nil {
		n.t.Fatal(err)
	}
	later(2 * time.Minute)
	return count
}

// dies lets unit 10 live, and then die. What it gives is the device.
func (n *nine) dies() drivers.Device {
	n.t.Helper()
	ten := open(n.t, n.driver, n.neighbor)
	for range 60 { // none is cut off: its answer would be noise to the next
		if _, err := ten.Read(n.t.Context(), names(n.points)); err != nil {
			n.t.Fatal(err)
		}
	}
	n.line.with(10, func(u *fakeUnit) { u.dead, u.asked = true, 0 })
	return ten
}

// neverLived tries to open unit 10 over and over, until stop is called.
func (n *nine) neverLived() (stop func()) {
	n.line.with(10, func(u *fakeUnit) { u.dead, u.asked = true, 0 })
	var opener sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	opener.Go(func() {
		for ctx.Err() == nil {
			if _, err := n.driver.Open(ctx, config(n.t, n.neighbor)); err == nil {
				n.t.Error("a dead unit opens")
			}
			later(time.Second)
		}
	})
	return func() {
		cancel()
		opener.Wait()
	}
}

// beside counts the readings of the nine.
func (n *nine) beside(d time.Duration, ten ...drivers.Device) int {
	return sum(pollAll(append(slices.Clone(n.devices), ten...), names(n.points), d)[:9])
}

// What the dead unit takes of the line is what the others lose.
func TestNineUnitsLoseLittleBesideADeadOne(t *testing.T) {
	const long = 10 * time.Minute
	for name, died := range map[string]bool{"that died": true, "that never lived": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNine(t, 1, faultLines["RTU"])
				alone := n.alone(long)
				var ten []drivers.Device
				stop := func() {}
				if died {
					ten = append(ten, n.dies())
				} else {
					stop = n.neverLived()
				}
				n.beside(time.Minute, ten...)
				beside := n.beside(long, ten...)
				stop()
				t.Logf("%d readings in %v, %d beside a dead unit (-%.1f %%); it was asked %d times",
					alone, long, beside, 100-100*float64(beside)/float64(alone), n.line.asked(10))
				if beside*100 < alone*95 {
					t.Errorf("the nine lose %d of %d readings", alone-beside, alone)
				}
				if asked := n.line.asked(10); asked < 10 {
					t.Errorf("the dead unit was asked %d times only", asked)
				}
				if died {
					backAgain(t, n.line, ten[0], names(n.points))
				}
			})
		})
	}
}

// In its first minute a unit is found to be dead, which costs the most: whatever the
// others take to answer, they lose less than 5 %.
func TestNineUnitsLoseLittleWhileOneDies(t *testing.T) {
	const minute = time.Minute
	for name, transport := range faultLines {
		seeds := uint64(10)
		if name == "RTU" && !raceEnabled {
			seeds = 50
		}
		for past, died := range map[string]bool{"that died": true, "that never lived": false} {
			t.Run(name+", beside one "+past, func(t *testing.T) {
				worst := 0.0
				for seed := range seeds {
					synctest.Test(t, func(t *testing.T) {
						n := newNine(t, 1+seed, transport)
						alone := n.alone(minute)
						var ten []drivers.Device
						stop := func() {}
						if died {
							ten = append(ten, n.dies())
						} else {
							stop = n.neverLived()
						}
						first := n.beside(minute, ten...)
						stop()
						if asked := n.line.asked(10); asked < 3 {
							t.Errorf("seed %d: the dead unit was asked %d times only", 1+seed, asked)
						}
						lost := 100 - 100*float64(first)/float64(alone)
						if worst = max(worst, lost); lost >= 5 {
							t.Errorf("seed %d: the nine lose %.1f %% of %d readings", 1+seed, lost, alone)
						}
					})
				}
				t.Logf("the nine lose %.1f %% at most", worst)
			})
		}
	}
}

// backAgain revives unit 10, whose time-out is 1 s: it is read again within a back-off,
// which is that of 40 time-outs at most.
func backAgain(t *testing.T, line *fakeLine, dev drivers.Device, points []string) {
	t.Helper()
	line.with(10, func(u *fakeUnit) { u.dead = false })
	start := time.Now()
	for {
		readings, err := dev.Read(t.Context(), points)
		took := time.Since(start)
		if took > 42*time.Second {
			t.Fatalf("the unit lives again, and is not read after %v: %v", took, err)
		}
		if err == nil && len(readings) == len(points) {
			t.Logf("the unit lives again, and is read after %v", took)
			return
		}
		later(100 * time.Millisecond)
	}
}

// A unit that is slower than its neighbours is not held for dead: not the first time that
// it is asked either.
func TestUnitSlowerThanItsNeighboursIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Second
		line := newFakeLine(1, timeout, 1, 2, 3)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[:3]
		for unit := uint8(1); unit <= 2; unit++ {
			dev := open(t, d, rtuFile(unit, timeout, points))
			for range 20 {
				if _, err := dev.Read(t.Context(), names(points)); err != nil {
					t.Fatal(err)
				}
			}
		}
		line.with(3, func(u *fakeUnit) { u.dead = true })
		file := rtuFile(3, timeout, points)
		start := time.Now()
		if _, err := d.Open(t.Context(), config(t, file)); err == nil {
			t.Fatal("a dead unit opens")
		}
		// One try takes what its neighbours teach, the other what the file says.
		if took := time.Since(start); took > timeout+time.Second {
			t.Errorf("it takes %v to know that a unit is dead", took)
		}
		later(3 * time.Minute)
		line.with(3, func(u *fakeUnit) { u.dead, u.latency = false, timeout*9/10 })
		// Probes are given more and more time, so that it is found in the end.
		var slow drivers.Device
		for start := time.Now(); slow == nil; later(time.Second) {
			if time.Since(start) > 10*time.Minute {
				t.Fatal("a slow unit is never found again")
			}
			slow, _ = d.Open(t.Context(), config(t, file))
		}
		t.Cleanup(func() { _ = slow.Close() })
		c := &checker{t: t, unit: 3}
		for range 20 {
			if readings, err := slow.Read(t.Context(), names(points)); err != nil || !c.see(points, readings) {
				t.Errorf("the slow unit: %d readings, %v", len(readings), err)
			}
		}
	})
}

// A unit that is slow from the beginning opens at the first attempt.
func TestUnitSlowFromTheBeginningOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Second
		line := newFakeLine(1, timeout, 1, 2)
		line.with(2, func(u *fakeUnit) { u.latency = timeout * 9 / 10 })
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[:3]
		quick := open(t, d, rtuFile(1, timeout, points))
		for range 20 {
			if _, err := quick.Read(t.Context(), names(points)); err != nil {
				t.Fatal(err)
			}
		}
		slow, c := open(t, d, rtuFile(2, timeout, points)), &checker{t: t, unit: 2}
		for range 20 {
			if readings, err := slow.Read(t.Context(), names(points)); err != nil || !c.see(points, readings) {
				t.Errorf("%d readings, %v", len(readings), err)
			}
		}
	})
}

// A unit that has become slower loses no reading; one that is dead is known to be soon.
func TestTimeoutIsLearntAndNotTrustedTooFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Second
		line := newFakeLine(1, timeout, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[:3]
		dev := open(t, d, rtuFile(1, timeout, points))
		c := &checker{t: t, unit: 1}
		for _, latency := range []time.Duration{20, 20, 400, 1500, 20, 900} {
			line.with(1, func(u *fakeUnit) { u.latency = latency * time.Millisecond })
			for range 15 {
				readings, err := dev.Read(t.Context(), names(points))
				if err != nil || !c.see(points, readings) {
					t.Errorf("with a latency of %d ms: %d readings, %v", latency, len(readings), err)
				}
				later(time.Second)
			}
		}
		line.with(1, func(u *fakeUnit) { u.latency = 20 * time.Millisecond })
		for range 300 {
			readings, err := dev.Read(t.Context(), names(points))
			if err != nil || !c.see(points, readings) {
				t.Errorf("%d readings, %v", len(readings), err)
			}
		}
		line.with(1, func(u *fakeUnit) { u.dead = true })
		if _, err := dev.Read(t.Context(), names(points)); err == nil {
			t.Error("a dead unit reads")
		}
		later(time.Minute)
		start := time.Now()
		if _, err := dev.Read(t.Context(), names(points)); err == nil {
			t.Error("a dead unit reads")
		}
		if took := time.Since(start); took > timeout/4 || took == 0 {
			t.Errorf("a probe of a dead unit takes %v", took)
		}
		line.with(1, func(u *fakeUnit) { u.dead, u.latency = false, 1500*time.Millisecond })
		later(time.Minute)
		for i := 0; ; i++ {
			if _, err := dev.Read(t.Context(), names(points)); err == nil {
				break
			}
			if i == 10 {
				t.Fatal("the unit lives again, if slower, and is not found")
			}
			later(31 * time.Second)
		}
	})
}

// A unit that was away may have been given other registers.
func TestRefusalsAreForgottenWhenAUnitComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, 200*time.Millisecond, 1)
		line.units[1].missing = map[uint16]bool{5: true}
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := []fakePoint{{3, 1}, {3, 5}, {3, 9}, {3, 12}}
		dev := open(t, d, rtuFile(1, 200*time.Millisecond, points))
		requests := func() int {
			before := line.asked(1)
			if _, err := dev.Read(t.Context(), names(points)); err != nil {
				t.Error(err)
			}
			return line.asked(1) - before
		}
		for range 5 {
			requests()
		}
		if n := requests(); n != 3 {
			t.Errorf("%d requests around an address that is refused, want 3", n)
		}
		line.with(1, func(u *fakeUnit) { u.dead, u.missing = true, nil })
		_, _ = dev.Read(t.Context(), names(points)) // it is dead
		later(35 * time.Second)
		line.with(1, func(u *fakeUnit) { u.dead = false })
		requests()
		if n := requests(); n != 1 {
			t.Errorf("%d requests after the unit came back with all registers, want 1", n)
		}
	})
}

// What the file forbids is not asked for, whatever it would save.
func TestLimitsOfADeviceAreKept(t *testing.T) {
	for _, c := range []struct {
		keys     string
		requests int
	}{
		{"", 2},
		{"max_registers: 4", 3},
		{"gap: 0", 5},
		{"gap: 2", 4},
		{"never_read: {holding: [2]}", 3},
		{"never_read: {holding: [4..6], coil: [100..200]}", 3},
		{"never_read: {input: [4..6]}", 2},
		{"max_bits: 4", 3},
	} {
		t.Run(c.keys, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, 200*time.Millisecond, 1)
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				points := []fakePoint{{3, 1}, {3, 3}, {3, 7}, {1, 2}, {1, 8}}
				if c.keys == "max_bits: 4" {
					points = []fakePoint{{3, 1}, {1, 2}, {1, 8}}
				}
				dev := open(t, d, rtuFile(1, 200*time.Millisecond, points)+"\n"+c.keys+"\n")
				check := &checker{t: t, unit: 1}
				for range 3 {
					before := line.asked(1)
					readings, err := dev.Read(t.Context(), names(points))
					if err != nil || !check.see(points, readings) {
						t.Errorf("%d readings, %v", len(readings), err)
					}
					if n := line.asked(1) - before; n != c.requests {
						t.Errorf("%d requests, want %d", n, c.requests)
					}
					later(5 * time.Second)
				}
			})
		})
	}
}

func TestLimitsThatAreWrong(t *testing.T) {
	for keys, want := range map[string]string{
		"max_registers: 126":                 "max_registers must be 1 to 125",
		"max_bits: 0":                        "max_bits must be 1 to 2000",
		"gap: -1":                            "gap must be 0 to 2000",
		"never_read: {register: [1]}":        `"register" is none of coil, discrete, input and holding`,
		"never_read: {holding: [7..3]}":      "7..3 is no address or range of addresses such as 100..199",
		"never_read: {holding: 1..2}":        "the point needs an address that never_read has",
		"max_registers: 1":                   "the point has 2 registers, and one request may read 1",
		"never_read: {holding: [0, 3..100]}": "",
	} {
		_, err := newDriver(t, modbus.Options{}).Check(config(t, fmt.Sprintf("driver: modbus\ntcp: plc\n%s\npoints:\n  x: {holding: 1, type: int32}\n", keys)))
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", keys, err, want)
		}
	}
}
