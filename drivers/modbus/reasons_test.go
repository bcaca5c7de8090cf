package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// Why a device is offline is retained: it is said in the same words until something else
// is the reason, also while the unit or the port is not tried.
func TestReasonsStayTheSame(t *testing.T) {
	t.Run("of a unit that does not answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			line := newFakeLine(1, time.Second, 1)
			dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), rtuFile(1, time.Second, fakePoints()[:1]))
			line.with(1, func(u *fakeUnit) { u.dead = true })
			reasons := map[string]int{}
			for range 60 {
				_, err := dev.Read(t.Context(), names(fakePoints()[:1]))
				reasons[err.Error()]++
				later(3 * time.Second)
			}
			if len(reasons) != 1 {
				t.Errorf("want one reason, got %v", reasons)
			}
			if asked := line.asked(1); asked < 5 || asked > 30 {
				t.Errorf("want it left alone most of the time, got it asked %d times", asked)
			}
		})
	})
	t.Run("of a unit whose time-out was learnt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			line := newFakeLine(1, time.Second, 1)
			dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), rtuFile(1, time.Second, fakePoints()[:1]))
			for range 20 {
				wantRead(t, dev, map[string]string{fakePoints()[0].name(): fakePoints()[0].want(1)})
			}
			line.with(1, func(u *fakeUnit) { u.dead = true })
			reasons := map[string]int{}
			for range 60 {
				_, err := dev.Read(t.Context(), names(fakePoints()[:1]))
				reasons[err.Error()]++
				later(3 * time.Second)
			}
			if got := slices.Collect(maps.Keys(reasons)); !slices.Equal(got, []string{"no answer within 1s"}) {
				t.Errorf("want one reason, got %q", got)
			}
		})
	})
	t.Run("of devices whose address accepts and never answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var ends sync.WaitGroup
			defer ends.Wait()
			d := newDriver(t, modbus.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				ends.Go(func() { _, _ = io.Copy(io.Discard, far) })
				return near, nil
			}})
			c := dial(t, d, modbus.Target{TCP: "plc"}) // has the connection open in between
			reasons := map[string]int{}
			for i := range 60 {
				file := strings.Replace(tcpFile(time.Second, fakePoints()[:1]), "unit: 1", fmt.Sprintf("unit: %d", 1+i%3), 1)
				_, err := d.Open(t.Context(), config(t, file))
				reasons[strings.TrimPrefix(err.Error(), fmt.Sprintf("cannot open unit %d: ", 1+i%3))]++
				if _, err := c.ReadRegisters(t.Context(), 4, modbus.ReadHoldingRegisters, 0, 1); i%5 == 0 {
					reasons[err.Error()]++
				}
				later(3 * time.Second)
			}
			if got := slices.Collect(maps.Keys(reasons)); !slices.Equal(got, []string{"no answer within 1s"}) {
				t.Errorf("want one reason, got %q", got)
			}
		})
	})
	t.Run("of a unit that a gateway does not reach", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			device := newFakeNet(1, time.Second)
			defer device.ended.Wait()
			d := newDriver(t, modbus.Options{Dial: device.dial})
			dev, err := d.Open(t.Context(), config(t, tcpFile(time.Second, fakePoints()[:1])))
			if err != nil {
				t.Fatal(err)
			}
			reasons, before := map[string]int{}, device.asked()
			for range 60 {
				device.with(func(n *fakeNet) { n.once = tcpAway })
				_, err := dev.Read(t.Context(), names(fakePoints()[:1]))
				reasons[err.Error()]++
				later(3 * time.Second)
			}
			if len(reasons) != 1 {
				t.Errorf("want one reason, got %v", reasons)
			}
			if asked := device.asked() - before; asked < 5 || asked > 30 {
				t.Errorf("want it left alone most of the time, got it asked %d times", asked)
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("of a port that cannot be opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
				tries++
				return nil, errors.New("it is in use")
			}})
			reasons := map[string]int{}
			for range 100 {
				_, err := d.Open(t.Context(), config(t, rtuFile(1, time.Second, fakePoints())))
				reasons[err.Error()]++
				later(100 * time.Millisecond)
			}
			if got := slices.Collect(maps.Keys(reasons)); !slices.Equal(got, []string{"cannot open unit 1: device lost: it is in use"}) {
				t.Errorf("want one reason, got %q", got)
			}
			if tries < 4 || tries > 10 {
				t.Errorf("want it tried seldom, got %d times in 10 s", tries)
			}
		})
	})
}

// A port that is not there is looked for with each request: it may have been plugged in.
func TestPortThatIsNotThereIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, there := newFakeLine(1, time.Second, 1), false
		d := newDriver(t, modbus.Options{OpenSerial: func(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			if !there {
				return nil, fmt.Errorf("cannot open port %q: %w", c.Port, fs.ErrNotExist)
			}
			return line.open(ctx, c)
		}})
		c := dial(t, d, fakeTarget(time.Second))
		for range 5 {
			if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1); !errors.Is(err, drivers.ErrLost) || !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("want no port, got %v", err)
			}
		}
		there = true
		if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1); errors.Is(err, drivers.ErrLost) {
			t.Errorf("want the port opened at once, got %v", err)
		}
	})
}

// What is missing for a connection, such as a certificate, is no port: the device's
// address is not called with each request.
func TestAddressIsNotCalledForWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		d := newDriver(t, modbus.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			calls++
			return nil, fmt.Errorf("cannot use the certificate: %w", fs.ErrNotExist)
		}})
		c := dial(t, d, modbus.Target{TCP: "plc"})
		for range 5 {
			if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1); !errors.Is(err, drivers.ErrLost) {
				t.Fatalf("want no connection, got %v", err)
			}
		}
		if calls != 1 {
			t.Errorf("want one call within 250 ms, got %d", calls)
		}
	})
}

// Who insists has a unit asked once that is left alone, which is not left alone for longer
// because of that.
func TestInsistOnAUnitThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := func(insist bool) time.Duration {
			line := newFakeLine(1, time.Second, 1)
			dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), rtuFile(1, time.Second, fakePoints()[:1]))
			line.with(1, func(u *fakeUnit) { u.dead = true })
			read := func() (asked int) {
				before := line.asked(1)
				if _, err := dev.Read(t.Context(), names(fakePoints()[:1])); err == nil {
					t.Error("a dead unit answers")
				}
				return line.asked(1) - before
			}
			next := func() {
				for read() == 0 {
					later(100 * time.Millisecond)
				}
			}
			for range 6 { // tries, of which the pause behind the last is long
				next()
			}
			start := time.Now()
			if insist {
				dev.(drivers.Insister).Insist()
				if first, second := read(), read(); first != 1 || second != 0 {
					t.Errorf("want it asked once, got %d and %d times", first, second)
				}
			}
			next()
			return time.Since(start)
		}
		if left, insisted := back(false), back(true); left < 5*time.Second || insisted > left+2*time.Second {
			t.Errorf("it is asked again after %v, and after %v where somebody insisted", left, insisted)
		}
	})
}

// Who insists and goes away before the unit is asked has not had the next one ask it.
func TestInsistEndsWithWhoInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, rtuFile(1, time.Second, fakePoints()[:1]))
		line.with(1, func(u *fakeUnit) { u.dead = true })
		read := func(ctx context.Context) (asked int) {
			before := line.asked(1)
			if _, err := dev.Read(ctx, names(fakePoints()[:1])); err == nil {
				t.Error("a dead unit answers")
			}
			return line.asked(1) - before
		}
		for read(t.Context()) > 0 { // until it is left alone
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		dev.(drivers.Insister).Insist()
		if first, second := read(gone), read(t.Context()); first != 0 || second != 0 {
			t.Errorf("want it asked by nobody, got %d and %d times", first, second)
		}
	})
}

// A unit that could not be opened is left alone, too, but not when somebody asks for it.
func TestOpenForOneWhoInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.with(1, func(u *fakeUnit) { u.dead = true })
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		cfg := config(t, rtuFile(1, time.Second, fakePoints()[:1]))
		open := func(insist bool) (asked int) {
			before := line.asked(1)
			cfg.Insist = insist
			if _, err := d.Open(t.Context(), cfg); err == nil {
				t.Fatal("a dead unit is opened")
			}
			return line.asked(1) - before
		}
		_ = open(false)
		if n := open(false); n != 0 {
			t.Errorf("want the unit left alone, got it asked %d times", n)
		}
		if n := open(true); n == 0 {
			t.Error("want it asked")
		}
	})
}
