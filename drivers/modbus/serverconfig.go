package modbus

import (
	"errors"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxIdentity is how long a text of the identity may be, so that all fit in one answer.
const maxIdentity = 32

// serverFile is a device file of the server.
type serverFile struct {
	drivers.Common `yaml:",inline"`
	// Listen is where TCP clients are served, Serial the line on which the server is a
	// unit; exactly one is set.
	Listen *listenFile `yaml:"listen"`
	Serial *serialFile `yaml:"serial"`
	Echo   *bool       `yaml:"echo"` // as of a device
	// Unit is the unit identifier that is answered, over TCP beside 0 and 255; 1 if
	// absent.
	Unit *scalar `yaml:"unit"`
	// Exception is the code that answers for a value that is too old, was never heard,
	// or does not fit: 4 (server device failure) if absent, 6 (busy) or 11.
	Exception *scalar                    `yaml:"exception"`
	Identity  serverIdentity             `yaml:"identity"`
	Points    map[string]serverPointFile `yaml:"points"`
}

// serverIdentity is what function 43/14 tells.
type serverIdentity struct {
	Vendor   string `yaml:"vendor"`   // Gatehouse if absent
	Product  string `yaml:"product"`  // modbus-server if absent
	Revision string `yaml:"revision"` // 1 if absent
}

// serverPointFile is registers that show a topic.
type serverPointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Feed                drivers.FeedCommon `yaml:",inline"`
	Table               tableFile          `yaml:",inline"`
}

// serverSpec is a device file of the server, checked.
type serverSpec struct {
	place     place
	unit      uint8
	exception Code
	identity  []string
	points    []pointSpec // by name
}

// decodeServer reads a device file. The error is a *drivers.ConfigError.
func decodeServer(cfg drivers.Config) (*serverSpec, error) {
	var f serverFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &serverSpec{exception: DeviceFailure}
	if err := s.setPlace(cfg, &f); err != nil {
		return nil, err
	}
	var err error
	if s.unit, err = s.place.serial.unitOf(cfg, f.Unit); err != nil {
		return nil, err
	}
	if f.Exception != nil {
		n, err := f.Exception.whole("exception", 4, 11)
		if err == nil && n != int64(DeviceFailure) && n != int64(DeviceBusy) && n != int64(GatewayNoResponse) {
			err = errors.New("exception must be 4 (server device failure), 6 (server device busy) or 11 (no answer behind the gateway)")
		}
		if err != nil {
			return nil, cfg.Errorf("$.exception", "%v", err)
		}
		s.exception = Code(n)
	}
	s.identity = []string{f.Identity.Vendor, f.Identity.Product, f.Identity.Revision, "", "", cfg.Device}
	for i, other := range []string{"Gatehouse", "modbus-server", "1"} {
		if s.identity[i] == "" {
			s.identity[i] = other
		}
	}
	for i, text := range s.identity {
		s.identity[i] = text[:min(len(text), maxIdentity)]
	}
	return s, s.setPoints(cfg, &f)
}

// setPlace checks where the server is found.
func (s *serverSpec) setPlace(cfg drivers.Config, f *serverFile) (err error) {
	switch {
	case (f.Listen == nil) == (f.Serial == nil):
		return cfg.Errorf("$.driver", "%v", errNoPlace)
	case f.Listen != nil:
		s.place.serial.kind = kindTCP
		s.place.listen, err = f.Listen.check(cfg)
		return err
	}
	s.place.serial.kind = kindSerial
	if s.place.serial.serial, err = f.Serial.check(cfg); err != nil {
		return err
	}
	if f.Echo != nil {
		s.place.serial.echo = map[bool]echo{true: echoYes, false: echoNo}[*f.Echo]
	}
	return nil
}

func (s *serverSpec) setPoints(cfg drivers.Config, f *serverFile) error {
	names, err := pointNames(cfg, f.Points)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := f.Points[name]
		spec := pointSpec{Point: p.Feed.Fed(name, p.PointCommon)}
		err := p.Table.resolve(&spec)
		if err == nil && p.Feed.Topic == "" {
			err = wrongKey("", "a point of a server needs the topic that it shows")
		}
		if err == nil && p.Table.ScaleFrom != nil {
			err = wrongKey("scale_from", "a point of a server has no scale factor: give it scale, and what shows the factor a point of its own")
		}
		if err == nil && spec.Writable && (spec.fn == ReadDiscreteInputs || spec.fn == ReadInputRegisters) {
			err = wrongKey("writable", "discrete inputs and input registers cannot be written")
		}
		var at *keyError
		if errors.As(err, &at) {
			return cfg.Errorf(drivers.PointPath(name, at.key...), "%s", at.msg)
		}
		for i := range s.points {
			if other := &s.points[i]; other.fn == spec.fn && other.end() > int(spec.addr) && spec.end() > int(other.addr) {
				return cfg.Errorf(drivers.PointPath(name), "the point shares registers with %q", other.Name)
			}
		}
		s.points = append(s.points, spec)
	}
	return nil
}
