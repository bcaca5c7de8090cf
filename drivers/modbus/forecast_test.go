package modbus_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

func forecast(t *testing.T, d *modbus.Driver, files ...string) []drivers.Line {
	t.Helper()
	var cfgs []drivers.Config
	for i, text := range files {
		cfg, err := drivers.ParseConfig("unit"+string(rune('1'+i)), "unit.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		cfgs = append(cfgs, cfg)
	}
	return d.Forecast(cfgs)
}

// 8 characters there and 5 + 2 n back, of 10/9600 s each, the silence of 3.5 before and
// the 10 ms behind.
func TestForecastIsWhatTheReadsTake(t *testing.T) {
	read := func(registers float64) float64 { return (13+2*registers+3.5)/960 + 0.010 }
	const line = "driver: modbus\nserial: {port: /dev/a, baud: 9600, parity: none}\npoints:\n"
	for _, c := range []struct {
		name, points string
		want         float64 // s/s
	}{
		{"one point", "  a: {holding: 0}", read(1)},
		{"one point twice a second", "  a: {holding: 0, every: 500ms}", 2 * read(1)},
		{"a block", "  a: {holding: 0}\n  b: {holding: 9}", read(10)},
		{"two blocks", "  a: {holding: 0}\n  b: {holding: 99}", 2 * read(1)},
		{"two tables", "  a: {holding: 0}\n  b: {input: 0}", 2 * read(1)},
		{"intervals that meet", "  a: {holding: 0}\n  b: {holding: 1, every: 2s}", (read(1) + read(2)) / 2},
		{"intervals that seldom meet", "  a: {holding: 0, every: 2s}\n  b: {holding: 1, every: 3s}", (read(2) + 2*read(1) + read(1)) / 6},
		{"a scale factor", "  a: {holding: 0, scale_from: 1}", read(2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := forecast(t, newDriver(t, modbus.Options{}), line+c.points)
			if len(lines) != 1 || math.Abs(lines[0].Asked-100*c.want) > 0.01 {
				t.Errorf("%+v, want %.3f %%", lines, 100*c.want)
			}
		})
	}
}

func TestForecastAddsUpDevicesOfALine(t *testing.T) {
	lines := forecast(t, newDriver(t, modbus.Options{}),
		"driver: modbus\nserial: {port: /dev/b}\npoints: {a: {holding: 0}}",
		"driver: modbus\nserial: {port: /dev/a, baud: 1200}\npoints: {a: {holding: 0, length: 50}}",
		"driver: modbus\ntcp: plc\npoints: {a: {holding: 0, every: 10ms}}",
		"driver: modbus\nserial: {port: /dev/a, baud: 1200}\nunit: 2\npoints: {a: {holding: 0}}",
	)
	if len(lines) != 2 || strings.Join(lines[1].Devices, " ") != "unit2 unit4" || lines[0].Warning() != "" {
		t.Fatalf("%+v", lines)
	}
	if said := lines[1].Warning(); lines[1].Asked < 100 || !strings.Contains(said, "devices unit2, unit4 ask for 1") || !strings.Contains(said, "(1200 baud)") {
		t.Errorf("%+v: %s", lines[1], said)
	}
}

// Of a line behind a device server one file tells the speed; that of a request there and
// back is what it is on a serial port.
func TestForecastOfALineBehindADeviceServer(t *testing.T) {
	const points = "points: {a: {holding: 0}}"
	d := newDriver(t, modbus.Options{})
	lines := forecast(t, d,
		"driver: modbus\nrtu_tcp: moxa:4001\n"+points,
		"driver: modbus\nrtu_tcp: moxa:4001\nunit: 2\nline: {baud: 1200, parity: none}\n"+points,
		"driver: modbus\nascii_tcp: moxa:4002\nline: {baud: 9600}\n"+points,
		"driver: modbus\nrtu_tcp: moxa:4003\n"+points,
		"driver: modbus\nserial: {port: /dev/a, baud: 1200, parity: none}\n"+points,
		"driver: modbus\nserial: {port: /dev/b, baud: 9600, mode: ascii}\n"+points,
	)
	if len(lines) != 4 {
		t.Fatalf("%+v", lines)
	}
	rtu, ascii, serialRTU, serialASCII := lines[0], lines[1], lines[2], lines[3]
	if rtu.Name != "rtu_tcp moxa:4001" || rtu.Speed != "1200 baud" || strings.Join(rtu.Devices, " ") != "unit1 unit2" {
		t.Errorf("%+v", rtu)
	}
	if want := 2 * serialRTU.Asked; math.Abs(rtu.Asked-want) > 0.01 {
		t.Errorf("RTU: %.2f %%, want %.2f %%", rtu.Asked, want)
	}
	if want := serialASCII.Asked; ascii.Speed != "9600 baud" || math.Abs(ascii.Asked-want) > 0.01 {
		t.Errorf("ASCII: %+v, want %.2f %%", ascii, want)
	}
}

func TestLineBehindADeviceServerThatIsWrong(t *testing.T) {
	for keys, want := range map[string]string{
		"rtu_tcp: moxa\nline: {baud: 9600, parity: odd, stop_bits: 2}": "",
		"rtu_tcp: moxa\nline: {parity: odd}":                           "line needs a baud rate",
		"rtu_tcp: moxa\nline: {baud: 9600, parity: mark}":              "parity must be none, even or odd",
		"rtu_tcp: moxa\nline: {baud: 9600, data_bits: 7}":              "data_bits must be 8 to 8",
		"ascii_tcp: moxa\nline: {baud: 9600, data_bits: 7}":            "",
		"rtu_tcp: moxa\nline: {baud: 9600, port: 1}":                   "port",
		"tcp: plc\nline: {baud: 9600}":                                 "and there is none",
		"serial: {port: /dev/a}\nline: {baud: 9600}":                   "and there is none",
	} {
		_, err := newDriver(t, modbus.Options{}).Check(config(t, "driver: modbus\n"+keys+"\npoints: {a: {holding: 0}}\n"))
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", keys, err, want)
		}
	}
}

// A file that was checked is not decoded again for a forecast, unless it has changed.
func TestForecastOfWhatWasChecked(t *testing.T) {
	var file strings.Builder
	file.WriteString("driver: modbus\nserial: {port: /dev/a}\npoints:\n")
	for i := range 1000 {
		fmt.Fprintf(&file, "  p%d: {holding: %d, every: %ds}\n", i, 2*i, 1+i%3)
	}
	big, small := file.String(), "driver: modbus\nserial: {port: /dev/a}\npoints: {a: {holding: 0}}\n"
	want, wantSmall := forecast(t, newDriver(t, modbus.Options{}), big), forecast(t, newDriver(t, modbus.Options{}), small)
	d := newDriver(t, modbus.Options{})
	cfg, err := drivers.ParseConfig("unit1", "unit.yaml", []byte(big))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Check(cfg); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.Forecast([]drivers.Config{cfg})); diff != "" {
		t.Errorf("after Check (-want +got):\n%s", diff)
	}
	allocs := testing.AllocsPerRun(10, func() { d.Forecast([]drivers.Config{cfg}) })
	if t.Logf("%.0f allocations", allocs); allocs > 2000 && !raceEnabled { // to decode a point takes dozens
		t.Errorf("a forecast of 1000 points that were checked takes %.0f allocations", allocs)
	}
	if diff := cmp.Diff(wantSmall, forecast(t, d, small)); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
	if lines := forecast(t, d, "driver: modbus\ntcp: plc\npoints: {serial: {holding: 0}}\n"); len(lines) != 0 {
		t.Errorf("%+v, though it is on no line any more", lines)
	}
}

// What was forecast is what is measured.
func TestLoadOfALineIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		if _, ok := d.Busy("serial /dev/fake"); ok {
			t.Error("a line that nobody has opened is in use")
		}
		points := fakePoints()[40:50]
		dev := open(t, d, rtuFile(1, time.Second, points))
		poll := func(every time.Duration) (asked, busy float64) {
			for range 3 * time.Minute / every {
				start := time.Now()
				if _, err := dev.Read(t.Context(), names(points)); err != nil {
					t.Error(err)
				}
				later(every - time.Since(start))
			}
			text := strings.Replace(rtuFile(1, time.Second, points), "points:", "every: "+every.String()+"\npoints:", 1)
			busy, _ = d.Busy("serial /dev/fake")
			return forecast(t, d, text)[0].Asked, busy
		}
		for _, every := range []time.Duration{time.Second, 5 * time.Second} {
			asked, busy := poll(every)
			t.Logf("every %v: %.1f %% forecast, %.1f %% measured", every, asked, busy)
			if math.Abs(asked-busy) > 0.1*asked {
				t.Errorf("every %v: %.1f %% forecast, %.1f %% measured", every, asked, busy)
			}
		}
		later(2 * time.Minute)
		if busy, ok := d.Busy("serial /dev/fake"); !ok || busy != 0 {
			t.Errorf("a line at rest is in use for %.1f %%", busy)
		}
	})
}

// Intervals far apart are compared as what they are, on 32 bits, too.
func TestForecastOfIntervalsFarApart(t *testing.T) {
	for _, every := range []string{"4s", "6s", "10s", "1m"} {
		file := "driver: modbus\nserial: {port: /dev/x, baud: 1200}\npoints: {a: {holding: 0, every: 1s}, b: {holding: 700, every: " + every + "}}"
		for _, l := range forecast(t, newDriver(t, modbus.Options{}), file) {
			if l.Asked < 20 {
				t.Errorf("%s: %.2f %%, want more than the 20 %% of the point that is read each second", every, l.Asked)
			}
		}
	}
}
