package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/internal/codec"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// closeTimeout bounds how long a plugin that ends waits for its devices.
const closeTimeout = 3 * time.Second

// server answers the gateway with the plugin's drivers.
type server struct {
	wire.UnimplementedDriverServer
	plugin Plugin
	log    *slog.Logger

	mu      sync.Mutex
	ended   bool
	devices map[uint64]*device // open, by the gateway's identifier
}

func newServer(p Plugin, log *slog.Logger) *server {
	return &server{plugin: p, log: log, devices: make(map[uint64]*device)}
}

// List implements wire.DriverServer.
func (s *server) List(context.Context, *wire.ListRequest) (*wire.ListReply, error) {
	return &wire.ListReply{
		Name:    s.plugin.Name,
		Version: s.plugin.Version,
		Drivers: slices.Sorted(maps.Keys(s.plugin.Drivers)),
	}, nil
}

// Check implements wire.DriverServer.
func (s *server) Check(_ context.Context, req *wire.CheckRequest) (*wire.CheckReply, error) {
	drv, err := s.driver(req.GetDriver())
	if err != nil {
		return nil, err
	}
	cfg, err := codec.ConfigFrom(req.GetConfig())
	if err != nil {
		return &wire.CheckReply{Error: codec.ErrorTo(err)}, nil
	}
	var points []drivers.Point
	err = s.guard("Check", cfg.Device, func() (err error) {
		points, err = drv.Check(cfg)
		return err
	})
	return &wire.CheckReply{Points: codec.PointsTo(points), Error: codec.ErrorTo(err)}, nil
}

// Open implements wire.DriverServer. A device that opens after the gateway has
// given up waiting is closed again.
func (s *server) Open(ctx context.Context, req *wire.OpenRequest) (*wire.OpenReply, error) {
	drv, err := s.driver(req.GetDriver())
	if err != nil {
		return nil, err
	}
	cfg, err := codec.ConfigFrom(req.GetConfig())
	if err != nil {
		return &wire.OpenReply{Error: codec.ErrorTo(err)}, nil
	}
	d := &device{name: cfg.Device, turn: make(chan struct{}, 1)}
	err = s.guard("Open", d.name, func() (err error) {
		d.dev, err = drv.Open(ctx, cfg)
		if err == nil && d.dev == nil {
			err = fmt.Errorf("driver %q opened no device", req.GetDriver())
		}
		return err
	})
	if err != nil {
		return &wire.OpenReply{Error: codec.ErrorTo(err)}, nil
	}
	if ctx.Err() != nil || !s.add(req.GetDevice(), d) {
		_ = s.close(d) // nobody is left to tell
		return nil, status.Error(codes.Canceled, "given up while opening")
	}
	return s.opened(req.GetDevice(), d)
}

func (s *server) opened(id uint64, d *device) (*wire.OpenReply, error) {
	reply := &wire.OpenReply{}
	err := s.guard("Points", d.name, func() error {
		reply.Points = codec.PointsTo(d.dev.Points())
		return nil
	})
	if err != nil {
		_ = s.close(s.remove(id)) // the panic is the error to tell
		return &wire.OpenReply{Error: codec.ErrorTo(err)}, nil
	}
	_, reply.Pushes = d.dev.(drivers.Pusher)
	return reply, nil
}

// Read implements wire.DriverServer.
func (s *server) Read(ctx context.Context, req *wire.ReadRequest) (*wire.ReadReply, error) {
	reply := &wire.ReadReply{}
	err := s.call(ctx, req.GetDevice(), "Read", func(dev drivers.Device) error {
		readings, err := dev.Read(ctx, req.GetPoints())
		reply.Readings = codec.ReadingsTo(readings)
		return err
	})
	reply.Error = codec.ErrorTo(err)
	return reply, nil
}

// Write implements wire.DriverServer.
func (s *server) Write(ctx context.Context, req *wire.WriteRequest) (*wire.WriteReply, error) {
	v, err := codec.ValueFrom(req.GetValue())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	err = s.call(ctx, req.GetDevice(), "Write", func(dev drivers.Device) error {
		return dev.Write(ctx, req.GetPoint(), v)
	})
	return &wire.WriteReply{Error: codec.ErrorTo(err)}, nil
}

// Close implements wire.DriverServer. It goes on closing when the gateway has given
// up waiting for it.
func (s *server) Close(_ context.Context, req *wire.CloseRequest) (*wire.CloseReply, error) {
	return &wire.CloseReply{Error: codec.ErrorTo(s.close(s.remove(req.GetDevice())))}, nil
}

// Pushed implements wire.DriverServer.
func (s *server) Pushed(req *wire.PushedRequest, stream grpc.ServerStreamingServer[wire.PushedReply]) error {
	s.mu.Lock()
	d := s.devices[req.GetDevice()]
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	pusher, ok := d.dev.(drivers.Pusher)
	if !ok {
		return status.Error(codes.FailedPrecondition, "device pushes nothing")
	}
	var words <-chan drivers.Pushed
	if err := s.guard("Pushed", d.name, func() error { words = pusher.Pushed(); return nil }); err != nil {
		return stream.Send(&wire.PushedReply{Error: codec.ErrorTo(err)})
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case p, ok := <-words:
			if !ok {
				return nil
			}
			reply := &wire.PushedReply{Readings: codec.ReadingsTo(p.Readings), Error: codec.ErrorTo(p.Err)}
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}
}

func (s *server) driver(name string) (drivers.Driver, error) {
	if drv := s.plugin.Drivers[name]; drv != nil {
		return drv, nil
	}
	return nil, status.Errorf(codes.NotFound, "plugin %q has no driver %q", s.plugin.Name, name)
}

// add registers an open device; it reports false when the plugin ends.
func (s *server) add(id uint64, d *device) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.devices[id] != nil {
		return false
	}
	s.devices[id] = d
	return true
}

func (s *server) remove(id uint64) *device {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[id]
	delete(s.devices, id)
	return d
}

// shutdown closes all devices and lets no other be opened. It waits for them, but
// no longer than closeTimeout. It may be called more than once.
func (s *server) shutdown() {
	s.mu.Lock()
	s.ended = true
	devices := s.devices
	s.devices = make(map[uint64]*device)
	s.mu.Unlock()

	var closing sync.WaitGroup
	for _, d := range devices {
		closing.Go(func() {
			if err := s.close(d); err != nil {
				s.log.Warn("cannot close device", "device", d.name, "error", err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		closing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		s.log.Warn("devices are late to close", "after", closeTimeout)
	}
}
