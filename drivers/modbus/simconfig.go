package modbus

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/gatehouse/gatehouse/drivers"
)

// simFile is a device file of the simulator.
type simFile struct {
	drivers.Common `yaml:",inline"`
	// Listen is the loopback address and port of the server: "127.0.0.1:5020".
	Listen string `yaml:"listen"`
	// Unit is the unit identifier that is answered, beside 0 and 255; 1 if absent.
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
	listen string
	unit   uint8
	points []simPointSpec // by name
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
	s := &simSpec{listen: f.Listen, unit: defaultUnit}
	if err := checkLoopback(f.Listen); err != nil {
		return nil, cfg.Errorf("$.listen", "%v", err)
	}
	if f.Unit != nil {
		unit, err := f.Unit.whole("unit", 0, 255)
		if err != nil {
			return nil, cfg.Errorf("$.unit", "%v", err)
		}
		s.unit = uint8(unit)
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
