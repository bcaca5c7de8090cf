package modbus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/gatehouse/gatehouse/drivers"
)

// simFile is a device file of the simulator.
type simFile struct {
	drivers.Common `yaml:",inline"`
	// Listen is the loopback address and port of the server: "127.0.0.1:5020"; Frames
	// are tcp (the default), rtu or ascii: those of a line in a TCP stream.
	Listen string `yaml:"listen"`
	Frames string `yaml:"frames"`
	// Serial is a line on which the simulator is a unit, in place of listen.
	Serial *serialFile `yaml:"serial"`
	// Recording is a file that has what a device's wire was: the simulator answers as
	// that device did, and has no points. Timing is "recorded" (the default) or "none".
	Recording string `yaml:"recording"`
	Timing    string `yaml:"timing"`
	// Unit is the unit identifier that is answered, over TCP beside 0 and 255; 1 if
	// absent, those of the recording if there is one.
	Unit   *scalar                 `yaml:"unit"`
	Points map[string]simPointFile `yaml:"points"`
}

// simPointFile is a register of the simulator.
type simPointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Table               tableFile `yaml:",inline"`
	// Initial is the first value; 0 or false if absent.
	Initial *scalar `yaml:"initial"`
	// Formula gives the next value whenever the point is due.
	Formula string `yaml:"formula"`
}

// value reads a number, exactly, or true or false, or for a point that is text the
// text.
func (s *scalar) value(text bool) (drivers.Value, error) {
	if *s == "true" || *s == "false" {
		return drivers.BoolValue(*s == "true"), nil
	}
	v, err := drivers.ParseNumber(string(*s))
	if err != nil && text {
		return drivers.TextValue(s.text()), nil
	}
	if err != nil {
		return v, fmt.Errorf("%s is not a number, true or false", *s)
	}
	return v, nil
}

// simSpec is a device file of the simulator, checked.
type simSpec struct {
	place  place
	unit   uint8
	points []simPointSpec // by name
	tape   *tape          // nil is that the points are answered
	timed  bool           // the tape's answers take their time
}

// simPointSpec is a register of the simulator, checked.
type simPointSpec struct {
	pointSpec
	initial drivers.Value
	formula func(map[string]any) (any, error) // nil is none
}

// decodeSimulator reads a device file. The error is a *drivers.ConfigError.
func decodeSimulator(cfg drivers.Config, compile drivers.Formula) (*simSpec, error) {
	var f simFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &simSpec{}
	var err error
	if s.place, err = f.place(cfg); err != nil {
		return nil, err
	}
	if s.unit, err = s.place.serial.unitOf(cfg, f.Unit); err != nil {
		return nil, err
	}
	if f.Recording != "" {
		return s, s.setTape(cfg, &f)
	}
	if f.Timing != "" {
		return nil, cfg.Errorf("$.timing", "timing is for a recording")
	}
	names, err := pointNames(cfg, f.Points)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := f.Points[name].check(name, f.Common, compile)
		var at *keyError
		if errors.As(err, &at) {
			return nil, cfg.Errorf(drivers.PointPath(name, at.key...), "%s", at.msg)
		}
		if err != nil {
			return nil, err
		}
		for _, other := range s.points {
			if other.fn == p.fn && other.end() > int(p.addr) && p.end() > int(other.addr) {
				return nil, cfg.Errorf(drivers.PointPath(name), "the point shares registers with %q", other.Name)
			}
		}
		s.points = append(s.points, p)
	}
	return s, s.checkNames(cfg)
}

// place checks where clients find the simulator.
func (f *simFile) place(cfg drivers.Config) (p place, err error) {
	if f.Serial != nil {
		if f.Listen != "" || f.Frames != "" {
			return p, cfg.Errorf("$.listen", "a simulator has one of listen and serial")
		}
		p.serial.kind = kindSerial
		p.serial.serial, err = f.Serial.check(cfg)
		return p, err
	}
	if err := checkLoopback(f.Listen); err != nil {
		return p, cfg.Errorf("$.listen", "%v", err)
	}
	p.serial.kind = kindTCP
	listen := listenFile{Address: f.Listen, Frames: f.Frames}
	if p.listen, err = listen.check(cfg); err != nil {
		return p, cfg.Errorf("$.frames", "frames must be tcp, rtu or ascii") // all else was checked
	}
	return p, nil
}

// setTape reads the recording.
func (s *simSpec) setTape(cfg drivers.Config, f *simFile) error {
	switch {
	case len(f.Points) > 0:
		return cfg.Errorf("$.points", "a simulator has either points or a recording")
	case f.Timing != "" && f.Timing != "recorded" && f.Timing != "none":
		return cfg.Errorf("$.timing", "timing must be recorded or none, not %q", f.Timing)
	}
	s.timed = f.Timing != "none"
	file, err := os.Open(beside(cfg, f.Recording))
	if err != nil {
		return cfg.Errorf("$.recording", "the recording cannot be read: %v", err)
	}
	defer func() { _ = file.Close() }() // it was read
	if s.tape, err = readTape(f.Recording, file); err != nil {
		return cfg.Errorf("$.recording", "%v", err)
	}
	if f.Unit == nil {
		return nil
	}
	if s.tape.units[s.unit] == nil {
		return cfg.Errorf("$.unit", "there is no unit %d in the recording", s.unit)
	}
	s.tape.units = map[uint8]*taped{s.unit: s.tape.units[s.unit]}
	return nil
}

// checkNames refuses two points that formulas cannot tell apart, if there are any
// formulas.
func (s *simSpec) checkNames(cfg drivers.Config) error {
	if !slices.ContainsFunc(s.points, func(p simPointSpec) bool { return p.formula != nil }) {
		return nil
	}
	known := make(map[string]string, len(s.points))
	for _, p := range s.points {
		name := variable(p.Name)
		if other, ok := known[name]; ok {
			return cfg.Errorf(drivers.PointPath(p.Name), "the name is %s in formulas, as that of %q is", name, other)
		}
		known[name] = p.Name
	}
	return nil
}

// checkLoopback refuses an address that others than this machine reach.
func checkLoopback(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return errors.New("the simulator needs an address to listen on, such as 127.0.0.1:5020")
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not a loopback address: anyone could write to the simulator", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// check makes a register of what the file says. The error is a *keyError.
func (p simPointFile) check(name string, common drivers.Common, compile drivers.Formula) (simPointSpec, error) {
	s := simPointSpec{pointSpec: pointSpec{Point: p.Polled(name, common)}}
	if err := p.Table.resolve(&s.pointSpec); err != nil {
		return s, err
	}
	if s.factor != nil {
		return s, wrongKey("scale_from", "a register of one's own has a scale")
	}
	s.initial = s.zero()
	if p.Initial != nil {
		var err error
		if s.initial, err = p.Initial.value(s.zero().Kind() == drivers.Text); err != nil {
			return s, wrongKey("initial", "%v", err)
		}
	}
	if _, err := s.encodeRounded(s.initial, true); err != nil {
		return s, wrongKey("initial", "%v", err)
	}
	if p.Formula == "" {
		return s, nil
	}
	if compile == nil {
		return s, wrongKey("formula", "there are no formulas here")
	}
	var err error
	if s.formula, err = compile(p.Formula); err != nil {
		return s, wrongKey("formula", "%v", err)
	}
	return s, nil
}
