package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/google/go-cmp/cmp"
)

func TestBusLetsWritesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2, 3, 4, 5, 6, 7)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		devices := map[uint8]drivers.Device{}
		for unit := uint8(1); unit <= 7; unit++ {
			devices[unit] = open(t, d, fmt.Sprintf("driver: modbus\nserial: {port: /dev/fake}\nunit: %d\npoints:\n  speed: {holding: 5, writable: true}\n", unit))
		}
		line.order = nil
		var all sync.WaitGroup
		for unit := uint8(1); unit <= 6; unit++ {
			all.Go(func() { read(t, devices[unit], "speed") })
			synctest.Wait() // it waits for the bus
		}
		all.Go(func() {
			if err := write(t, devices[7], "speed", "9"); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if want := []uint8{1, 7, 2, 3, 4, 5, 6}; !slices.Equal(line.order, want) {
			t.Errorf("units were asked in the order %v, want %v", line.order, want)
		}
	})
}

func TestBusTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2, 3)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		greedy := []fakePoint{{3, 0}, {3, 200}, {3, 400}, {3, 600}, {3, 800}, {3, 1000}}
		one, two, three := open(t, d, rtuFile(1, time.Second, greedy)), open(t, d, rtuFile(2, time.Second, greedy[:1])), open(t, d, rtuFile(3, time.Second, greedy[:1]))
		line.order = nil
		var all sync.WaitGroup
		all.Go(func() { read(t, one, names(greedy)...) })
		synctest.Wait()
		all.Go(func() { read(t, two, names(greedy[:1])...) })
		synctest.Wait()
		all.Go(func() { read(t, three, names(greedy[:1])...) })
		all.Wait()
		if want := []uint8{1, 2, 3, 1, 1, 1, 1, 1}; !slices.Equal(line.order, want) {
			t.Errorf("units were asked in the order %v, want %v", line.order, want)
		}
	})
}

func TestBusManyWritesLeaveATurnToReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2, 3)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		file := "driver: modbus\nserial: {port: /dev/fake}\nunit: %d\npoints:\n  speed: {holding: 5, writable: true}\n"
		writers := []drivers.Device{open(t, d, fmt.Sprintf(file, 1)), open(t, d, fmt.Sprintf(file, 2))}
		reader := open(t, d, fmt.Sprintf(file, 3))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, w := range writers {
			all.Go(func() {
				for ctx.Err() == nil {
					_ = w.Write(ctx, "speed", drivers.IntValue(1)) // fails at the end
				}
			})
		}
		start := time.Now()
		for range 5 {
			read(t, reader, "speed")
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("five reads took %v", took)
		}
		cancel()
		all.Wait()
	})
}

func TestUnitThatKnowsOnlyTheFunctionsForSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].several = true
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, "driver: modbus\nserial: {port: /dev/fake}\npoints:\n  fan: {coil: 3, writable: true}\n  speed: {holding: 4, writable: true}\n")
		for _, w := range []struct{ point, value string }{{"fan", "true"}, {"fan", "false"}, {"speed", "1"}, {"speed", "2"}} {
			if err := write(t, dev, w.point, w.value); err != nil {
				t.Error(err)
			}
		}
		want := []modbus.Function{5, 15, 15, 6, 16, 16}
		if diff := cmp.Diff(want, line.units[1].written); diff != "" {
			t.Errorf("functions (-want +got):\n%s", diff)
		}
	})
}

// A point may say with which functions it is written; then no other is tried.
func TestPointSaysHowItIsWritten(t *testing.T) {
	for how, want := range map[string][]modbus.Function{"": {5, 6, 22}, "single": {5, 6, 6}, "multiple": {15, 16, 16}} {
		synctest.Test(t, func(t *testing.T) {
			line := newFakeLine(1, time.Second, 1)
			d := newDriver(t, modbus.Options{OpenSerial: line.open})
			file := "driver: modbus\nserial: {port: /dev/fake}\npoints:\n" +
				"  fan: {coil: 3, writable: true, write: X}\n  speed: {holding: 4, writable: true, write: X}\n  flag: {holding: 5, bit: 0, writable: true, write: X}\n"
			if how == "" {
				file = strings.ReplaceAll(file, ", write: X", "")
			}
			dev := open(t, d, strings.ReplaceAll(file, "X", how))
			for _, point := range []string{"fan", "speed", "flag"} {
				_ = write(t, dev, point, "1") // the unit holds what it did before
			}
			if diff := cmp.Diff(want, line.units[1].written); diff != "" {
				t.Errorf("write: %s: functions (-want +got):\n%s", how, diff)
			}
			if how == "single" {
				line.with(1, func(u *fakeUnit) { u.several, u.written = true, nil })
				var e modbus.Exception
				if err := write(t, dev, "speed", "2"); !errors.As(err, &e) || len(line.units[1].written) != 1 {
					t.Errorf("refused: %v, written by %v", err, line.units[1].written)
				}
			}
		})
	}
}

// The second try's trouble is told, not the first one's refusal: it may have been done.
func TestUnitThatFallsSilentAtTheFunctionForSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].several = true
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, "driver: modbus\nserial: {port: /dev/fake}\npoints:\n  fan: {coil: 3, writable: true}\n")
		line.with(1, func(u *fakeUnit) { u.last = 1 })
		err := write(t, dev, "fan", "true")
		var e modbus.Exception
		if err == nil || errors.As(err, &e) || !strings.Contains(err.Error(), "no answer within 1s") {
			t.Errorf("%v", err)
		}
	})
}

// No address is to blame for such a refusal: to take the block to pieces would only
// ask a busy device more and more.
func TestUnitThatRefusesAFunctionIsNotAskedMoreAndMore(t *testing.T) {
	for _, code := range []modbus.Code{modbus.IllegalFunction, modbus.DeviceBusy} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, time.Second, 1)
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				points := []fakePoint{{3, 0}}
				for addr := range uint16(40) {
					points = append(points, fakePoint{4, addr})
				}
				dev := open(t, d, rtuFile(1, time.Second, points))
				line.with(1, func(u *fakeUnit) { u.refuse, u.refused = code, modbus.ReadInputRegisters })
				for round := range 60 {
					line.with(1, func(u *fakeUnit) { u.asked = 0 })
					got := read(t, dev, names(points)...)
					if want := "bad: " + (modbus.Exception{Function: 4, Code: code}).Error(); got["input7"] != want || got["holding0"] != points[0].want(1) {
						t.Errorf("round %d: %v", round, got)
					}
					if n := line.asked(1); n > 3 { // the refusal must come twice
						t.Fatalf("round %d: %d requests", round, n)
					}
					later(time.Second)
				}
				line.with(1, func(u *fakeUnit) { u.refuse, u.asked = 0, 0 })
				read(t, dev, names(points)...)
				if n := line.asked(1); n != 2 {
					t.Errorf("%d requests when it refuses nothing any more, want 2", n)
				}
			})
		})
	}
}

// A PLC that boots refuses everything, and is read as before when it is up.
func TestUnitThatRefusedEverythingForATimeIsReadInBlocksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		var points []fakePoint
		for addr := range uint16(40) {
			points = append(points, fakePoint{4, addr})
		}
		dev := open(t, d, rtuFile(1, time.Second, points))
		line.with(1, func(u *fakeUnit) { u.refuse, u.refused = modbus.DeviceFailure, modbus.ReadInputRegisters })
		for range 10 {
			read(t, dev, names(points)...)
			later(10 * time.Second)
		}
		line.with(1, func(u *fakeUnit) { u.refuse = 0 })
		for range 4 {
			if got := read(t, dev, names(points)...); got["input7"] != points[7].want(1) {
				t.Errorf("%v", got)
			}
			later(10 * time.Second)
		}
		line.with(1, func(u *fakeUnit) { u.asked = 0 })
		read(t, dev, names(points)...)
		if n := line.asked(1); n != 1 {
			t.Errorf("%d requests half a minute after it refused the last time, want 1", n)
		}
	})
}

// Some devices answer nothing where others answer exception 2.
func TestUnitThatIsMuteAboutAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, 200*time.Millisecond, 1)
		line.units[1].mute = map[uint16]bool{41: true}
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := []fakePoint{{3, 0}, {3, 40}, {3, 41}, {3, 42}, {4, 7}, {4, 300}}
		dev := open(t, d, rtuFile(1, 200*time.Millisecond, points))
		seen := map[string]int{}
		c := &checker{t: t, unit: 1}
		for range 600 {
			readings, err := dev.Read(t.Context(), names(points))
			if err == nil {
				c.see(points, readings)
			}
			for _, r := range readings {
				seen[r.Point]++
			}
			later(time.Second)
		}
		t.Logf("readings in 600 rounds: %v", seen)
		for _, p := range points {
			if n := seen[p.name()]; p.addr != 41 && n < 540 || p.addr == 41 && n > 0 {
				t.Errorf("%s was read %d times", p.name(), n)
			}
		}
	})
}

// The answer may take as long as its bytes need, however short the time-out.
func TestTimeoutCountsFromTheEndOfTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 50 * time.Millisecond
		line := newFakeLine(1, timeout, 1)
		line.char = time.Second * 11 / 300
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		points := fakePoints()[60:]
		dev := open(t, d, strings.Replace(rtuFile(1, timeout, points), "9600", "300", 1))
		want := map[string]string{}
		for _, p := range points {
			want[p.name()] = p.want(1)
		}
		wantRead(t, dev, want)
	})
}

func TestTCPConnectionThatIsDeadIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, time.Second)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		dev, err := d.Open(t.Context(), config(t, tcpFile(time.Second, fakePoints())))
		if err != nil {
			t.Fatal(err)
		}
		device.with(func(n *fakeNet) { n.frozen = 3 }) // the connection is half open
		for range 2 {                                  // two attempts, and the probe after the back-off
			if _, err := dev.Read(t.Context(), []string{"holding0"}); err == nil {
				t.Error("a dead connection reads")
			}
			later(31 * time.Second)
		}
		wantRead(t, dev, map[string]string{"holding0": fakePoint{3, 0}.want(1)})
		if device.dials != 2 {
			t.Errorf("%d connections, want 2", device.dials)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Who gives up while it waits does not keep the wire from those behind it.
func TestBusPassesWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2, 3)
		line.with(1, func(u *fakeUnit) { u.latency = 500 * time.Millisecond })
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		target := modbus.Target{Serial: modbus.SerialConfig{Port: "/dev/fake"}}
		first, second, third := dial(t, d, target), dial(t, d, target), dial(t, d, target)
		ask := func(ctx context.Context, c *modbus.Client, unit uint8) error {
			_, err := c.ReadRegisters(ctx, unit, modbus.ReadHoldingRegisters, 5, 1)
			return err
		}
		var all sync.WaitGroup
		all.Go(func() {
			if err := ask(t.Context(), first, 1); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, giveUp := context.WithCancel(t.Context())
		all.Go(func() {
			if err := ask(ctx, second, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if err := ask(t.Context(), third, 3); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		giveUp()
		all.Wait()
		if want := []uint8{1, 3}; !slices.Equal(line.order, want) {
			t.Errorf("units were asked in the order %v, want %v", line.order, want)
		}
	})
}

// Close waits for the exchange that is under way, and closes the port behind the last
// one: then the line may have other settings.
func TestBusIsClosedBehindTheLastExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.with(1, func(u *fakeUnit) { u.latency = 500 * time.Millisecond })
		opened, closed := 0, 0
		d := newDriver(t, modbus.Options{OpenSerial: func(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			opened++
			p, err := line.open(ctx, c)
			return &countedPort{Port: p, closed: &closed}, err
		}})
		for i, baud := range []int{9600, 19200} {
			c, err := d.Dial(modbus.Target{Serial: modbus.SerialConfig{Port: "/dev/fake", Baud: baud}})
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() {
				if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 5, 1); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if opened != i+1 || closed != opened {
				t.Errorf("after use %d the port was opened %d times and closed %d times", i+1, opened, closed)
			}
			all.Wait()
		}
	})
}

// countedPort counts how often it is closed.
type countedPort struct {
	modbus.Port
	closed *int
}

func (p *countedPort) Close() error {
	*p.closed++
	return p.Port.Close()
}

// panicPort panics like a serial library whose descriptor is too high.
type panicPort struct{ modbus.Port }

func (panicPort) Read([]byte) (int, error) { panic("index out of range") }

func TestBusSurvivesAPortThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		broken := true
		d := newDriver(t, modbus.Options{OpenSerial: func(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			p, err := line.open(ctx, c)
			if broken {
				return panicPort{p}, err
			}
			return p, err
		}})
		file := config(t, rtuFile(1, time.Second, fakePoints()))
		if _, err := d.Open(t.Context(), file); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("Open gives %v", err)
		}
		broken = false
		dev, err := d.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutSerialPorts(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, err := d.Open(t.Context(), config(t, rtuFile(1, time.Second, fakePoints())))
	want := `cannot open unit 1: device lost: cannot open port "/dev/fake": there are no serial ports here`
	if !errors.Is(err, drivers.ErrLost) || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestOpenSaysOnceThatThePortCannotBeOpened(t *testing.T) {
	d := newDriver(t, modbus.Options{OpenSerial: func(_ context.Context, c modbus.SerialConfig) (modbus.Port, error) {
		return nil, fmt.Errorf("cannot open port %q: it is in use", c.Port)
	}})
	_, err := d.Open(t.Context(), config(t, rtuFile(1, time.Second, fakePoints())))
	if want := `cannot open unit 1: device lost: cannot open port "/dev/fake": it is in use`; !errors.Is(err, drivers.ErrLost) || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}
