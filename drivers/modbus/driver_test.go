package modbus_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// config parses a device file.
func config(t testing.TB, text string) drivers.Config {
	t.Helper()
	cfg, err := drivers.ParseConfig("press", "press.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open opens a device, and closes it with the test.
func open(t testing.TB, d drivers.Driver, text string) drivers.Device {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	dev, err := d.Open(ctx, config(t, text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func newDriver(t testing.TB, opts modbus.Options) *modbus.Driver {
	t.Helper()
	d, err := modbus.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// read reads points and gives what they were as text, or the error.
func read(t testing.TB, dev drivers.Device, names ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	readings, err := dev.Read(ctx, names)
	if err != nil {
		t.Fatalf("reading %v: %v", names, err)
	}
	got := map[string]string{}
	for _, r := range readings {
		got[r.Point] = r.Value.String()
		if r.Err != nil {
			got[r.Point] = r.Quality.String() + ": " + r.Err.Error()
		}
	}
	return got
}

func write(t testing.TB, dev drivers.Device, point, value string) error {
	t.Helper()
	v, err := drivers.ParseValue([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	return dev.Write(ctx, point, v)
}

// wantRead fails unless the points read are as expected.
func wantRead(t testing.TB, dev drivers.Device, want map[string]string) {
	t.Helper()
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	got := read(t, dev, names...)
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s is %q, want %q", name, got[name], w)
		}
	}
}

// simulator opens a simulator on a port of its own and gives that.
func simulator(t testing.TB, d *modbus.Driver, points string) (drivers.Device, string) {
	t.Helper()
	dev := open(t, d.Simulator(), "driver: modbus-simulator\nlisten: 127.0.0.1:0\nunit: 1\npoints:\n"+points)
	addr := dev.(interface{ Addr() net.Addr }).Addr().String()
	return dev, addr
}

func TestDeviceReadsAndWritesASimulator(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, `
  temperature: {input: 0, type: int16, scale: 0.1, initial: 215.3}
  fan: {coil: 3, writable: true}
  door: {discrete: 9, initial: true}
  total: {holding: 100, type: float32, order: CDAB, writable: true, initial: 21.3}
  big: {holding: 200, type: uint64, writable: true, initial: 18446744073709551615}
  small: {holding: 300, type: int16, scale: 0.1, writable: true, initial: -3.5}
`)
	dev := open(t, d, fmt.Sprintf(`
driver: modbus
tcp: %s
points:
  temperature: {input: 0, type: int16, scale: 0.1}
  fan: {coil: 3, writable: true}
  door: {discrete: 9}
  total: {holding: 100, type: float32, order: CDAB, writable: true}
  big: {holding: 200, type: uint64, writable: true}
  small: {holding: 300, type: int16, scale: 0.1, writable: true}
  nowhere: {holding: 1000}
`, addr))
	wantRead(t, dev, map[string]string{
		"temperature": "215.3", "fan": "false", "door": "true", "total": "21.3", "big": "18446744073709551615", "small": "-3.5",
		"nowhere": "bad: exception 2 (illegal data address) from function 3 (read holding registers)",
	})
	for point, value := range map[string]string{"fan": "true", "total": "-1.5", "big": "9007199254740993", "small": "3276.7"} {
		if err := write(t, dev, point, value); err != nil {
			t.Error(err)
		}
		wantRead(t, dev, map[string]string{point: value})
	}
	for point, value := range map[string]string{
		"small": "3276.8", "big": "-1", "fan": "2", "total": "1e39", "temperature": "1", "nobody": "1",
	} {
		if err := write(t, dev, point, value); err == nil {
			t.Errorf("%s takes %s", point, value)
		}
	}
}
