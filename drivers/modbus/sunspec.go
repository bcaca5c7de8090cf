package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// sunSpecPlaces are where the models of a SunSpec device may begin (SunSpec Device
// Information Model Specification §6.1.1), after the two registers "SunS".
var sunSpecPlaces = []uint16{40000, 50000, 0}

const (
	sunSpecMark1 = 0x5375 // "Su"
	sunSpecMark2 = 0x6E53 // "nS"
	sunSpecEnd   = 0xFFFF // the identifier behind the last model
	// maxSunSpecModels bounds a device that has no last model.
	maxSunSpecModels = 100
)

// ErrNoSunSpec says that a unit is no SunSpec device.
var ErrNoSunSpec = errors.New("no SunSpec device")

// SunSpecModel is a block of registers whose meaning the SunSpec Alliance has defined.
type SunSpecModel struct {
	ID      uint16
	Address uint16 // of the holding register that has the identifier
	Length  uint16 // in registers, without identifier and length
	Modules uint16 // of a model that repeats, such as 160
}

// SunSpec reads which models a unit has, in its order. The error wraps [ErrNoSunSpec]
// if it has none.
func (c *Client) SunSpec(ctx context.Context, unit uint8) ([]SunSpecModel, error) {
	for _, place := range sunSpecPlaces {
		words, err := c.ReadRegisters(ctx, unit, ReadHoldingRegisters, place, 2)
		switch {
		case err != nil && !isRefusal(err):
			return nil, err
		case err == nil && words[0] == sunSpecMark1 && words[1] == sunSpecMark2:
			return c.sunSpecModels(ctx, unit, int(place)+2)
		}
	}
	return nil, fmt.Errorf("unit %d: %w", unit, ErrNoSunSpec)
}

func (c *Client) sunSpecModels(ctx context.Context, unit uint8, at int) ([]SunSpecModel, error) {
	var models []SunSpecModel
	for len(models) < maxSunSpecModels && at+2 <= 1<<16 {
		head, err := c.ReadRegisters(ctx, unit, ReadHoldingRegisters, uint16(at), 2)
		if err != nil {
			return models, fmt.Errorf("cannot read the SunSpec model at %d: %w", at, err)
		}
		if head[0] == sunSpecEnd {
			return models, nil
		}
		m := SunSpecModel{ID: head[0], Address: uint16(at), Length: head[1]}
		if kind := m.kind(); kind != nil && kind.stride > 0 && kind.count < int(m.Length)+2 {
			n, err := c.ReadRegisters(ctx, unit, ReadHoldingRegisters, uint16(at+kind.count), 1)
			if err != nil {
				return models, fmt.Errorf("cannot read SunSpec model %d: %w", m.ID, err)
			}
			m.Modules = n[0]
		}
		models = append(models, m)
		at += 2 + int(m.Length)
	}
	return models, fmt.Errorf("the SunSpec models of unit %d have no end", unit)
}

// sunSpecPoint is a point of a model; offsets count from the model's identifier.
type sunSpecPoint struct {
	name   string
	offset int
	kind   string // uint16 to uint64, int16, int32, acc32, acc64, float32, enum16, bitfield16, bitfield32, string
	factor int    // offset of the scale factor; 0 is none
	unit   string
	more   string // further keys of a device file
	phase  int    // from how many phases on it is there
}

// sunSpecKind is what a model means.
type sunSpecKind struct {
	ids    []uint16 // of one, two, three phases, and of three without a neutral
	name   string
	points []sunSpecPoint
	count  int            // offset of how many modules there are
	first  int            // offset of the first module
	stride int            // registers a module; 0 is that there are none
	prefix string         // of a module's points, before its number
	module []sunSpecPoint // offsets count from the module
}

// length is how many registers a point takes.
func (p *sunSpecPoint) length() int {
	switch p.kind {
	case "acc32", "float32", "bitfield32", "uint32", "int32":
		return 2
	case "acc64", "uint64":
		return 4
	case "string":
		return 16
	}
	return 1
}

// kind is what the model means; nil is unknown.
func (m SunSpecModel) kind() *sunSpecKind {
	for i := range sunSpecKinds {
		if slices.Contains(sunSpecKinds[i].ids, m.ID) {
			return &sunSpecKinds[i]
		}
	}
	return nil
}

// Known reports whether [SunSpecPoints] has points of the model.
func (m SunSpecModel) Known() bool { return m.kind() != nil }

// SunSpecPoints are the points of the models that are known, as lines of a device file's
// "points". The same thing has the name that it has in profiles; where a second model
// has it, too, it begins with that model's name.
func SunSpecPoints(models []SunSpecModel) []string {
	var lines []string
	taken := make(map[string]bool)
	add := func(m SunSpecModel, p sunSpecPoint, base int, prefix string) {
		if p.offset+p.length() > int(m.Length)+2 && base == int(m.Address) {
			return // an older version of the model is shorter
		}
		name := prefix + p.name
		if kind := m.kind(); taken[name] {
			name = kind.name + "_" + name
		}
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s_%d", strings.TrimRight(name, "_0123456789"), n)
		}
		taken[name] = true
		if p.factor >= int(m.Length)+2 {
			p.factor = 0 // an older version of the model has none
		}
		lines = append(lines, name+": {"+p.keys(int(m.Address), base)+"}")
	}
	for _, m := range models {
		kind := m.kind()
		if kind == nil {
			continue
		}
		for _, p := range kind.points {
			if p.phase <= slices.Index(kind.ids, m.ID)+1 || len(kind.ids) == 1 {
				add(m, p, int(m.Address), "")
			}
		}
		modules := min(int(m.Modules), (int(m.Length)+2-kind.first)/max(1, kind.stride))
		for n := range modules {
			for _, p := range kind.module {
				add(m, p, int(m.Address)+kind.first+n*kind.stride, fmt.Sprintf("%s%d_", kind.prefix, n+1))
			}
		}
	}
	return lines
}

// keys are the point's keys in a device file; its model begins at model, its offset
// counts from base.
func (p *sunSpecPoint) keys(model, base int) string {
	keys := []string{fmt.Sprintf("holding: %d", base+p.offset)}
	switch p.kind {
	case "int16":
		keys = append(keys, "type: int16", "no_value: 0x8000")
	case "uint16", "enum16":
		keys = append(keys, "no_value: 0xFFFF")
	case "bitfield16": // 0xFFFF is none, and so is no single bit of it
		if !strings.HasPrefix(p.more, "bit:") {
			keys = append(keys, "no_value: 0xFFFF")
		}
	case "acc32":
		keys = append(keys, "type: uint32")
	case "acc64":
		keys = append(keys, "type: uint64")
	case "uint32", "bitfield32":
		keys = append(keys, "type: uint32", "no_value: 0xFFFFFFFF")
	case "int32":
		keys = append(keys, "type: int32", "no_value: 0x80000000")
	case "uint64":
		keys = append(keys, "type: uint64", "no_value: 0xFFFFFFFFFFFFFFFF")
	case "float32": // one that is no number is no value
		keys = append(keys, "type: float32")
	case "string":
		keys = append(keys, "type: string, length: 16, every: 1h")
	}
	if p.factor != 0 {
		keys = append(keys, fmt.Sprintf("scale_from: %d", model+p.factor))
	}
	if p.unit != "" {
		keys = append(keys, fmt.Sprintf("unit: %q", p.unit))
	}
	if p.more != "" {
		keys = append(keys, p.more)
	}
	return strings.Join(keys, ", ")
}
