package modbus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// charPort is a port on a line where each character comes in its time, and counts how
// often somebody is woken. Virtual time is exact. One goroutine uses it.
type charPort struct {
	char, latency time.Duration
	refuses       bool

	timeout time.Duration
	coming  []byte
	from    time.Time // when the first of them begins
	wakes   int
}

func (p *charPort) Write(b []byte) (int, error) {
	count := binary.BigEndian.Uint16(b[4:])
	answer := append([]byte{b[0], b[1], byte(2 * count)}, make([]byte, 2*count)...)
	if p.refuses {
		answer = []byte{b[0], b[1] | 0x80, byte(modbus.DeviceFailure)}
	}
	p.coming = modbus.AppendCRC(answer)
	p.from = time.Now().Add(time.Duration(len(b))*p.char + p.latency)
	return len(b), nil
}

// here is how many characters came.
func (p *charPort) here() int {
	return max(0, min(len(p.coming), int(time.Since(p.from)/p.char)))
}

func (p *charPort) Read(b []byte) (int, error) {
	if p.here() == 0 && p.timeout > 0 {
		wait := p.timeout
		if len(p.coming) > 0 {
			wait = min(wait, time.Until(p.from.Add(p.char)))
		}
		p.wakes++
		later(wait)
	}
	n := copy(b, p.coming[:p.here()])
	p.coming, p.from = p.coming[n:], p.from.Add(time.Duration(n)*p.char)
	return n, nil
}

func (p *charPort) Sleep(ctx context.Context, d time.Duration) error {
	p.wakes++
	later(d)
	return ctx.Err()
}

func (p *charPort) SetReadTimeout(d time.Duration) error { p.timeout = d; return nil }
func (p *charPort) ResetInput() error                    { return nil }
func (p *charPort) Close() error                         { return nil }

// A read costs no more than it must: nobody is woken for each character. What a unit
// that refuses has to say is short, and only the first time it is waited for as if it were not.
func TestRTUHowOftenAReadWakes(t *testing.T) {
	const char = time.Second * 11 / 9600
	const silence, request = char * 7 / 2, 8 * char
	for _, c := range []struct {
		name      string
		latency   time.Duration
		registers uint16
		refuses   bool
		wakes     int // with that for the silence before the request
		took      time.Duration
	}{
		{name: "100 registers", registers: 100, wakes: 2, took: silence + request + 205*char},
		{name: "100 registers of a unit that takes a while", registers: 100, latency: 2 * char, wakes: 3, took: silence + request + 207*char},
		{name: "10 registers", registers: 10, wakes: 2, took: silence + request + 25*char},
		{name: "a refusal", registers: 100, latency: 2 * char, refuses: true, wakes: 3, took: silence + request + 7*char},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				port := &charPort{char: char, latency: c.latency, refuses: c.refuses}
				d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) { return port, nil }})
				client := dial(t, d, fakeTarget(time.Second))
				for try := range 2 { // the first refusal is not expected
					began := time.Now()
					port.wakes = 0
					_, err := client.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, c.registers)
					var refusal modbus.Exception
					if errors.As(err, &refusal) != c.refuses || err != nil && !c.refuses {
						t.Fatal(err)
					}
					if took := time.Since(began); try == 1 && (port.wakes > c.wakes || took > c.took+char/2) {
						t.Errorf("it took %v and woke %d times, want %v and %d", took, port.wakes, c.took, c.wakes)
					}
				}
			})
		})
	}
}
