package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// What is on a serial port is opened again when the port is back; of all else nothing
// tells.
func TestAwait(t *testing.T) {
	var asked []string
	d := newDriver(t, modbus.Options{
		Appear: func(_ context.Context, port string, gone bool) error {
			asked = append(asked, fmt.Sprint(port, " ", gone))
			return nil
		},
		OpenSerial: func(_ context.Context, c modbus.SerialConfig) (modbus.Port, error) {
			return nil, fmt.Errorf("cannot open port %q: %w", c.Port, fs.ErrNotExist)
		},
	})
	const point, fed = "points:\n  x: {coil: 1}\n", "points:\n  x: {coil: 1, topic: a}\n"
	for _, c := range []struct {
		name   string
		driver drivers.Driver
		file   string
		comes  bool
	}{
		{"a device", d, "driver: modbus\nserial: {port: /dev/fake}\n" + point, true},
		{"a server", d.Server(), "driver: modbus-server\nserial: {port: /dev/fake}\n" + fed, true},
		{"a simulator", d.Simulator(), "driver: modbus-simulator\nserial: {port: /dev/fake}\n" + point, true},
		{"a device over TCP", d, "driver: modbus\ntcp: a\n" + point, false},
		{"a device behind a stream", d, "driver: modbus\nrtu_tcp: a\n" + point, false},
		{"a server that listens", d.Server(), "driver: modbus-server\nlisten: {address: '127.0.0.1:0'}\n" + fed, false},
		{"a simulator that listens", d.Simulator(), "driver: modbus-simulator\nlisten: '127.0.0.1:0'\n" + point, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked = nil
			cfg := config(t, c.file)
			await := c.driver.(drivers.Awaiter).Await
			if err := await(t.Context(), cfg, drivers.ErrLost); (err == nil) != c.comes {
				t.Errorf("want it back: %v, got %v", c.comes, err)
			}
			var want []string
			if c.comes {
				_, why := c.driver.Open(t.Context(), cfg)
				if err := await(t.Context(), cfg, why); err != nil {
					t.Error(err)
				}
				want = []string{"/dev/fake false", "/dev/fake true"}
			}
			if !slices.Equal(asked, want) {
				t.Errorf("want %q, got %q", want, asked)
			}
		})
	}
	if err := d.Await(t.Context(), config(t, "driver: modbus"), drivers.ErrLost); !errors.Is(err, drivers.ErrConfig) {
		t.Errorf("want what is wrong with the file, got %v", err)
	}
	bare := newDriver(t, modbus.Options{})
	if err := bare.Await(t.Context(), config(t, "driver: modbus\nserial: {port: /dev/fake}\n"+point), drivers.ErrLost); err == nil {
		t.Error("want an error where nothing tells")
	}
}
