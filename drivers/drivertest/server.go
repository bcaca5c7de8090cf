package drivertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Server is a driver whose devices show topics to nobody but the test: it keeps what
// the Host feeds it, and asks what the test has it ask. A device file of it has points
// with the keys of drivers.FeedCommon and drivers.PointCommon. All methods may be
// called by any goroutine.
type Server struct {
	mu      sync.Mutex
	shown   map[string]drivers.Reading // by DEVICE/POINT
	open    map[string]*serverDevice   // by device
	fail    error
	changed chan struct{} // closed and replaced with each change
}

// NewServer returns the driver.
func NewServer() *Server {
	return &Server{shown: make(map[string]drivers.Reading), open: make(map[string]*serverDevice), changed: make(chan struct{})}
}

type serverPoint struct {
	drivers.PointCommon `yaml:",inline"`
	drivers.FeedCommon  `yaml:",inline"`
}

type serverFile struct {
	drivers.Common `yaml:",inline"`
	Points         map[string]serverPoint `yaml:"points"`
}

// Check implements drivers.Driver.
func (s *Server) Check(cfg drivers.Config) ([]drivers.Point, error) {
	var file serverFile
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	var points []drivers.Point
	for _, name := range cfg.Keys("$.points") {
		p := file.Points[name]
		if p.Topic == "" {
			return nil, cfg.Errorf(drivers.PointPath(name), "point %q needs a topic", name)
		}
		points = append(points, p.Fed(name, p.PointCommon))
	}
	return points, nil
}

// Open implements drivers.Driver.
func (s *Server) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	points, err := s.Check(cfg)
	if err != nil {
		return nil, err
	}
	d := &serverDevice{server: s, name: cfg.Device, points: points, asked: make(chan drivers.Asked), closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[cfg.Device] = d
	s.change()
	return d, nil
}

// change wakes who waits. s.mu is held.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Shown is what a foreign client of a device would see of a point.
func (s *Server) Shown(device, point string) drivers.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[device+"/"+point]
}

// WaitShown waits, at most 10 s, until a point shows a value of a quality.
func (s *Server) WaitShown(t testing.TB, device, point, value string, q drivers.Quality) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		changed, r := s.changed, s.shown[device+"/"+point]
		s.mu.Unlock()
		if r.Point != "" && r.Value.String() == value && r.Quality == q {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited 10 s for %s/%s to be %s %v, it is %+v", device, point, value, q, r)
		}
	}
}

// Fail has Feed return an error; nil ends that.
func (s *Server) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Ask writes as a foreign client of an open device would, and returns what became of
// it.
func (s *Server) Ask(device string, writes ...drivers.Written) error {
	s.mu.Lock()
	d := s.open[device]
	s.mu.Unlock()
	if d == nil {
		return errors.New("the device is not open")
	}
	done := make(chan error, 1)
	select {
	case d.asked <- drivers.Asked{Writes: writes, Done: func(err error) { done <- err }}:
	case <-d.closed:
		return errors.New("the device is closed")
	}
	select {
	case err := <-done:
		return err
	case <-d.closed:
		return errors.New("the device was closed meanwhile")
	}
}

// End has an open device end by itself.
func (s *Server) End(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.open[device]; d != nil {
		d.end.Do(func() { close(d.asked) })
	}
}

type serverDevice struct {
	server *Server
	name   string
	points []drivers.Point
	asked  chan drivers.Asked
	closed chan struct{}
	end    sync.Once
}

var _ drivers.Server = (*serverDevice)(nil)

// Points implements drivers.Device.
func (d *serverDevice) Points() []drivers.Point { return d.points }

// Read implements drivers.Device.
func (d *serverDevice) Read(context.Context, []string) ([]drivers.Reading, error) {
	return nil, errors.New("a device that shows topics is not read")
}

// Write implements drivers.Device.
func (d *serverDevice) Write(context.Context, string, drivers.Value) error {
	return errors.New("a device that shows topics is not written")
}

// Feed implements drivers.Server.
func (d *serverDevice) Feed(_ context.Context, readings []drivers.Reading) error {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, r := range readings {
		s.shown[d.name+"/"+r.Point] = r
	}
	s.change()
	return nil
}

// Asked implements drivers.Server.
func (d *serverDevice) Asked() <-chan drivers.Asked { return d.asked }

// Close implements drivers.Device.
func (d *serverDevice) Close() error {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[d.name] == d {
		delete(s.open, d.name)
	}
	close(d.closed)
	d.end.Do(func() { close(d.asked) })
	s.change()
	return nil
}
