package modbus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// LineOf tells how a device file leads to its device.
func (d *Driver) LineOf(cfg drivers.Config) (string, error) {
	s, err := decodeDevice(cfg, d.opts.Profiles)
	if err != nil {
		return "", err
	}
	if s.address == "" {
		return fmt.Sprintf("%s %d %s %d %d", s.bus(), s.serial.Baud, s.serial.Parity, s.serial.StopBits, s.unit), nil
	}
	return fmt.Sprintf("%s %d", s.bus(), s.unit), nil
}

// ProfileOverlaps names the points of a profile that share registers in part: a slip
// in an address. That two points read the same registers is no slip.
func (d *Driver) ProfileOverlaps(name string) []string {
	specs, _, err := d.profileSpecs(name)
	if err != nil {
		return []string{err.Error()}
	}
	slices.SortFunc(specs, func(a, b pointSpec) int {
		return (int(a.fn)<<16 + int(a.addr)) - (int(b.fn)<<16 + int(b.addr))
	})
	var wrong []string
	for i, p := range specs[1:] {
		before := specs[i]
		if before.fn == p.fn && before.span != p.span && before.end() > int(p.addr) {
			wrong = append(wrong, fmt.Sprintf("%q and %q overlap at %d", before.Name, p.Name, p.addr))
		}
	}
	return wrong
}

// ProfileExamples decodes the examples of a profile and says which come out wrong.
func (d *Driver) ProfileExamples(name string) (n int, wrong []string) {
	specs, f, err := d.profileSpecs(name)
	if err != nil {
		return 0, []string{err.Error()}
	}
	for _, e := range f.Examples {
		i := slices.IndexFunc(specs, func(s pointSpec) bool { return s.Name == e.Point })
		if i < 0 || e.Value == nil {
			wrong = append(wrong, fmt.Sprintf("example of %q: there is no such point, or no value", e.Point))
			continue
		}
		var wire []byte
		for _, r := range e.Registers {
			word, err := r.whole("a register", 0, 1<<16-1)
			if err != nil {
				wrong = append(wrong, err.Error())
			}
			wire = append(wire, byte(word>>8), byte(word))
		}
		if len(wire) != 2*int(specs[i].count) {
			wrong = append(wrong, fmt.Sprintf("example of %q: %d registers for %d", e.Point, len(wire)/2, specs[i].count))
			continue
		}
		if v, err := specs[i].decode(wire); err != nil || rounded(v, string(*e.Value)) != string(*e.Value) {
			wrong = append(wrong, fmt.Sprintf("example of %q gives %v, the source says %s", e.Point, v, *e.Value))
		}
	}
	return len(f.Examples), wrong
}

// rounded is a value with as many decimals as text has: sources round floats.
func rounded(v drivers.Value, text string) string {
	f, _ := v.Float()
	_, decimals, _ := strings.Cut(text, ".")
	return strconv.FormatFloat(f, 'f', len(decimals), 64)
}

func (d *Driver) profileSpecs(name string) ([]pointSpec, *profileFile, error) {
	f, cfg, err := readProfile(d.opts.Profiles, name)
	if err != nil {
		return nil, nil, err
	}
	var specs []pointSpec
	for name, p := range f.Points {
		s, err := p.Point.check(cfg, name, drivers.Common{})
		if err != nil {
			return nil, nil, err
		}
		specs = append(specs, s)
	}
	return specs, f, nil
}

// ProfileValue is what a profile's point makes of bytes from the wire.
func (d *Driver) ProfileValue(profile, point string, wire []byte) string {
	specs, _, err := d.profileSpecs(profile)
	if err != nil {
		return err.Error()
	}
	for i := range specs {
		if specs[i].Name == point {
			v, err := specs[i].decode(wire)
			if err != nil {
				return err.Error()
			}
			return v.String()
		}
	}
	return "no such point"
}
