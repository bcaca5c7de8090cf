package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// found is a unit that answers.
type found struct {
	unit     uint8
	line     modbus.SerialConfig // without a port it is an address
	onLine   bool                // frames are those of a line, whatever leads there
	any      bool                // it answers whatever the unit
	identity string              // what it says of itself
	profile  string              // that its registers or its identity tell
	models   []modbus.SunSpecModel
}

// look finds out what it is. What cannot be found out is left empty.
func (f *found) look(ctx context.Context, c *modbus.Client, profiles []modbus.Profile) {
	if id, err := c.Identify(ctx, f.unit); err == nil {
		f.identity = id.String()
	}
	if models, err := c.SunSpec(ctx, f.unit); err == nil {
		f.models = models
	}
	for i := range profiles {
		p := &profiles[i]
		if f.fits(p) && (f.marked(ctx, c, p) || saysSo(f.identity, p)) {
			f.profile = p.Name
			return
		}
	}
}

// fits reports whether a profile is for such a line: that of a serial device server is
// one, too.
func (f *found) fits(p *modbus.Profile) bool {
	return (!f.onLine && p.TCP != 0) || (f.onLine && p.RTU)
}

// marked reports whether a unit has the registers that tell a profile's device.
func (f *found) marked(ctx context.Context, c *modbus.Client, p *modbus.Profile) bool {
	for _, mark := range p.Marks {
		words, err := c.ReadRegisters(ctx, f.unit, mark.Function, mark.Address, mark.Count)
		if err != nil || !mark.Matches(bytesOf(words)) {
			return false
		}
	}
	return len(p.Marks) > 0
}

// saysSo reports whether a device says that it is a profile's: maker and model.
func saysSo(identity string, p *modbus.Profile) bool {
	says := strings.ToLower(identity)
	maker, _, _ := strings.Cut(strings.ToLower(p.Vendor), " ")
	if !strings.Contains(says, maker) {
		return false
	}
	for _, model := range p.Models {
		if strings.Contains(says, strings.ToLower(model)) {
			return true
		}
	}
	return false
}

func bytesOf(words []uint16) []byte {
	b := make([]byte, 0, 2*len(words))
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return b
}

// name tells what it is in a few words.
func (f *found) name() string {
	var words []string
	if f.identity != "" {
		words = append(words, f.identity)
	}
	if f.profile != "" {
		words = append(words, "profile "+f.profile)
	}
	if len(f.models) > 0 {
		ids := make([]string, len(f.models))
		for i, m := range f.models {
			ids[i] = strconv.Itoa(int(m.ID))
		}
		words = append(words, "SunSpec models "+strings.Join(ids, " "))
	}
	if len(words) == 0 {
		return "answers, and does not say what it is"
	}
	return strings.Join(words, ", ")
}

// tell prints a device file for each unit that was found.
func (s *scan) tell(out io.Writer) error {
	if len(s.found) == 0 {
		what := "no unit answered"
		if s.strange {
			what += ", but something came that was no valid answer: are the settings right, is the line terminated, does another master ask?"
		}
		return fmt.Errorf("%s", what)
	}
	for i := range s.found {
		f := &s.found[i]
		fmt.Fprintf(out, "# unit %d: %s\ndriver: modbus\n%sunit: %d\n", f.unit, f.name(), s.flags.keys(f.line), f.unit)
		if f.profile != "" {
			fmt.Fprintf(out, "profile: %s\n\n", f.profile)
			continue
		}
		if points := modbus.SunSpecPoints(f.models); len(points) > 0 {
			fmt.Fprintf(out, "points:\n  %s\n\n", strings.Join(points, "\n  "))
			continue
		}
		fmt.Fprint(out, "points:\n  # what the maker's register list says; `gatehouse device profile list` has maps of many devices\n  first: {holding: 0}\n\n")
	}
	return nil
}
