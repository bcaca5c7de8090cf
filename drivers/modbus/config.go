package modbus

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// The defaults of a device file; those of the line are the standard's (Modbus over
// Serial Line V1.02 §2.5.1).
const (
	defaultTimeout = time.Second
	defaultUnit    = 1
	defaultBaud    = 19200
	defaultPort    = "502"
	maxTimeout     = time.Minute
	maxSerialUnit  = 247
	maxPoints      = 10000
)

// deviceFile is a device file of the driver.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	// TCP is the host and perhaps the port (502) of a Modbus TCP device.
	TCP string `yaml:"tcp"`
	// Serial is the line of an RTU device.
	Serial *serialFile `yaml:"serial"`
	// Unit is the unit identifier: 1 to 247, over TCP 0 to 255; 1 if absent.
	Unit *whole `yaml:"unit"`
	// Timeout is from the end of a request to its answer; 1 s if absent.
	Timeout time.Duration        `yaml:"timeout"`
	Points  map[string]pointFile `yaml:"points"`
}

// serialFile is a serial line.
type serialFile struct {
	Port     string `yaml:"port"`
	Baud     *whole `yaml:"baud"`      // 19200 if absent
	Parity   string `yaml:"parity"`    // none, even (the default) or odd
	StopBits *whole `yaml:"stop_bits"` // 1 (the default) or 2
}

// pointFile is a point: where it is, and how it becomes a value.
type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Table               tableFile `yaml:",inline"`
}

// tableFile says which registers a point is; exactly one of the tables is set.
type tableFile struct {
	Coil     *whole `yaml:"coil"`
	Discrete *whole `yaml:"discrete"`
	Input    *whole `yaml:"input"`
	Holding  *whole `yaml:"holding"`
	Type     string `yaml:"type"`
	Order    string `yaml:"order"`
	Scale    *exact `yaml:"scale"`
	Offset   *exact `yaml:"offset"`
}

// whole is an integer; the YAML library would cut 1.5 to 1.
type whole int64

// UnmarshalYAML reads a decimal or, with 0x, a hexadecimal number.
func (w *whole) UnmarshalYAML(text []byte) error {
	s, base := strings.TrimSpace(string(text)), 10
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		s, base = hex, 16
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		return fmt.Errorf("%s is not a whole number", strings.TrimSpace(string(text)))
	}
	*w = whole(n)
	return nil
}

// exact is a number kept as it is written.
type exact struct{ decimal }

// UnmarshalYAML reads a decimal number.
func (e *exact) UnmarshalYAML(text []byte) (err error) {
	e.decimal, err = parseDecimal(strings.TrimSpace(string(text)))
	return err
}

// pointSpec is a point, checked.
type pointSpec struct {
	drivers.Point
	span
	codec
}

// deviceSpec is a device file, checked.
type deviceSpec struct {
	address string // host and port; "" is serial
	serial  SerialConfig
	unit    uint8
	timeout time.Duration
	points  []pointSpec // by name
}

// bus is the name of the bus that the device is on.
func (s *deviceSpec) bus() string {
	if s.address != "" {
		return "tcp " + s.address
	}
	return "serial " + s.serial.Port
}

// decodeDevice reads a device file. The error is a *drivers.ConfigError.
func decodeDevice(cfg drivers.Config) (*deviceSpec, error) {
	var f deviceFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &deviceSpec{unit: defaultUnit, timeout: defaultTimeout}
	if err := s.setLine(cfg, &f); err != nil {
		return nil, err
	}
	if f.Timeout < 0 || f.Timeout > maxTimeout {
		return nil, cfg.Errorf("$.timeout", "timeout must be up to %v", maxTimeout)
	}
	if f.Timeout > 0 {
		s.timeout = f.Timeout
	}
	names, err := pointNames(cfg, f.Points)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := f.Points[name].check(cfg, name, f.Common)
		if err != nil {
			return nil, err
		}
		s.points = append(s.points, p)
	}
	return s, nil
}

// setLine checks what leads to the device.
func (s *deviceSpec) setLine(cfg drivers.Config, f *deviceFile) error {
	lowest, highest := whole(0), whole(255)
	var err error
	switch {
	case (f.TCP == "") == (f.Serial == nil):
		return cfg.Errorf("$.driver", "a Modbus device needs either tcp or serial")
	case f.Serial != nil:
		lowest, highest = 1, maxSerialUnit
		s.serial, err = f.Serial.check(cfg)
	default:
		s.address, err = tcpAddress(f.TCP)
		if err != nil {
			err = cfg.Errorf("$.tcp", "%v", err)
		}
	}
	if err != nil || f.Unit == nil {
		return err
	}
	if *f.Unit < lowest || *f.Unit > highest {
		return cfg.Errorf("$.unit", "unit must be %d to %d", lowest, highest)
	}
	s.unit = uint8(*f.Unit)
	return nil
}

// tcpAddress checks a host with or without a port.
func tcpAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), defaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("%q is not a host and a port", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q is not a host and a port", s)
	}
	return net.JoinHostPort(host, port), nil
}

func (f *serialFile) check(cfg drivers.Config) (SerialConfig, error) {
	c := SerialConfig{Port: f.Port, Baud: defaultBaud, Parity: f.Parity, DataBits: 8, StopBits: 1}
	if c.Port == "" {
		return c, cfg.Errorf("$.serial", "serial needs a port")
	}
	if f.Baud != nil {
		if *f.Baud < 50 || *f.Baud > 10_000_000 {
			return c, cfg.Errorf("$.serial.baud", "baud must be 50 to 10000000")
		}
		c.Baud = int(*f.Baud)
	}
	if f.StopBits != nil {
		if *f.StopBits != 1 && *f.StopBits != 2 {
			return c, cfg.Errorf("$.serial.stop_bits", "stop_bits must be 1 or 2")
		}
		c.StopBits = int(*f.StopBits)
	}
	switch c.Parity {
	case "":
		c.Parity = "even"
	case "none", "even", "odd":
	default:
		return c, cfg.Errorf("$.serial.parity", "parity must be none, even or odd")
	}
	return c, nil
}

// pointNames checks the names of the points and sorts them.
func pointNames[P any](cfg drivers.Config, points map[string]P) ([]string, error) {
	if len(points) == 0 {
		return nil, cfg.Errorf("$.points", "the device has no points")
	}
	if len(points) > maxPoints {
		return nil, cfg.Errorf("$.points", "the device has %d points, more than %d", len(points), maxPoints)
	}
	names := slices.Sorted(maps.Keys(points))
	for _, name := range names {
		levels := strings.Split(name, "/")
		if slices.Contains(levels, "") || strings.ContainsAny(name, "+#\x00") {
			return nil, cfg.Errorf(drivers.PointPath(name), "%q cannot be the name of a point: it becomes topic levels", name)
		}
	}
	return names, nil
}

// check makes a point of what the file says.
func (p pointFile) check(cfg drivers.Config, name string, common drivers.Common) (pointSpec, error) {
	s := pointSpec{Point: p.Polled(name, common)}
	err := p.Table.resolve(&s)
	if err == nil && s.Writable && (s.fn == ReadDiscreteInputs || s.fn == ReadInputRegisters) {
		err = wrongKey("writable", "discrete inputs and input registers cannot be written")
	}
	var at *keyError
	if errors.As(err, &at) {
		return s, cfg.Errorf(drivers.PointPath(name, at.key...), "%s", at.msg)
	}
	return s, err
}

// keyError is what is wrong with a key of a point; no key is the point itself.
type keyError struct {
	key []string
	msg string
}

// Error gives the message without the place.
func (e *keyError) Error() string { return e.msg }

func wrongKey(key, format string, args ...any) error {
	e := &keyError{msg: fmt.Sprintf(format, args...)}
	if key != "" {
		e.key = []string{key}
	}
	return e
}

// resolve fills in where a point is and how it becomes a value. The error is a
// *keyError.
func (t tableFile) resolve(s *pointSpec) error {
	table, address := "", (*whole)(nil)
	for _, one := range []struct {
		name string
		at   *whole
		fn   Function
	}{
		{"coil", t.Coil, ReadCoils},
		{"discrete", t.Discrete, ReadDiscreteInputs},
		{"input", t.Input, ReadInputRegisters},
		{"holding", t.Holding, ReadHoldingRegisters},
	} {
		if one.at == nil {
			continue
		}
		if table != "" {
			return wrongKey(one.name, "a point has exactly one of coil, discrete, input and holding")
		}
		table, address, s.fn = one.name, one.at, one.fn
	}
	if table == "" {
		return wrongKey("", "a point needs one of coil, discrete, input and holding")
	}
	if err := t.setCodec(s); err != nil {
		return err
	}
	count := max(1, s.kind.size()/2)
	if *address < 0 || int64(*address) > int64(1<<16-count) {
		return wrongKey(table, "address %d is not 0 to %d", *address, 1<<16-count)
	}
	s.addr, s.count = uint16(*address), uint16(count)
	return nil
}

// setCodec checks how the point becomes a value.
func (t tableFile) setCodec(s *pointSpec) error {
	bits := s.fn.bits()
	if bits {
		s.kind = typeBool
	} else {
		s.kind = typeUint16
	}
	if t.Type != "" {
		kind, ok := typeNames[t.Type]
		if !ok {
			return wrongKey("type", "%q is none of bool, int16, uint16, int32, uint32, int64, uint64, float32, float64", t.Type)
		}
		if bits != (kind == typeBool) {
			return wrongKey("type", "coils and discrete inputs are bool, registers are numbers")
		}
		s.kind = kind
	}
	if t.Order != "" {
		order, ok := orderNames[t.Order]
		if !ok || bits || len(order) != s.kind.size() {
			return wrongKey("order", "order %q does not fit %v: AB for 16 bits, ABCD, CDAB, BADC or DCBA for 32, "+
				"ABCDEFGH, GHEFCDAB, BADCFEHG or HGFEDCBA for 64", t.Order, s.kind)
		}
		s.order = order
	}
	return t.setScale(s)
}

func (t tableFile) setScale(s *pointSpec) error {
	s.scale, s.offset = decimalOf(1, 0), decimalOf(0, 0)
	if t.Scale != nil {
		s.scale, s.scaled = t.Scale.decimal, true
	}
	if t.Offset != nil {
		s.offset, s.scaled = t.Offset.decimal, true
	}
	switch {
	case !s.scaled:
	case s.fn.bits():
		return wrongKey("", "a bool has no scale or offset")
	case s.scale.coefficient.Sign() == 0:
		return wrongKey("scale", "scale must not be 0")
	}
	return nil
}
