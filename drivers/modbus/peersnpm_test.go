package modbus_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// npmModules is the folder of the packages for Modbus from npm.
func npmModules(t *testing.T) string {
	t.Helper()
	need(t, "node", "nodejs")
	need(t, "npm", "npm")
	return drivertest.NodeModules(t, "modbus-serial@8.0.25", "jsmodbus@5.0.0")
}

// nodePeer runs npm_server.js until the test ends.
func nodePeer(t *testing.T, args ...string) {
	t.Helper()
	t.Setenv("NODE_PATH", npmModules(t))
	peer(t, "node", append([]string{"testdata/npm_server.js"}, args...)...)
}

// npmValues are points of what Node's Buffer has written into registers from 120 on, and
// their values.
func npmValues() (points string, want map[string]string) {
	want = make(map[string]string)
	var b strings.Builder
	at := 120
	for i, orders := range [][2]string{{"ABCD", "ABCDEFGH"}, {"CDAB", "GHEFCDAB"}, {"BADC", "BADCFEHG"}, {"DCBA", "HGFEDCBA"}} {
		for _, v := range []struct {
			kind, value string
			length      int
		}{
			{"float32", "21.3", 2}, {"int32", "-123456789", 2}, {"float64", "-0.1", 4}, {"int64", "-1234567890123456789", 4}, {"uint64", "18446744073709551614", 4},
		} {
			name := fmt.Sprintf("%s_%d", v.kind, i)
			fmt.Fprintf(&b, "  %s: {holding: %d, type: %s, order: %s, writable: true}\n", name, at, v.kind, orders[v.length/4])
			want[name], at = v.value, at+v.length
		}
	}
	return b.String(), want
}

// checkNPMValues reads what Node's Buffer has written, and writes it back over something
// else.
func checkNPMValues(t *testing.T, dev drivers.Device, want map[string]string) {
	t.Helper()
	wantRead(t, dev, want)
	for name, value := range want {
		for _, v := range []string{"1", value} {
			if err := write(t, dev, name, v); err != nil {
				t.Error(err)
			}
		}
	}
	wantRead(t, dev, want)
}

func TestPeerServersFromNPM(t *testing.T) {
	points, want := npmValues()
	for name, missing := range map[string]string{
		"modbus-serial": "exception 2 (illegal data address) from function 3 (read holding registers)",
		// It gives what it has of what is asked.
		"jsmodbus": "no valid answer: its 2 bytes do not fit function 3 (read holding registers) of 1",
	} {
		t.Run(name+" over TCP", func(t *testing.T) {
			port := freePort(t)
			nodePeer(t, name, "tcp", strconv.Itoa(port))
			dev := openSoon(t, newDriver(t, modbus.Options{}), fmt.Sprintf("driver: modbus\ntcp: 127.0.0.1:%d\ntimeout: 5s\npoints:%s%s", port, peerPoints, points))
			read(t, dev, "holding199", "missing") // once could be an accident
			checkPeerBut(t, dev, 1, missing)
			checkNPMValues(t, dev, want)
		})
	}
	t.Run("modbus-serial on a line", func(t *testing.T) {
		near, far := socatPair(t)
		nodePeer(t, "modbus-serial", "rtu", far)
		dev := onLine(t, near, peerPoints+points)
		checkPeer(t, dev, 1)
		checkNPMValues(t, dev, want)
	})
	t.Run("jsmodbus on a line", func(t *testing.T) {
		near, far := socatPair(t)
		nodePeer(t, "jsmodbus", "rtu", far)
		dev := onLine(t, near, strings.Replace(peerPoints, "  missing: {holding: 200}\n", "", 1)+points)
		checkPeerBut(t, dev, 1, "")
		checkNPMValues(t, dev, want)
	})
}

// onLine opens the unit 1 at the other end of a line when it answers.
func onLine(t *testing.T, near *os.File, points string) drivers.Device {
	t.Helper()
	d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
		return &filePort{File: near}, nil
	}})
	awaitLine(t, near, modbus.Request{Unit: 1, Fn: modbus.ReadCoils, Count: 1}.Frame())
	return open(t, d, fmt.Sprintf("driver: modbus\nserial: {port: %s, baud: 115200}\nunit: 1\ntimeout: 5s\npoints:%s", near.Name(), points))
}

func TestPeerLibmodbusOnALine(t *testing.T) {
	near, far := ptyPair(t)
	peer(t, libmodbus(t, "libmodbus_server"), "rtu", far)
	checkPeer(t, onLine(t, near, peerPoints), 1)
}

// Clients from npm find our server on a line, and in RTU frames over TCP.
func TestServerServesClientsFromNPMOnALine(t *testing.T) {
	modules := npmModules(t)
	for _, name := range []string{"modbus-serial", "jsmodbus"} {
		t.Run(name, func(t *testing.T) {
			near, far := socatPair(t)
			d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
				return &filePort{File: near}, nil
			}})
			openShop(t, d, "serial: {port: "+near.Name()+", baud: 115200}")
			cmd := exec.CommandContext(t.Context(), "node", "testdata/npm_client.js", name, "line", far)
			cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
			wantAllRight(t, cmd)
		})
	}
}
