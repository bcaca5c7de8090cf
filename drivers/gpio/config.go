package gpio

import (
	"strconv"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// deviceFile is what a device file may say.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	// Chip is the chip of points that do not say so: "gpiochip0", or its label.
	Chip   string               `yaml:"chip"`
	Points map[string]pointFile `yaml:"points"`
}

type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Line                string        `yaml:"line"`
	Chip                string        `yaml:"chip"`
	Pull                string        `yaml:"pull"`
	ActiveLow           bool          `yaml:"active_low"`
	Debounce            time.Duration `yaml:"debounce"`
	Count               string        `yaml:"count"`
	Output              bool          `yaml:"output"`
	Initial             bool          `yaml:"initial"`
	Drive               string        `yaml:"drive"`
	Pulse               time.Duration `yaml:"pulse"`
}

// The words of a file, and what the kernel calls them.
var (
	pulls  = map[string]uint64{"": 0, "up": flagPullUp, "down": flagPullDown, "off": flagBiasDisabled}
	drives = map[string]uint64{"": 0, "push_pull": 0, "open_drain": flagOpenDrain, "open_source": flagOpenSource}
	counts = map[string]uint64{"rising": flagRising, "falling": flagFalling, "both": flagRising | flagFalling}
)

// Bounds of what a file may say.
const (
	mostDebounce  = 10 * time.Second
	leastDebounce = time.Microsecond
	leastPulse    = time.Millisecond
	mostPulse     = time.Hour
)

// line is a point of the file.
type line struct {
	drivers.Point
	chip, name string // name is a number on the chip, if it is one
	flags      uint64
	debounce   time.Duration
	counts     bool
	output     bool
	initial    bool
	pulse      time.Duration
}

func parse(cfg drivers.Config) ([]*line, error) {
	var file deviceFile
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	var all []*line
	claimed := make(map[[2]string]string)
	for _, name := range cfg.Keys("$.points") {
		l, err := parsePoint(cfg, name, file)
		if err != nil {
			return nil, err
		}
		at := [2]string{l.chip, l.name}
		if other, taken := claimed[at]; taken {
			return nil, cfg.Errorf(drivers.PointPath(name, "line"), "point %q: line %q is that of point %q already", name, l.name, other)
		}
		claimed[at] = name
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, cfg.Errorf("$", `the key "points" is missing or empty`)
	}
	return all, nil
}

func parsePoint(cfg drivers.Config, name string, file deviceFile) (*line, error) {
	f := file.Points[name]
	wrong := func(key, format string, args ...any) (*line, error) {
		return nil, cfg.Errorf(drivers.PointPath(name, key), "point %q: "+format, append([]any{name}, args...)...)
	}
	l := &line{chip: f.Chip, name: f.Line, debounce: f.Debounce, output: f.Output, initial: f.Initial, pulse: f.Pulse, counts: f.Count != ""}
	if l.chip == "" {
		l.chip = file.Chip
	}
	pull, knownPull := pulls[f.Pull]
	drive, knownDrive := drives[f.Drive]
	edges, knownCount := counts[f.Count]
	switch {
	case f.Line == "":
		return nil, cfg.Errorf(drivers.PointPath(name), `point %q: the key "line" is missing`, name)
	case isNumber(f.Line) && l.chip == "":
		return wrong("line", `a line by its number needs the key "chip"`)
	case !knownPull:
		return wrong("pull", "pull is up, down or off, not %q", f.Pull)
	case !knownDrive:
		return wrong("drive", "drive is push_pull, open_drain or open_source, not %q", f.Drive)
	case l.counts && !knownCount:
		return wrong("count", "count is rising, falling or both, not %q", f.Count)
	case f.Debounce != 0 && (f.Debounce < leastDebounce || f.Debounce > mostDebounce):
		return wrong("debounce", "debounce is %v to %v", leastDebounce, mostDebounce)
	case f.Pulse != 0 && (f.Pulse < leastPulse || f.Pulse > mostPulse):
		return wrong("pulse", "pulse is %v to %v", leastPulse, mostPulse)
	}
	if key := misplaced(f); key != "" {
		return wrong(key, "%s is for an %s", key, map[bool]string{true: "input", false: "output, which has output: true"}[f.Output])
	}
	f.Writable = f.Output
	if l.Point = f.Pushed(name); f.Every > 0 || file.Every > 0 {
		l.Point = f.Polled(name, file.Common)
	}
	l.flags = pull | drive
	if f.ActiveLow {
		l.flags |= flagActiveLow
	}
	switch {
	case l.output:
		l.flags |= flagOutput
	case l.counts:
		l.flags |= flagInput | edges
	default:
		l.flags |= flagInput | flagRising | flagFalling
	}
	return l, nil
}

// misplaced is a key that the direction has no use for.
func misplaced(f pointFile) string {
	switch {
	case f.Output && f.Debounce != 0:
		return "debounce"
	case f.Output && f.Count != "":
		return "count"
	case !f.Output && f.Initial:
		return "initial"
	case !f.Output && f.Drive != "":
		return "drive"
	case !f.Output && f.Pulse != 0:
		return "pulse"
	case !f.Output && f.Writable:
		return "writable"
	}
	return ""
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
