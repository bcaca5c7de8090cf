package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// maxAsked is how many writes of foreign clients may wait for the Host; with more,
	// clients wait.
	maxAsked = 64
	// askedTime is how long a client waits for what becomes of its write.
	askedTime = 3 * time.Second
)

var errNeverPolled = errors.New("a server is not read or written")

// Server returns the driver "modbus-server": topics as registers, for foreign clients.
func (d *Driver) Server() drivers.Driver {
	return serverDriver{driver: d}
}

// serverDriver opens servers.
type serverDriver struct{ driver *Driver }

// Check implements drivers.Driver.
func (d serverDriver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	spec, err := decodeServer(cfg)
	if err != nil {
		return nil, err
	}
	return pointsOf(spec.points), nil
}

// Open implements drivers.Driver: it listens, or opens the port.
func (d serverDriver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	spec, err := decodeServer(cfg)
	if err != nil {
		return nil, err
	}
	s := newServer(spec, d.driver.opts.Log)
	if err := s.open(ctx, d.driver, spec.place, s.admit, s.lost); err != nil {
		return nil, err
	}
	return s, nil
}

// server shows topics as registers. It implements drivers.Server.
type server struct {
	*station // what waits for the Host ends with it
	*registers
	spec  *serverSpec
	meter drivers.Meter
	log   *slog.Logger
	index map[string]int
	asked chan drivers.Asked
	ended sync.Once // that asked is closed
}

func newServer(spec *serverSpec, log *slog.Logger) *server {
	s := &server{
		station: newStation(), registers: newRegisters(spec.points), spec: spec, log: log,
		index: map[string]int{}, asked: make(chan drivers.Asked, maxAsked),
	}
	s.registers.identity = spec.identity
	s.registers.store = s.store
	for i, p := range spec.points {
		s.index[p.Name], s.codes[i] = i, spec.exception
	}
	return s
}

// lost tells that the line is gone: nothing more is asked.
func (s *server) lost(err error) {
	s.log.Warn("modbus server lost its line", "port", s.spec.place.serial.serial.Port, "err", err)
	s.finish()
}

// admit lets a client in, or the line.
func (s *server) admit(c net.Conn) (answerer, error) {
	if c == nil {
		return s.answerer(false), nil
	}
	who, readOnly, err := s.spec.place.listen.client(s.ctx, c)
	if err != nil {
		return nil, err
	}
	s.log.Debug("modbus client", "client", who, "readOnly", readOnly)
	return s.answerer(readOnly), nil
}

// answerer answers a client. On a line nobody answers for others.
func (s *server) answerer(readOnly bool) answerer {
	line := s.spec.place.line()
	return func(b []byte, unit uint8, pdu []byte) []byte {
		switch {
		case unit == s.spec.unit:
		case line && unit != broadcast:
			return b
		case !line && unit != 0 && unit != 255:
			return append(b, pdu[0]|exceptionBit, byte(GatewayPath))
		}
		out := s.registers.answer(b, pdu, readOnly)
		s.served(out[len(b):])
		return out
	}
}

// served counts a request, and the PDU that answers it, if there is one.
func (s *server) served(answer []byte) {
	s.meter.Count("requests", 1)
	if len(answer) == 0 {
		return
	}
	s.meter.Count("answers", 1)
	if len(answer) > 1 && answer[0]&exceptionBit != 0 {
		s.meter.Count(fmt.Sprintf("exception_%d", answer[1]), 1)
	}
}

// Metrics implements drivers.Metered: what clients asked of the server's unit.
func (s *server) Metrics() drivers.Metrics { return s.meter.Metrics() }

// Points implements drivers.Device.
func (s *server) Points() []drivers.Point { return pointsOf(s.spec.points) }

// Asked implements drivers.Server.
func (s *server) Asked() <-chan drivers.Asked { return s.asked }

// Read implements drivers.Device.
func (s *server) Read(context.Context, []string) ([]drivers.Reading, error) {
	return nil, errNeverPolled
}

// Write implements drivers.Device.
func (s *server) Write(context.Context, string, drivers.Value) error { return errNeverPolled }

// Close implements drivers.Device.
func (s *server) Close() error {
	s.stop()
	s.finish()
	return nil
}

// finish says that nothing more is asked. Nobody asks any more.
func (s *server) finish() { s.ended.Do(func() { close(s.asked) }) }

// Feed implements drivers.Server.
func (s *server) Feed(_ context.Context, readings []drivers.Reading) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range readings {
		i, ok := s.index[r.Point]
		if !ok {
			return fmt.Errorf("%w: %q", errNoPoint, r.Point)
		}
		s.codes[i] = s.spec.exception
		if r.Quality != drivers.Good {
			continue
		}
		if wire, err := s.points[i].encodeRounded(r.Value, true); err == nil {
			s.wires[i], s.codes[i] = wire, 0
		}
	}
	return nil
}

// Fits implements drivers.Fitter.
func (s *server) Fits(point string, v drivers.Value) error {
	i, ok := s.index[point]
	if !ok {
		return fmt.Errorf("%w: %q", errNoPoint, point)
	}
	_, err := s.points[i].encodeRounded(v, true)
	return err
}

// store is that of the registers: it asks the Host, and waits for its word.
func (s *server) store(to span, data, mask []byte) Code {
	asked, code := s.values(to, data, mask)
	if code != 0 {
		return code
	}
	done := make(chan error, 1)
	asked.Done = func(err error) { done <- err }
	timer := time.NewTimer(askedTime)
	defer timer.Stop()
	select {
	case s.asked <- asked:
	case <-timer.C:
		return DeviceBusy
	case <-s.ctx.Done():
		return DeviceFailure
	}
	select {
	case err := <-done:
		if err == nil {
			return 0
		}
		s.log.Info("modbus client's write refused", "address", to.addr, "err", err)
		return IllegalValue
	case <-timer.C:
	case <-s.ctx.Done():
	}
	return DeviceFailure
}

// values makes values of what a client writes. A part of a value is refused: what is
// published would be a value that nobody meant.
func (s *server) values(to span, data, mask []byte) (asked drivers.Asked, code Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	points, code := s.owned(to)
	if code != 0 {
		return asked, code
	}
	for _, i := range points {
		p := &s.points[i]
		if !to.covers(p.span) {
			return asked, IllegalValue
		}
		if mask != nil && s.codes[i] != 0 {
			return asked, s.codes[i] // the other bits are not known
		}
		if s.wires[i] == nil {
			s.wires[i] = make([]byte, max(1, 2*int(p.count)))
		}
		v, err := p.decode(s.written(i, to, data, mask))
		if err != nil || v.IsNull() {
			return asked, IllegalValue
		}
		asked.Writes = append(asked.Writes, drivers.Written{Point: p.Name, Value: v})
	}
	return asked, 0
}
