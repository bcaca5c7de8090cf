package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// fakeTarget is the line of a fake unit.
func fakeTarget(timeout time.Duration) modbus.Target {
	return modbus.Target{Serial: modbus.SerialConfig{Port: "/dev/fake", Baud: 9600}, Timeout: timeout}
}

func dial(t testing.TB, d *modbus.Driver, target modbus.Target) *modbus.Client {
	t.Helper()
	c, err := d.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A client's requests all have the same length, and a device's blocks may have it, too.
func TestClientNeverGivesAnotherRegistersValue(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const timeout = 300 * time.Millisecond
				line := newFakeLine(seed, timeout, 1)
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				client := dial(t, d, fakeTarget(timeout))
				points := fakePoints()[40:60]
				dev := open(t, d, rtuFile(1, timeout, points))
				line.setFaulty(true)
				c, right := &checker{t: t, unit: 1}, 0
				var all sync.WaitGroup
				done := make(chan struct{})
				all.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						readings, err := dev.Read(context.Background(), names(points))
						c.see(points, readings)
						if err != nil {
							later(time.Second)
						}
						later(50 * time.Millisecond)
					}
				})
				rng := rand.New(rand.NewPCG(seed, 3))
				for range 400 {
					addr, fn := uint16(rng.IntN(1000)), modbus.ReadHoldingRegisters+modbus.Function(rng.IntN(2))
					got, err := client.ReadRegisters(t.Context(), 1, fn, addr, 2)
					if errors.Is(err, drivers.ErrLost) {
						later(10 * time.Second)
					}
					for i, v := range got {
						right++
						if v != fakeValue(1, fn, addr+uint16(i)) {
							t.Errorf("WRONG VALUE: %d of function %d is %d", addr+uint16(i), fn, v)
						}
					}
				}
				close(done)
				all.Wait()
				t.Logf("%d right, of the device %d; faults %v", right, c.good, line.faults())
				if right < 300 || c.good < 100 {
					t.Errorf("the test saw too little: %d and %d", right, c.good)
				}
				later(time.Minute)
			})
		})
	}
}

func TestClientAsksADeadUnitAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].dead = true
		c := dial(t, newDriver(t, modbus.Options{OpenSerial: line.open}), fakeTarget(time.Second))
		for range 5 {
			if _, err := c.ReadRegisters(t.Context(), 1, 3, 0, 1); !errors.Is(err, modbus.ErrSilent) {
				t.Errorf("%v", err)
			}
		}
		if n := line.asked(1); n != 5 {
			t.Errorf("it was asked %d times", n)
		}
		line.with(1, func(u *fakeUnit) { u.dead = false })
		if got, err := c.ReadRegisters(t.Context(), 1, 3, 7, 1); err != nil || got[0] != fakeValue(1, 3, 7) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestClientBroadcasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		c := dial(t, newDriver(t, modbus.Options{OpenSerial: line.open}), fakeTarget(time.Second))
		start := time.Now()
		if err := c.WriteRegister(t.Context(), 0, 3, 9); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 150*time.Millisecond || took > 200*time.Millisecond {
			t.Errorf("the units had %v", took)
		}
	})
}

func TestClientRefusesWhatCannotBeAsked(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	ctx := t.Context()
	tcp := dial(t, d, modbus.Target{TCP: "127.0.0.1:1"})
	line := dial(t, d, fakeTarget(time.Second))
	second := func(_ any, err error) error { return err }
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"no registers", second(tcp.ReadRegisters(ctx, 1, 3, 0, 0)), "it is none, or more than one request holds"},
		{"too many registers", second(tcp.ReadRegisters(ctx, 1, 3, 0, 126)), "more than one request holds"},
		{"too many bits", second(tcp.ReadBits(ctx, 1, 1, 0, 2001)), "more than one request holds"},
		{"beyond the end", second(tcp.ReadRegisters(ctx, 1, 3, 65535, 2)), "the last address is 65535"},
		{"bits of registers", second(tcp.ReadBits(ctx, 1, 3, 0, 1)), "reads no bits"},
		{"registers of bits", second(tcp.ReadRegisters(ctx, 1, 1, 0, 1)), "reads no registers"},
		{"registers of a write", second(tcp.ReadRegisters(ctx, 1, 6, 0, 1)), "reads no registers"},
		{"write too many registers", tcp.WriteRegisters(ctx, 1, 0, make([]uint16, 124)), "one request holds 123"},
		{"write no registers", tcp.WriteRegisters(ctx, 1, 0, nil), "more than one request holds"},
		{"write too many coils", tcp.WriteCoils(ctx, 1, 0, make([]bool, 1969)), "one request holds 1968"},
		{"read and write too many", second(tcp.ReadWrite(ctx, 1, 0, 1, 0, make([]uint16, 122))), "holds 121"},
		{"no PDU", second(tcp.Do(ctx, 1, nil)), "a PDU has 1 to 253 bytes, not 0"},
		{"a long PDU", second(tcp.Do(ctx, 1, make([]byte, 254))), "not 254"},
		{"an exception's code", second(tcp.Do(ctx, 1, []byte{0x83, 1})), "a function code is 1 to 127, not 131"},
		{"a unit beyond", second(line.ReadRegisters(ctx, 248, 3, 0, 1)), "on a line units are 1 to 247"},
		{"read from all", second(line.ReadRegisters(ctx, 0, 3, 0, 1)), "which only take what is written"},
		{"two targets", second(d.Dial(modbus.Target{TCP: "a", RTUTCP: "b"})), "exactly one of"},
		{"no target", second(d.Dial(modbus.Target{})), "exactly one of"},
		{"a bad target", second(d.Dial(modbus.Target{ASCIITCP: "a:b"})), "is not a host and a port"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, c.err, c.want)
		}
	}
}

func TestLineManners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		file := "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\nsilence: 50ms\nunit: %d\n%spoints:\n  x: {holding: 5}\n"
		one := open(t, d, fmt.Sprintf(file, 1, "delay: 2s\n"))
		two := open(t, d, fmt.Sprintf(file, 2, ""))
		start := time.Now()
		for range 5 {
			read(t, two, "x")
		}
		if took := time.Since(start); took < 250*time.Millisecond || took > time.Second {
			t.Errorf("five silences of 50 ms took %v", took)
		}
		read(t, one, "x")
		start = time.Now()
		read(t, one, "x")
		if took := time.Since(start); took < 2*time.Second || took > 2200*time.Millisecond {
			t.Errorf("a delay of 2 s took %v", took)
		}
	})
}

// A line that is known to repeat needs no read to find out: the first request may be a
// write to a unit that is not there.
func TestLineThatIsSaidToEcho(t *testing.T) {
	for _, echoes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			line := newFakeLine(1, time.Second, 1)
			line.echo = []byte{}
			d := newDriver(t, modbus.Options{OpenSerial: line.open})
			dev := open(t, d, fmt.Sprintf("driver: modbus\nserial: {port: /dev/fake}\necho: %v\npoints:\n  speed: {holding: 5, writable: true}\n", echoes))
			line.with(1, func(u *fakeUnit) { u.dead = true })
			if err := write(t, dev, "speed", "7"); (err != nil) != echoes {
				t.Errorf("echo: %v, and a dead unit gives %v", echoes, err)
			}
		})
	}
}
