package modbus

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"

	"github.com/gatehouse/gatehouse/drivers"
)

// Options are what the driver needs of its surroundings.
type Options struct {
	// OpenSerial opens a serial port; its error names the port, and is fs.ErrNotExist if
	// that is not there. Nil is that there are no ports.
	OpenSerial func(ctx context.Context, c SerialConfig) (Port, error)
	// Appear waits until a port is plugged in, or was replaced by another; gone is that it
	// was not there. Nil is that nothing tells.
	Appear func(ctx context.Context, port string, gone bool) error
	// Dial connects to a TCP device; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Formula compiles the simulator's formulas; nil is that there are none.
	Formula drivers.Formula
	// Profiles has the register maps of real devices, one NAME.yaml each, which device
	// files name with "profile"; nil is that there are none.
	Profiles fs.FS
	// Log is for what concerns no single device; nil is nowhere.
	Log *slog.Logger
}

// Driver opens Modbus devices. It implements [drivers.Driver]; its methods may be
// called by any goroutine.
type Driver struct {
	opts Options

	mu      sync.Mutex         // guards what follows
	buses   map[string]*bus    // one an address that was ever used
	demands map[string]checked // by device: of the files that were checked last
}

// New returns the driver. It starts nothing.
func New(opts Options) (*Driver, error) {
	if opts.OpenSerial == nil {
		opts.OpenSerial = func(_ context.Context, c SerialConfig) (Port, error) {
			return nil, fmt.Errorf("cannot open port %q: there are no serial ports here", c.Port)
		}
	}
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{opts: opts, buses: map[string]*bus{}, demands: map[string]checked{}}, nil
}

// Check implements [drivers.Driver].
func (d *Driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	spec, err := decodeDevice(cfg, d.opts.Profiles)
	if err != nil {
		return nil, err
	}
	d.keep(cfg, newDemand(spec))
	return pointsOf(spec.points), nil
}

func pointsOf(specs []pointSpec) []drivers.Point {
	points := make([]drivers.Point, len(specs))
	for i, p := range specs {
		points[i] = p.Point
	}
	return points
}

// Open implements [drivers.Driver]. It connects to the device's bus, unless another
// device has done so, and asks the unit for one point: an exception is an answer,
// too. An error wraps [drivers.ErrLost] if the bus cannot be connected.
func (d *Driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	spec, err := decodeDevice(cfg, d.opts.Profiles)
	if err != nil {
		return nil, err
	}
	b, err := d.acquire(spec.transport)
	if err != nil {
		return nil, fmt.Errorf("cannot open unit %d: %w", spec.unit, err)
	}
	b.setDelay(spec.unit, spec.delay)
	dev := newDevice(spec, b)
	if cfg.Insist {
		dev.Insist()
	}
	if err := dev.probe(ctx); err != nil {
		b.release()
		return nil, fmt.Errorf("cannot open unit %d: %w", spec.unit, err)
	}
	return dev, nil
}

// busOf is the bus of a transport; mu is held.
func (d *Driver) busOf(t transport) *bus {
	b := d.buses[t.bus()]
	if b == nil {
		b = d.newBus(t)
		d.buses[t.bus()] = b
	}
	return b
}

// acquire gives the bus of a transport, running. The error is not that of a file, since
// it ends with the other device: who changes the speed of a line saves one file after
// the other.
func (d *Driver) acquire(t transport) (*bus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.busOf(t)
	if !b.setLine(t) {
		return nil, fmt.Errorf("another device has %s open with other settings", t.place())
	}
	b.acquire()
	return b, nil
}
