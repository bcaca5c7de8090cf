package modbus_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// counted is what a device counted meanwhile, but for what stayed the same.
func counted(dev drivers.Device, meanwhile func()) map[string]uint64 {
	m := dev.(drivers.Metered)
	before := m.Metrics().Counters
	meanwhile()
	after := m.Metrics().Counters
	for name, n := range after {
		if after[name] = n - before[name]; after[name] == 0 {
			delete(after, name)
		}
	}
	return after
}

func TestCountersOfADevice(t *testing.T) {
	const timeout = 500 * time.Millisecond
	const file = "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\ntimeout: 500ms\npoints:\n  speed: {holding: 5, writable: true}\n  odd: {holding: 1200}\n"
	for _, c := range []struct {
		name  string
		fault fault
		reads int
		want  map[string]uint64
	}{
		{"an answer", faultNone, 1, map[string]uint64{"requests": 1, "answers": 1, "sent_bytes": 8}},
		{"silence", faultUnheard, 1, map[string]uint64{"requests": 2, "answers": 1, "timeouts": 1, "retries": 1, "sent_bytes": 16}},
		{"a wrong checksum", faultCRC, 1, map[string]uint64{"requests": 2, "answers": 1, "garbled": 1, "crc_errors": 1, "retries": 1, "sent_bytes": 16}},
		{"the answer of another unit", faultForeignFirst, 1, map[string]uint64{"requests": 1, "answers": 1, "strays": 1, "sent_bytes": 8}},
		{"noise before the answer", faultNoiseBefore, 1, map[string]uint64{"requests": 1, "answers": 1, "crc_errors": 1, "sent_bytes": 8}},
		{"an answer that comes twice", faultDuplicate, 2, map[string]uint64{"requests": 2, "answers": 2, "strays": 1, "sent_bytes": 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, timeout, 1)
				dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), file)
				got := counted(dev, func() {
					if c.fault != faultNone {
						line.strike(c.fault)
					}
					for range c.reads {
						if _, err := dev.Read(t.Context(), []string{"speed"}); err != nil {
							t.Error(err)
						}
						later(3 * timeout)
					}
				})
				if got["received_bytes"] < 7 { // more, as far as a block is made longer, and by the fault
					t.Errorf("want the bytes that came, got %d", got["received_bytes"])
				}
				delete(got, "received_bytes")
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestCountersOfExceptionsAndLatency(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  here: {holding: 0, initial: 7}\n")
	dev := open(t, d, "driver: modbus\ntcp: "+addr+"\npoints:\n  here: {holding: 0}\n  missing: {holding: 9}\n")
	got := counted(dev, func() {
		for range 3 {
			if _, err := dev.Read(t.Context(), []string{"here", "missing"}); err != nil {
				t.Error(err)
			}
		}
	})
	if got["exception_2"] < 3 || got["requests"] != got["answers"] || got["answers"] < 6 || got["timeouts"] != 0 {
		t.Errorf("want exceptions, which are answers, got %v", got)
	}
	m := dev.(drivers.Metered).Metrics()
	if m.Exchanges.Count != m.Counters["answers"] || m.Exchanges.Sum <= 0 {
		t.Errorf("want the latency of each of %d answers, got %d of %v", m.Counters["answers"], m.Exchanges.Count, m.Exchanges.Sum)
	}
}

// A gateway counts what its clients ask, a server what it answers.
func TestCountersOfServers(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  here: {holding: 0, initial: 7}\n")
	gate := open(t, d.Gateway(), "driver: modbus-gateway\ntcp: "+addr+"\nlisten: {address: '127.0.0.1:0'}\n")
	shop := open(t, d.Server(), "driver: modbus-server\nlisten: {address: '127.0.0.1:0'}\npoints:\n  x: {holding: 0, topic: a}\n")
	for _, c := range []struct {
		dev  drivers.Device
		want map[string]uint64
	}{
		{gate, map[string]uint64{"requests": 2, "answers": 2, "exception_2": 1, "sent_bytes": 24, "received_bytes": 20}},
		{shop, map[string]uint64{"requests": 2, "answers": 2, "exception_2": 1, "exception_4": 1}},
	} {
		client := dial(t, d, modbus.Target{TCP: "127.0.0.1:" + serverPort(c.dev)})
		got := counted(c.dev, func() {
			_, _ = client.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 0, 1) // what comes is counted
			_, _ = client.ReadRegisters(t.Context(), 1, modbus.ReadHoldingRegisters, 9, 1)
		})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// An answer to an earlier request is counted, and passed over.
func TestCountersOfStrayAnswersOverTCP(t *testing.T) {
	near, far := net.Pipe()
	d := newDriver(t, modbus.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
	served := make(chan error, 1)
	go func() {
		defer func() { _ = far.Close() }()
		for n := range 2 {
			b := make([]byte, 12)
			if _, err := far.Read(b); err != nil {
				served <- err
				return
			}
			answer := append(b[:5:5], 5, b[6], b[7], 2, 0, 7)
			if n == 1 {
				stale := append([]byte{b[0] ^ 0xFF}, answer[1:]...)
				answer = append(stale, answer...)
			}
			if _, err := far.Write(answer); err != nil {
				served <- err
				return
			}
		}
		served <- nil
	}()
	dev := open(t, d, "driver: modbus\ntcp: plc\npoints:\n  x: {holding: 0}\n")
	got := counted(dev, func() { wantRead(t, dev, map[string]string{"x": "7"}) })
	want := map[string]uint64{"requests": 1, "answers": 1, "strays": 1, "sent_bytes": 12, "received_bytes": 22}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
