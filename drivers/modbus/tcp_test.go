package modbus_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// tcpFile is the device file of a fake TCP device.
func tcpFile(timeout time.Duration, points []fakePoint) string {
	return strings.Replace(rtuFile(1, timeout, points), "serial: {port: /dev/fake, baud: 9600}", "tcp: 192.0.2.1:502", 1)
}

func TestTCPNeverGivesAnotherRegistersValue(t *testing.T) {
	const rounds = 300
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tortureTCP(t, seed, rounds)
			})
		})
	}
}

func tortureTCP(t *testing.T, seed uint64, rounds int) {
	const timeout = 200 * time.Millisecond
	device := newFakeNet(seed, timeout)
	defer device.ended.Wait()
	d := newDriver(t, modbus.Options{Dial: device.dial})
	points := fakePoints()
	file := tcpFile(timeout, points)
	dev, err := d.Open(t.Context(), config(t, file))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	c := &checker{t: t, unit: 1}
	for round := range rounds {
		device.setFaulty(round%5 != 4)
		due := some(rng, points)
		readings, err := dev.Read(t.Context(), names(due))
		complete := c.see(due, readings)
		if errors.Is(err, drivers.ErrLost) {
			if err := dev.Close(); err != nil {
				t.Fatal(err)
			}
			device.setFaulty(false)
			later(35 * time.Second)
			if dev, err = d.Open(t.Context(), config(t, file)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			c.reopens++
			continue
		}
		if round%5 == 4 && !complete {
			later(61 * time.Second) // a back-off from the round before, or a point left out
			readings, err = dev.Read(t.Context(), names(due))
			if err != nil || !c.see(due, readings) {
				t.Errorf("round %d: not in step again: %d of %d readings, %v", round, len(readings), len(due), err)
			}
		}
		later(time.Duration(rng.IntN(1500)) * time.Millisecond)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	total := 0
	for _, n := range device.counts {
		total += n
	}
	t.Logf("%d exchanges, %d connections, faults %v; readings: %d right, %d bad, %d none; %d reopened",
		total, device.dials, device.counts, c.good, c.bad, c.none, c.reopens)
	if c.good < rounds || total < rounds || c.bad > 0 {
		t.Errorf("%d right, %d bad, %d exchanges", c.good, c.bad, total)
	}
	later(time.Minute)
}

func TestTCPSurvivesAClosedIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, time.Second)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		dev, err := d.Open(t.Context(), config(t, `
driver: modbus
tcp: 192.0.2.1
points:
  speed: {holding: 5, writable: true}
`))
		if err != nil {
			t.Fatal(err)
		}
		device.with(func(n *fakeNet) { n.only, n.faulty = []tcpFault{tcpDuplicate}, true })
		want := map[string]string{"speed": fmt.Sprint(fakeValue(1, modbus.ReadHoldingRegisters, 5))}
		wantRead(t, dev, want)
		device.setFaulty(false)
		later(10 * time.Second)
		before := device.dials
		device.hangUp()
		later(10 * time.Second)
		if err := write(t, dev, "speed", "7"); err != nil {
			t.Errorf("writing after the device closed the connection: %v", err)
		}
		device.hangUp()
		later(100 * time.Millisecond)
		wantRead(t, dev, want)
		if device.dials != before+2 {
			t.Errorf("%d connections, want %d", device.dials, before+2)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTCPWriteIsNeverRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, time.Second)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		dev, err := d.Open(t.Context(), config(t, "driver: modbus\ntcp: 192.0.2.1\npoints:\n  speed: {holding: 5, writable: true}\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []tcpFault{tcpLost, tcpClosed, tcpTorn, tcpWrongTransaction, tcpWrongFunction} {
			device.with(func(n *fakeNet) { n.only, n.faulty, n.frozen = []tcpFault{f}, true, 0 })
			failed := false
			for range 10 {
				before := device.asked()
				err := write(t, dev, "speed", "7")
				failed = failed || err != nil
				if n := device.asked() - before; n > 1 {
					t.Errorf("fault %d: the device got the write %d times", f, n)
				}
				later(31 * time.Second)
			}
			if !failed {
				t.Errorf("fault %d: no write failed", f)
			}
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTCPOpenSaysThatNobodyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, time.Second)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		device.with(func(n *fakeNet) { n.refuse = 1 })
		file := config(t, tcpFile(time.Second, fakePoints()))
		if _, err := d.Open(t.Context(), file); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("a refused connection gives %v", err)
		}
		later(time.Second)
		device.with(func(n *fakeNet) { n.frozen = 10 })
		if _, err := d.Open(t.Context(), file); err == nil || errors.Is(err, drivers.ErrLost) {
			t.Errorf("a silent device gives %v", err)
		}
		device.with(func(n *fakeNet) { n.frozen = 0 })
		later(31 * time.Second)
		dev, err := d.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		if err := dev.Close(); err != nil {
			t.Errorf("a second Close gives %v", err)
		}
	})
}

// A second try comes too soon to connect again; its error says why.
func TestTCPReadSaysWhyItCannotConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, time.Second)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		dev, err := d.Open(t.Context(), config(t, tcpFile(time.Second, fakePoints())))
		if err != nil {
			t.Fatal(err)
		}
		device.with(func(n *fakeNet) { n.refuse = 1 })
		device.hangUp()
		later(10 * time.Second)
		_, err = dev.Read(t.Context(), []string{"holding0"})
		if !errors.Is(err, drivers.ErrLost) || !strings.Contains(err.Error(), `cannot connect to "192.0.2.1:502": connection refused`) {
			t.Errorf("%v", err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkReadTCP(b *testing.B) {
	d := newDriver(b, modbus.Options{})
	var registers, points strings.Builder
	names := make([]string, 0, 50)
	for i := range 50 {
		name := fmt.Sprintf("p%d", i)
		fmt.Fprintf(&registers, "  %s: {holding: %d, initial: %d}\n", name, i, i)
		fmt.Fprintf(&points, "  %s: {holding: %d, scale: 0.1}\n", name, i)
		names = append(names, name)
	}
	_, addr := simulator(b, d, registers.String())
	dev := open(b, d, "driver: modbus\ntcp: "+addr+"\npoints:\n"+points.String())
	b.ReportAllocs()
	for b.Loop() {
		if readings, err := dev.Read(b.Context(), names); err != nil || len(readings) != len(names) {
			b.Fatal(len(readings), err)
		}
	}
}
