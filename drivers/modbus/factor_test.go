package modbus_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

func TestPointsAreScaledByAnotherRegister(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	sim, addr := simulator(t, d, `
  power: {holding: 10, type: int16, writable: true, initial: 2153}
  energy: {holding: 20, type: uint32, initial: 4000000000}
  sf: {holding: 12, type: int16, writable: true, initial: -1}
  none: {holding: 13, type: int16, initial: -32768}
  wild: {holding: 14, type: int16, initial: 11}
`)
	dev := open(t, d, fmt.Sprintf(`
driver: modbus
tcp: %s
points:
  power: {holding: 10, type: int16, scale_from: 12, no_value: 0x8000, writable: true}
  offset: {holding: 10, type: int16, scale: 2, offset: -0.05, scale_from: 12}
  energy: {holding: 20, type: uint32, scale_from: 12}
  none: {holding: 10, scale_from: 13}
  wild: {holding: 10, scale_from: 14}
  nowhere: {holding: 10, scale_from: 15}
`, addr))
	refused := "bad: cannot read the scale factor: exception 2 (illegal data address) from function 3 (read holding registers)"
	wantRead(t, dev, map[string]string{
		"power": "215.3", "offset": "430.55", "energy": "400000000", "none": "null", "nowhere": refused,
		"wild": "bad: the scale factor is 11, not -10 to 10",
	})
	if err := write(t, sim, "sf", "3"); err != nil {
		t.Fatal(err)
	}
	wantRead(t, dev, map[string]string{"power": "2153000"})
	wantRead(t, dev, map[string]string{"energy": "4000000000000"})
	if err := write(t, dev, "power", "-32767000"); err != nil {
		t.Error(err)
	}
	wantRead(t, dev, map[string]string{"power": "-32767000"})
	for _, value := range []string{"100", "-32768000", "33000000"} {
		if err := write(t, dev, "power", value); err == nil {
			t.Errorf("power takes %s", value)
		}
	}
	if err := write(t, sim, "power", "-32768"); err != nil {
		t.Fatal(err)
	}
	wantRead(t, dev, map[string]string{"power": "null", "offset": "-65536000.05"})
}

// A point is nothing without its scale factor, and its neighbours are no worse for it.
func TestUnitThatIsMuteAboutAScaleFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, 200*time.Millisecond, 1)
		line.units[1].mute = map[uint16]bool{100: true}
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		dev := open(t, d, `
driver: modbus
serial: {port: /dev/fake, baud: 9600}
timeout: 200ms
points:
  plain: {holding: 1}
  scaled: {holding: 2, scale_from: 100}
`)
		plain := 0
		for range 100 {
			readings, err := dev.Read(t.Context(), []string{"plain", "scaled"})
			for _, r := range readings {
				if r.Point == "scaled" {
					t.Fatalf("the point is %s without its scale factor", r.Value)
				}
				if r.Value.String() != (fakePoint{3, 1}).want(1) {
					t.Errorf("plain is %s (%v)", r.Value, err)
				}
				plain++
			}
			later(time.Second)
		}
		if plain < 90 {
			t.Errorf("the point beside was read %d times of 100", plain)
		}
	})
}
