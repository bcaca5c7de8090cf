package modbus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// A unit that knows function 22, and one that does not: a gateway that passes on only
// the functions that every unit knows.
func TestWritingAPartOfARegister(t *testing.T) {
	for name, functions := range map[string]string{"with function 22": "[1..127]", "without it": "[1..6, 15, 16]"} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, modbus.Options{})
			sim, addr := simulator(t, d, "  word: {holding: 7, writable: true, initial: 61680}\n  long: {holding: 8, type: uint32, writable: true, initial: 4026531840}\n")
			gate := open(t, d.Gateway(), "driver: modbus-gateway\nlisten: {address: 127.0.0.1:0}\ntcp: "+addr+"\nfunctions: "+functions+"\n")
			dev := open(t, d, fmt.Sprintf("driver: modbus\ntcp: 127.0.0.1:%s\npoints:\n"+
				"  run: {holding: 7, bit: 3, writable: true}\n  mode: {holding: 7, bits: 4..7, writable: true}\n"+
				"  some: {holding: 8, type: uint32, bits: 8..19, writable: true}\n", serverPort(gate)))
			for _, w := range []struct{ point, value, word, long string }{
				{"run", "true", "61688", "4026531840"},  // F0F8
				{"mode", "5", "61528", "4026531840"},    // F058
				{"run", "false", "61520", "4026531840"}, // F050
				{"some", "2571", "61520", "4027190016"}, // F00A0B00
				{"mode", "15", "61680", "4027190016"},   // F0F0
			} {
				if err := write(t, dev, w.point, w.value); err != nil {
					t.Error(err)
				}
				wantRead(t, dev, map[string]string{w.point: w.value})
				wantRead(t, sim, map[string]string{"word": w.word, "long": w.long})
			}
		})
	}
}

// What the fake unit holds no write changes: that is noticed.
func TestWritingAPartOfARegisterIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].several = true
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, "driver: modbus\nserial: {port: /dev/fake}\npoints:\n  x: {holding: 4, bits: 0..3, writable: true}\n")
		value := fakeValue(1, modbus.ReadHoldingRegisters, 4)
		for range 2 {
			err := write(t, dev, "x", fmt.Sprint(value&15^1))
			if want := fmt.Sprintf("the unit took the write, but holds %02x %02x", value>>8, value&255); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if want := []modbus.Function{22, 6, 16, 16}; !slices.Equal(line.units[1].written, want) {
			t.Errorf("functions %v, want %v", line.units[1].written, want)
		}
	})
}

// disturbed is a line of one unit that does as it is told, on which noise was heard a while
// ago.
func disturbed(t *testing.T, several bool) (*fakeLine, *modbus.Driver, drivers.Device) {
	line := newFakeLine(1, 300*time.Millisecond, 1)
	line.with(1, func(u *fakeUnit) { u.memory, u.several = newMemory(), several })
	d := newDriver(t, modbus.Options{OpenSerial: line.open})
	dev := open(t, d, "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\ntimeout: 300ms\npoints:\n"+
		"  speed: {holding: 200, writable: true}\n  low: {holding: 220, bits: 0..7, writable: true}\n  high: {holding: 220, bits: 8..15, writable: true}\n")
	line.strike(faultNoiseBefore)
	read(t, dev, "speed")
	later(2 * time.Second)
	return line, d, dev
}

// strike makes a fault of the next exchange.
func (l *fakeLine) strike(f fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.once = f
}

// The answer to a write that comes twice is not that of the same write later, which got
// lost: another one was done between the two.
func TestSecondAnswerToAWriteIsNotThatOfTheSameWriteLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, _, dev := disturbed(t, false)
		for _, value := range []string{"7", "8"} {
			if err := write(t, dev, "speed", value); err != nil {
				t.Fatal(err)
			}
		}
		line.strike(faultUnheard)
		line.port.deliver(150*time.Millisecond, modbus.AppendCRC([]byte{1, 6, 0, 200, 0, 7}))
		if err := write(t, dev, "speed", "7"); !errors.Is(err, drivers.ErrUncertain) {
			t.Errorf("%v, and the unit did not hear it", err)
		}
	})
}

// What is read to be written back is not what the register held a while ago.
func TestWritingAPartOfARegisterTrustsNoStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, _, dev := disturbed(t, true)
		for _, point := range []string{"low", "high"} { // finds out what the unit knows
			if err := write(t, dev, point, "5"); err != nil {
				t.Fatal(err)
			}
		}
		line.strike(faultUnheard)
		line.port.deliver(100*time.Millisecond, modbus.AppendCRC([]byte{1, 3, 2, 0, 5}))
		err := write(t, dev, "low", "6")
		line.with(1, func(u *fakeUnit) {
			if held, _ := u.memory.get(modbus.ReadHoldingRegisters, 220); held != 0x0505 || err == nil {
				t.Errorf("%v, and the register holds %#x", err, held)
			}
		})
	})
}

// A unit that acknowledges a write with exception 5 does it; a gateway tells its clients
// what a write without an answer is.
func TestWriteThatIsAcknowledgedIsUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, d, dev := disturbed(t, false)
		answer := fakeGateway(t, d, "timeout: 300ms\n")
		for _, code := range []modbus.Code{modbus.Acknowledge, modbus.DeviceBusy} {
			line.with(1, func(u *fakeUnit) { u.memory.refuse = code })
			err := write(t, dev, "speed", "7")
			if got := errors.Is(err, drivers.ErrUncertain); got != (code == modbus.Acknowledge) {
				t.Errorf("%v: uncertain %v", err, got)
			}
			later(2 * time.Second)
			if got := answer(1, []byte{6, 0, 200, 0, 9}); !slices.Equal(got, []byte{0x86, byte(code)}) {
				t.Errorf("% x, want %v", got, code)
			}
			later(2 * time.Second)
		}
		line.with(1, func(u *fakeUnit) { u.memory.refuse = 0 })
		line.strike(faultClosed)
		if got := answer(1, []byte{6, 0, 200, 0, 9}); !slices.Equal(got, []byte{0x86, byte(modbus.GatewayNoResponse)}) {
			t.Errorf("% x, and the line broke when the write was sent", got)
		}
	})
}

// A write that nobody answers may have been done; one that is refused, or was never sent,
// has not.
func TestWriteWithoutAnAnswerIsUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, fmt.Sprintf(echoFile, 1))
		open(t, d, fmt.Sprintf(echoFile, 2))
		line.with(1, func(u *fakeUnit) { u.dead = true })
		if err := write(t, dev, "speed", "7"); !errors.Is(err, drivers.ErrUncertain) {
			t.Errorf("nobody answered: %v", err)
		}
		later(time.Minute)
		line.with(1, func(u *fakeUnit) { u.dead = false })
		later(time.Minute)
		if err := write(t, dev, "speed", "70000"); err == nil || errors.Is(err, drivers.ErrUncertain) {
			t.Errorf("it was not sent: %v", err)
		}
	})
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  other: {holding: 7}\n")
	dev := open(t, d, "driver: modbus\ntcp: "+addr+"\npoints: {speed: {holding: 5, writable: true}}\n")
	var refusal modbus.Exception
	if err := write(t, dev, "speed", "7"); !errors.As(err, &refusal) || errors.Is(err, drivers.ErrUncertain) {
		t.Errorf("it was refused: %v", err)
	}
}
