package modbus

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/gatehouse/gatehouse/drivers"
)

// The defaults and limits of a device file.
const (
	defaultTimeout = time.Second
	defaultUnit    = 1
	minTimeout     = time.Millisecond
	maxTimeout     = time.Minute
	maxPoints      = 10000
)

// deviceFile is a device file of the driver.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	Map            mapFile       `yaml:",inline"`
	Transport      transportFile `yaml:",inline"`
	Limits         limitsFile    `yaml:",inline"`
	// Unit is the unit identifier: 1 to 247, over TCP 0 to 255; 1 if absent.
	Unit *scalar `yaml:"unit"`
	// Timeout is from the end of a request to its answer, 1 ms to 1 minute; 1 s if
	// absent.
	Timeout time.Duration        `yaml:"timeout"`
	Points  map[string]pointFile `yaml:"points"`
}

// pointFile is a point: where it is, and how it becomes a value.
type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Table               tableFile `yaml:",inline"`
	// Write is single or multiple: with which functions the point is written; absent,
	// that is found out.
	Write string `yaml:"write"`
}

// scalar is a number as it is written: the YAML library would round 0.1 and cut 1.5
// to 1, and give errors without a place.
type scalar string

// UnmarshalYAML keeps the text. (Asked for its bytes, the library would walk the whole
// file for each number.)
func (s *scalar) UnmarshalYAML(node ast.Node) error {
	tok := node.GetToken()
	*s = scalar(strings.TrimSpace(tok.Value))
	if tok.Type == token.DoubleQuoteType || tok.Type == token.SingleQuoteType {
		*s = scalar(strconv.Quote(tok.Value)) // text is no number
	}
	return nil
}

// text is what was written, without quotes.
func (s *scalar) text() string {
	if plain, err := strconv.Unquote(string(*s)); err == nil {
		return plain
	}
	return string(*s)
}

// whole reads a decimal or, with 0x, a hexadecimal integer from low to high.
func (s *scalar) whole(name string, low, high int64) (int64, error) {
	digits, base := string(*s), 10
	if hex, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseInt(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s must be a whole number, not %s", name, *s)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%s must be %d to %d", name, low, high)
	}
	return n, nil
}

// pointSpec is a point, checked.
type pointSpec struct {
	drivers.Point
	span
	codec
	write  writing
	factor *span // the register with the power of ten that scales the point; nil is none
}

// deviceSpec is a device file, checked.
type deviceSpec struct {
	transport
	unit    uint8
	delay   time.Duration // see transportFile
	behind  *SerialConfig // the line behind a device server; nil is unknown
	timeout time.Duration
	limits  limits
	points  []pointSpec // by name
}

// decodeDevice reads a device file and the profile that it names. The error is a
// *drivers.ConfigError.
func decodeDevice(cfg drivers.Config, profiles fs.FS) (*deviceSpec, error) {
	var f deviceFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	if err := f.applyProfile(cfg, profiles); err != nil {
		return nil, err
	}
	s := &deviceSpec{unit: defaultUnit, timeout: defaultTimeout}
	var err error
	if s.transport, err = f.Transport.check(cfg); err != nil {
		return nil, err
	}
	s.delay = f.Transport.Delay
	if s.behind, err = f.Transport.behind(cfg, s.transport); err != nil {
		return nil, err
	}
	if s.unit, err = s.unitOf(cfg, f.Unit); err != nil {
		return nil, err
	}
	if f.Timeout != 0 && f.Timeout < minTimeout || f.Timeout > maxTimeout {
		return nil, cfg.Errorf("$.timeout", "timeout must be %v to %v", minTimeout, maxTimeout)
	}
	if f.Timeout > 0 {
		s.timeout = f.Timeout
	}
	if s.limits, err = f.Limits.check(cfg); err != nil {
		return nil, err
	}
	names, err := pointNames(cfg, f.Points)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := f.Points[name].check(cfg, name, f.Common)
		if err == nil {
			err = s.limits.fits(cfg, &p)
		}
		if err != nil {
			return nil, err
		}
		s.points = append(s.points, p)
	}
	return s, nil
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
	s.write = writing(p.Write)
	err := p.Table.resolve(&s)
	switch {
	case err != nil:
	case s.Writable:
		err = s.mayWrite()
	case s.write != "":
		err = wrongKey("write", "the point is not writable: add writable: true")
	}
	var at *keyError
	if errors.As(err, &at) {
		return s, cfg.Errorf(drivers.PointPath(name, at.key...), "%s", at.msg)
	}
	return s, err
}

// mayWrite refuses what no request can write.
func (s *pointSpec) mayWrite() error {
	switch {
	case s.write != "" && s.write != writeSingle && s.write != writeMultiple:
		return wrongKey("write", "write must be single (functions 5 and 6) or multiple (15 and 16)")
	case s.write == writeSingle && s.count > 1:
		return wrongKey("write", "%d registers cannot be written at once by function 6: leave write: single out", s.count)
	case s.fn == ReadDiscreteInputs || s.fn == ReadInputRegisters:
		return wrongKey("writable", "discrete inputs and input registers cannot be written")
	case !s.fn.bits() && s.count > maxWriteRegisters:
		return wrongKey("writable", "%d registers cannot be written at once, only %d", s.count, maxWriteRegisters)
	}
	return nil
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
