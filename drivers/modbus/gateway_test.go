package modbus_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

const gatewayFile = "driver: modbus-gateway\nlisten: {address: 127.0.0.1:0}\nserial: {port: /dev/fake, baud: 9600}\n"

// fakeGateway is a gateway to a fake line that listens nowhere.
func fakeGateway(t *testing.T, d *modbus.Driver, more string) func(unit uint8, pdu []byte) []byte {
	t.Helper()
	answer, done, err := modbus.GatewayAnswer(d, config(t, gatewayFile+more))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return answer
}

// Clients choose the lengths, and all choose the same, while a device is polled.
func TestGatewayNeverGivesAnotherRegistersValue(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const timeout = 300 * time.Millisecond
				line := newFakeLine(seed, timeout, 1)
				line.percent = 12
				// A second answer to the same request, with nothing odd before it, is what
				// nothing could tell from the answer to the next.
				for f := range faultCount {
					if !slices.Contains([]fault{faultNone, faultDuplicate, faultStaleFirst, faultClosed}, f) {
						line.only = append(line.only, f)
					}
				}
				d := newDriver(t, modbus.Options{OpenSerial: line.open})
				answer := fakeGateway(t, d, "timeout: 300ms\n")
				points := fakePoints()[40:60]
				dev := open(t, d, rtuFile(1, timeout, points))
				line.setFaulty(true)
				stop := make(chan struct{})
				var clients, poller sync.WaitGroup
				poller.Go(func() {
					c := &checker{t: t, unit: 1}
					for {
						select {
						case <-stop:
							return
						default:
						}
						readings, _ := dev.Read(context.Background(), names(points)) // none is allowed
						c.see(points, readings)
						later(100 * time.Millisecond)
					}
				})
				var right, none [3]int
				for i := range right {
					clients.Go(func() {
						rng := rand.New(rand.NewPCG(seed, uint64(i)))
						for range 150 {
							addr := uint16(rng.IntN(1000))
							pdu := answer(1, []byte{3, byte(addr >> 8), byte(addr), 0, 2})
							switch {
							case slices.Equal(pdu, []byte{0x83, 11}):
								none[i]++
								later(time.Second)
							case len(pdu) == 6 && binary.BigEndian.Uint16(pdu[2:]) == fakeValue(1, 3, addr):
								right[i]++
							default:
								t.Errorf("WRONG ANSWER to %d: % x", addr, pdu)
							}
						}
					})
				}
				clients.Wait()
				close(stop)
				poller.Wait()
				t.Logf("right %v, none %v, faults %v", right, none, line.faults())
				if right[0]+right[1]+right[2] < 50 || none[0] == 0 {
					t.Error("the test saw too little")
				}
				later(time.Minute)
			})
		})
	}
}

func TestGatewayRefusesWhatIsNotAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1, 2, 7)
		line.units[2].dead = true
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		all := fakeGateway(t, d, "")
		some := fakeGateway(t, d, "units: [1, 5..8]\nfunctions: [1, 3..6]\n")
		reader := fakeGateway(t, d, "read_only: true\n")
		value := fmt.Sprintf("03 02 %04X", fakeValue(1, 3, 4))
		for _, c := range []struct {
			name    string
			answer  func(uint8, []byte) []byte
			unit    uint8
			request string
			want    string
		}{
			{"a read", all, 1, "03 00 04 00 01", value},
			{"an exception of the unit", all, 1, "03 0F FF 00 01", "83 02"},
			{"a write", all, 1, "06 00 04 00 09", "06 00 04 00 09"},
			{"a dead unit", all, 2, "03 00 04 00 01", "83 0B"},
			{"a unit beyond", all, 248, "03 00 04 00 01", "83 0A"},
			{"a read that is none", all, 1, "03 00 04 00 00", "83 03"},
			{"a broadcast", all, 0, "06 00 04 00 09", ""},
			{"a read from all", all, 0, "03 00 04 00 01", "83 03"},
			{"a function that is none", all, 1, "80 00", "80 01"},
			{"an allowed unit", some, 7, "03 00 04 00 01", fmt.Sprintf("03 02 %04X", fakeValue(7, 3, 4))},
			{"another", some, 2, "03 00 04 00 01", "83 0A"},
			{"an allowed function", some, 1, "06 00 04 00 09", "06 00 04 00 09"},
			{"another function", some, 1, "10 00 04 00 01 02 00 09", "90 01"},
			{"a read for readers", reader, 1, "03 00 04 00 01", value},
			{"a write of readers", reader, 1, "06 00 04 00 09", "86 01"},
			{"a mask write of readers", reader, 1, "16 00 04 00 09 00 00", "96 01"},
			{"an unknown function of readers", reader, 1, "64 00", "E4 01"},
		} {
			want := strings.ToUpper(fmt.Sprintf("%x", unhex(t, c.want)))
			if got := fmt.Sprintf("%X", c.answer(c.unit, unhex(t, c.request))); got != want {
				t.Errorf("%s: %s, want %s", c.name, got, want)
			}
		}
	})
}

func TestGatewayWithoutItsLine(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	if got := fakeGateway(t, d, "")(1, []byte{3, 0, 0, 0, 1}); !slices.Equal(got, []byte{0x83, 10}) {
		t.Errorf("% x", got)
	}
}

// mbpoll and pymodbus reach a pymodbus server on a line, which a device is polled on.
func TestGatewayServesForeignClients(t *testing.T) {
	needPymodbus(t)
	near, far := ptyPair(t)
	peer(t, debianPython, "testdata/pymodbus_server.py", "rtu", far)
	d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
		return &filePort{File: near}, nil
	}})
	awaitLine(t, near, modbus.Request{Unit: 1, Fn: modbus.ReadCoils, Count: 1}.Frame())
	line := fmt.Sprintf("serial: {port: %s, baud: 115200}\ntimeout: 5s\n", near.Name())
	gate := open(t, d.Gateway(), "driver: modbus-gateway\nlisten: {address: 127.0.0.1:0}\n"+line)
	dev := open(t, d, "driver: modbus\nunit: 2\n"+line+"points:"+peerPoints)
	ctx, cancel := context.WithCancel(t.Context())
	var polls sync.WaitGroup
	n := 0
	polls.Go(func() {
		for ctx.Err() == nil {
			got, err := dev.Read(ctx, []string{"holding2", "input0", "coil0"})
			for _, r := range got {
				if want := map[string]string{"holding2": "16", "input0": "3", "coil0": "true"}[r.Point]; r.Quality == drivers.Good && r.Value.String() != want {
					t.Errorf("%s is %s", r.Point, r.Value)
				}
			}
			if err == nil && len(got) == 3 {
				n++
			}
		}
	})
	mbpoll := need(t, "mbpoll", "mbpoll")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-t", "0", "-r", "3", "127.0.0.1"}, "[3]: \t1"},
		{[]string{"-t", "1", "-r", "4", "127.0.0.1"}, "[4]: \t1"},
		{[]string{"-t", "3", "-r", "10", "127.0.0.1"}, "53"},
		{[]string{"-t", "4", "-r", "10", "-c", "3", "127.0.0.1"}, "[12]: \t85"},
		{[]string{"-t", "0", "-r", "50", "127.0.0.1", "1"}, "Written 1 references."},
		{[]string{"-t", "0", "-r", "50", "127.0.0.1", "0", "1"}, "Written 2 references."},
		{[]string{"-t", "4", "-r", "50", "127.0.0.1", "1000"}, "Written 1 references."},
		{[]string{"-t", "4", "-r", "50", "127.0.0.1", "1001", "1002"}, "Written 2 references."},
		{[]string{"-t", "4", "-r", "51", "127.0.0.1"}, "1002"},
		{[]string{"-t", "4", "-r", "200", "127.0.0.1"}, "Illegal data address"},
	} {
		args := append([]string{"-m", "tcp", "-0", "-1", "-o", "10", "-a", "1", "-p", serverPort(gate)}, c.args...)
		if out, _ := exec.CommandContext(t.Context(), mbpoll, args...).CombinedOutput(); !strings.Contains(string(out), c.want) { // refusals are failures
			t.Errorf("mbpoll %v says\n%s\nwant %q", args, out, c.want)
		}
	}
	checkClient(t, newDriver(t, modbus.Options{}), modbus.Target{TCP: "127.0.0.1:" + serverPort(gate), Timeout: 20 * time.Second}, false)
	cancel()
	polls.Wait()
	if n < 5 {
		t.Errorf("the device was polled %d times beside the clients", n)
	}
}
