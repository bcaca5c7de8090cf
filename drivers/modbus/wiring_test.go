package modbus_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// What a file says of the port's lines reaches who opens the port.
func TestWiringOfALine(t *testing.T) {
	const point = "points:\n  x: {coil: 1}\n"
	rts := drivers.RS485{By: drivers.RS485RTS, RTSOnSend: drivers.Low, DelayBefore: time.Millisecond, DelayAfter: 2 * time.Millisecond, Receive: true}
	for _, c := range []struct {
		name, keys string
		want       drivers.Wiring
	}{
		{"nothing", "", drivers.Wiring{}},
		{"flow control", ", flow: rtscts, dtr: low", drivers.Wiring{Flow: drivers.FlowHardware, DTR: drivers.Low}},
		{"flow control by characters", ", mode: ascii, flow: xonxoff, rts: high", drivers.Wiring{Flow: drivers.FlowSoftware, RTS: drivers.High}},
		{"RS-485 by a word", ", rs485: kernel", drivers.Wiring{RS485: drivers.RS485{By: drivers.RS485Kernel}}},
		{"RS-485", ", rs485: {by: rts, rts_on_send: low, delay_before: 1ms, delay_after: 2ms, receive: true}", drivers.Wiring{RS485: rts}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []drivers.Wiring
			d := newDriver(t, modbus.Options{OpenSerial: func(_ context.Context, c modbus.SerialConfig) (modbus.Port, error) {
				got = append(got, c.Wiring)
				return nil, errors.New("not today")
			}})
			line := "serial: {port: /dev/fake" + c.keys + "}\n"
			for _, of := range []struct {
				driver drivers.Driver
				file   string
			}{
				{d, "driver: modbus\n" + line + point},
				{d.Simulator(), "driver: modbus-simulator\n" + line + point},
				{d.Server(), "driver: modbus-server\n" + line + "points:\n  x: {coil: 1, topic: a}\n"},
			} {
				if _, err := of.driver.Open(t.Context(), config(t, of.file)); err == nil {
					t.Error("want the error of the port")
				}
			}
			other := "serial: {port: /dev/other" + c.keys + "}\n" // a bus that was not tried yet
			gate := open(t, d.Gateway(), "driver: modbus-gateway\n"+other+"listen: {address: '127.0.0.1:0'}\n")
			client := dial(t, d, modbus.Target{TCP: "127.0.0.1:" + serverPort(gate)})
			if _, err := client.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1); err == nil {
				t.Error("want the error of the port")
			}
			want := []drivers.Wiring{c.want, c.want, c.want, c.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A time-out counts from the last character, which is later where the sender is given
// time.
func TestTimeoutBehindASwitchedSender(t *testing.T) {
	took := func(w drivers.Wiring) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			line := newFakeLine(1, time.Second, 1)
			target := fakeTarget(time.Second)
			target.Serial.Wiring = w
			c := dial(t, newDriver(t, modbus.Options{OpenSerial: line.open}), target)
			line.with(1, func(u *fakeUnit) { u.dead = true })
			start := time.Now()
			if _, err := c.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1); !errors.Is(err, modbus.ErrSilent) {
				t.Fatalf("want no answer, got %v", err)
			}
			d = time.Since(start)
		})
		return d
	}
	before := took(drivers.Wiring{})
	const delay = 80 * time.Millisecond
	if got := took(drivers.Wiring{RS485: drivers.RS485{By: drivers.RS485Kernel, DelayBefore: delay}}) - before; got != delay {
		t.Errorf("want %v more, got %v", delay, got)
	}
}
