package modbus_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
	"github.com/google/go-cmp/cmp"
)

// meterProfile is a profile for tests of what device files make of one.
const meterProfile = `vendor: Acme
models: [M1]
kind: energy meter
sources: ["Acme, M1 manual"]
serial: {baud: 2400, parity: none, stop_bits: 2}
tcp: 1502
unit: 7
points:
  power:   {input: 52, type: float32, unit: W, class: fast}
  voltage: {input: 0, type: float32, unit: V, class: fast}
  energy:  {input: 72, type: float32, unit: kWh}
  serial:  {holding: 10, type: uint32, class: slow}
  limit:   {holding: 20, scale: 0.1, unit: A, writable: true, class: slow}
`

func withProfile(t testing.TB) *modbus.Driver {
	t.Helper()
	return newDriver(t, modbus.Options{Profiles: fstest.MapFS{"acme-m1.yaml": {Data: []byte(meterProfile)}}})
}

func TestAProfileGivesThePoints(t *testing.T) {
	all := map[string]drivers.Point{
		"power":   {Name: "power", Unit: "W", Every: time.Second},
		"voltage": {Name: "voltage", Unit: "V", Every: time.Second},
		"energy":  {Name: "energy", Unit: "kWh", Every: 10 * time.Second},
		"serial":  {Name: "serial", Every: 5 * time.Minute},
		"limit":   {Name: "limit", Unit: "A", Writable: true, Every: 5 * time.Minute},
	}
	for _, c := range []struct {
		behaviour, file string
		change          func(map[string]drivers.Point)
	}{
		{"as it is", "", func(map[string]drivers.Point) {}},
		{"only some", "only: [power, 'vol*']", func(p map[string]drivers.Point) {
			delete(p, "energy")
			delete(p, "serial")
			delete(p, "limit")
		}},
		{"all but some", "except: ['*er*']", func(p map[string]drivers.Point) {
			delete(p, "power")
			delete(p, "energy")
			delete(p, "serial")
		}},
		{"by another name", "rename: {power: house/power}", func(p map[string]drivers.Point) {
			delete(p, "power")
			p["house/power"] = drivers.Point{Name: "house/power", Unit: "W", Every: time.Second}
		}},
		{"intervals", "intervals: {fast: 100ms, slow: 1h}", func(p map[string]drivers.Point) {
			for name, at := range p {
				if at.Every == time.Second {
					at.Every = 100 * time.Millisecond
				} else if at.Every == 5*time.Minute {
					at.Every = time.Hour
				}
				p[name] = at
			}
		}},
		{"every is for fast points, and none is faster", "every: 30s", func(p map[string]drivers.Point) {
			for name, at := range p {
				at.Every = max(at.Every, 30*time.Second)
				p[name] = at
			}
		}},
		{"a point's own keys", "points:\n  limit: {writable: false, every: 3s}\n  power: {deadband: 5}", func(p map[string]drivers.Point) {
			p["limit"] = drivers.Point{Name: "limit", Unit: "A", Every: 3 * time.Second}
			p["power"] = drivers.Point{Name: "power", Unit: "W", Every: time.Second, Deadband: 5}
		}},
		{"keys of a point that was renamed", "rename: {power: p}\npoints:\n  p: {unit: kW}", func(p map[string]drivers.Point) {
			delete(p, "power")
			p["p"] = drivers.Point{Name: "p", Unit: "kW", Every: time.Second}
		}},
		{"points that the profile does not have", "points:\n  fan: {coil: 3, writable: true}", func(p map[string]drivers.Point) {
			p["fan"] = drivers.Point{Name: "fan", Writable: true, Every: time.Second}
		}},
		{"a table makes the point the file's alone", "points:\n  power: {coil: 3}", func(p map[string]drivers.Point) {
			p["power"] = drivers.Point{Name: "power", Every: time.Second}
		}},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			points, err := withProfile(t).Check(config(t, "driver: modbus\nprofile: acme-m1\ntcp: meter\n"+c.file))
			if err != nil {
				t.Fatal(err)
			}
			got, want := map[string]drivers.Point{}, map[string]drivers.Point{}
			for _, p := range points {
				got[p.Name] = p
			}
			for name, p := range all {
				want[name] = p
			}
			c.change(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProfileGivesTheLine(t *testing.T) {
	d := withProfile(t)
	for _, c := range []struct{ file, want string }{
		{"tcp: meter", "tcp meter:1502 7"},
		{"tcp: meter:5020\nunit: 3", "tcp meter:5020 3"},
		{"tcp: '[fe80::1]'", "tcp [fe80::1]:1502 7"},
		{"serial: {port: a}", "serial a 2400 none 2 7"},
		{"serial: {port: a, baud: 9600, parity: even, stop_bits: 1}", "serial a 9600 even 1 7"},
	} {
		got, err := d.LineOf(config(t, "driver: modbus\nprofile: acme-m1\n"+c.file))
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.file, got, err, c.want)
		}
	}
}

// What no source tells of the line is asked for, never guessed.
func TestAProfileThatDoesNotKnowTheLineAsksForIt(t *testing.T) {
	for _, c := range []struct{ profile, file, want string }{
		{"serial: {}", "{port: a}", `4:9: profile "p" does not know baud and parity`},
		{"serial: {}", "{port: a, parity: none}", `does not know the baud rate`},
		{"serial: {baud: 9600}", "{port: a}", `does not know the parity`},
		{"tcp: 502", "{port: a}", `does not know baud and parity`},
		{"serial: {}", "{port: a, baud: 9600, parity: none}", ""},
		{"serial: {baud: 9600}", "{port: a, parity: odd}", ""},
	} {
		text := "vendor: a\nmodels: [b]\nkind: c\nsources: [d]\n" + c.profile + "\npoints: {x: {coil: 1}}"
		d := newDriver(t, modbus.Options{Profiles: fstest.MapFS{"p.yaml": {Data: []byte(text)}}})
		_, err := d.Check(config(t, "driver: modbus\nprofile: p\nunit: 1\nserial: "+c.file))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v, want %q", c.profile, c.file, err, c.want)
		}
	}
}

func TestAProfileThatDoesNotFitSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"no such profile", "profile: acme-m2", `2:10: there is no profile "acme-m2"; there is acme-m1`},
		{"a path", "profile: ../secret", `2:10: there is no profile "../secret"`},
		{"no such point", "profile: acme-m1\nonly: [powr]", `3:8: profile "acme-m1" has no point "powr"; there is power`},
		{"no such exception", "profile: acme-m1\nexcept: [a, b]", `3:10: profile "acme-m1" has no point "a"`},
		{"a bad pattern", "profile: acme-m1\nonly: ['[']", `has no point "["`},
		{"renames what is not there", "profile: acme-m1\nrename: {x: y}", `has no point "x" that is chosen`},
		{"renames what was left out", "profile: acme-m1\nonly: [energy]\nrename: {power: y}", `has no point "power" that is chosen`},
		{"two points of a name", "profile: acme-m1\nrename: {power: energy}", `two points of profile "acme-m1" would be called "energy"`},
		{"two points renamed alike", "profile: acme-m1\nrename: {power: x, energy: x}", `two points of profile "acme-m1" would be called "x"`},
		{"keys without a profile", "only: [x]\npoints:\n  x: {coil: 1}", "2:7: only goes with a profile"},
		{"a wrong key of a point", "profile: acme-m1\npoints:\n  power: {scal: 1}", `4:11: unknown field "scal"`},
		{"a wrong value of a point", "profile: acme-m1\npoints:\n  power: {scale: 0}", "4:18: scale must not be 0"},
		{"a class is not for device files", "profile: acme-m1\npoints:\n  power: {class: fast}", `unknown field "class"`},
		{"nothing left", "profile: acme-m1\nexcept: ['*']", "the device has no points"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := withProfile(t).Check(config(t, "driver: modbus\n"+c.file+"\ntcp: a"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Profiles are data, so what can be wrong with them is looked for here.
func TestProfilesAreRight(t *testing.T) {
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Errorf("%d profiles, 30 were promised", len(all))
	}
	d := newDriver(t, modbus.Options{Profiles: profiles.FS()})
	examples := 0
	for _, p := range all {
		for _, wrong := range d.ProfileOverlaps(p.Name) {
			t.Errorf("%s: %s", p.Name, wrong)
		}
		n, wrong := d.ProfileExamples(p.Name)
		examples += n
		for _, w := range wrong {
			t.Errorf("%s: %s", p.Name, w)
		}
		line := "tcp: 127.0.0.1"
		if p.TCP == 0 {
			line = "serial: {port: /dev/ttyUSB0, baud: 9600, parity: none}"
		}
		points, err := d.Check(config(t, fmt.Sprintf("driver: modbus\nprofile: %s\n%s\n", p.Name, line)))
		if err != nil || len(points) != p.Points {
			t.Errorf("%s: a device file gives %d points of %d, %v", p.Name, len(points), p.Points, err)
		}
		for _, pt := range points {
			checkWords(t, p.Name, pt)
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples of the sources were checked", examples)
	}
}

// commonUnits are the units of points that many profiles have.
var commonUnits = map[string]string{
	"voltage": "V", "current": "A", "power": "W", "energy_import": "kWh", "energy_export": "kWh", "energy": "kWh",
	"frequency": "Hz", "power_factor": "", "apparent_power": "VA", "reactive_power": "var", "battery_soc": "%",
	"battery_power": "W", "battery_voltage": "V", "battery_current": "A", "temperature": "°C", "humidity": "%",
}

// checkWords holds profiles to one vocabulary, so that rules and dashboards fit them
// all.
func checkWords(t *testing.T, profile string, p drivers.Point) {
	t.Helper()
	if strings.ToLower(p.Name) != p.Name || strings.ContainsAny(p.Name, " -.") {
		t.Errorf("%s: point %q is not in lower_case", profile, p.Name)
	}
	name := p.Name
	for _, phase := range []string{"_l1", "_l2", "_l3", "_total"} {
		name = strings.TrimSuffix(name, phase)
	}
	if unit, ok := commonUnits[name]; ok && unit != p.Unit {
		t.Errorf("%s: point %q has the unit %q, elsewhere it is %q", profile, p.Name, p.Unit, unit)
	}
}

func TestABrokenProfileIsNamed(t *testing.T) {
	of := func(lines ...string) string { return strings.Join(lines, "\n") }
	head := "vendor: a\nmodels: [b]\nkind: c\nsources: [d]\nserial: {}"
	for _, c := range []struct{ name, text, want string }{
		{"no sources", of("vendor: a", "models: [b]", "kind: c", "serial: {}", "points: {x: {coil: 1}}"), "needs the sources"},
		{"no maker", of("models: [b]", "points: {x: {coil: 1}}"), "needs vendor"},
		{"no line", of("vendor: a", "models: [b]", "kind: c", "sources: [d]", "points: {x: {coil: 1}}"), "needs serial or tcp"},
		{"an unknown key", of(head, "points: {x: {coil: 1, claas: fast}}"), "profiles/p.yaml:6:23: unknown field"},
		{"a wrong class", of(head, "points: {x: {coil: 1, class: quick}}"), "profiles/p.yaml:6:30: class must be"},
		{"a wrong point", of(head, "points: {x: {coil: 70000}}"), "p.yaml:6:20: the address must be 0 to 65535"},
		{"a wrong identity", of(head, "identity: [{input: 1}]", "points: {x: {coil: 1}}"), "an identity has one of"},
		{"no points", head, "has no points"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := modbus.Profiles(fstest.MapFS{"p.yaml": {Data: []byte(c.text)}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if all, err := modbus.Profiles(nil); err != nil || len(all) != 0 {
		t.Errorf("without profiles: %v, %v", all, err)
	}
}

func TestProfilesAreListedByName(t *testing.T) {
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(all, func(a, b modbus.Profile) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("they are not sorted")
	}
	files, err := fs.Glob(profiles.FS(), "*.yaml")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d files, %d profiles, %v", len(files), len(all), err)
	}
}

// What a device has not got is no value of a profile's point, never a number.
func TestProfilesKnowWhatIsNoValue(t *testing.T) {
	d := newDriver(t, modbus.Options{Profiles: profiles.FS()})
	for _, c := range []struct {
		profile, point string
		wire           []byte
	}{
		{"sma-inverter", "power", []byte{0x80, 0, 0, 0}},
		{"sma-inverter", "energy_total", []byte{255, 255, 255, 255, 255, 255, 255, 255}},
		{"abb-b23", "power", []byte{0x7F, 255, 255, 255}},
		{"abb-b23", "power_factor", []byte{0x7F, 255}},
		{"huawei-sun2000", "battery_soc", []byte{255, 255}},
		{"nibe-s1155", "room_temperature", []byte{0x80, 0}},
		{"stiebel-eltron-isg", "hot_water_temperature", []byte{0x80, 0}},
	} {
		if got := d.ProfileValue(c.profile, c.point, c.wire); got != "null" {
			t.Errorf("%s: %s is %s where the device has no value", c.profile, c.point, got)
		}
	}
}
