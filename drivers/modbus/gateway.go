package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Gateway returns the driver "modbus-gateway": foreign clients reach the units of a line,
// or of an address, through the bus of the devices there.
func (d *Driver) Gateway() drivers.Driver { return gatewayDriver{driver: d} }

// gatewayFile is a device file of the gateway.
type gatewayFile struct {
	drivers.Common `yaml:",inline"`
	// Transport is what leads to the units.
	Transport transportFile `yaml:",inline"`
	// Listen is where clients are served.
	Listen *listenFile `yaml:"listen"`
	// Timeout is from the end of a request to its answer; 1 s if absent.
	Timeout time.Duration `yaml:"timeout"`
	// Units are those that clients reach, as 3 or 10..19; all if absent.
	Units []scalar `yaml:"units"`
	// Functions are the function codes that clients may use; all if absent.
	Functions []scalar `yaml:"functions"`
	// ReadOnly leaves them the functions 1 to 4 and 43/14.
	ReadOnly bool `yaml:"read_only"`
}

// gatewaySpec is a device file of the gateway, checked.
type gatewaySpec struct {
	transport
	listen    listening
	timeout   time.Duration
	units     [256]bool
	functions [128]bool
}

// decodeGateway reads a device file. The error is a *drivers.ConfigError.
func decodeGateway(cfg drivers.Config) (*gatewaySpec, error) {
	var f gatewayFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &gatewaySpec{timeout: defaultTimeout}
	var err error
	if s.transport, err = f.Transport.check(cfg); err != nil {
		return nil, err
	}
	if f.Listen == nil {
		return nil, cfg.Errorf("$.driver", "a gateway needs listen: where clients are served")
	}
	if s.listen, err = f.Listen.check(cfg); err != nil {
		return nil, err
	}
	if f.Timeout != 0 && f.Timeout < minTimeout || f.Timeout > maxTimeout {
		return nil, cfg.Errorf("$.timeout", "timeout must be %v to %v", minTimeout, maxTimeout)
	}
	if f.Timeout > 0 {
		s.timeout = f.Timeout
	}
	if f.Transport.Delay != 0 {
		return nil, cfg.Errorf("$.delay", "a delay is a device's: each unit has its own")
	}
	if f.Transport.Line != nil {
		return nil, cfg.Errorf("$.line", "line is for devices, whose file tells how much of it they ask for")
	}
	if err := allow(cfg, "units", f.Units, s.units[:], 0); err != nil {
		return nil, err
	}
	if err := allow(cfg, "functions", f.Functions, s.functions[:], 1); err != nil {
		return nil, err
	}
	if f.ReadOnly {
		for fn := range s.functions {
			s.functions[fn] = s.functions[fn] && !Function(fn).writes()
		}
	}
	return s, nil
}

// allow reads a list of numbers and ranges; one that is absent is all.
func allow(cfg drivers.Config, key string, list []scalar, allowed []bool, low int) error {
	if list == nil {
		list = []scalar{scalar(fmt.Sprintf("%d..%d", low, len(allowed)-1))}
	}
	for i, text := range list {
		first, last, isRange := strings.Cut(string(text), "..")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if err != nil || errTo != nil || from < low || to < from || to >= len(allowed) {
			return cfg.Errorf(fmt.Sprintf("$.%s[%d]", key, i), "%s are numbers from %d to %d, or ranges such as 3..7, not %s", key, low, len(allowed)-1, text)
		}
		for n := from; n <= to; n++ {
			allowed[n] = true
		}
	}
	return nil
}

// gatewayDriver opens gateways.
type gatewayDriver struct{ driver *Driver }

// Check implements drivers.Driver. A gateway has no points.
func (d gatewayDriver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	_, err := decodeGateway(cfg)
	return nil, err
}

// Open implements drivers.Driver: it listens. The line is opened with the first request.
func (d gatewayDriver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	spec, err := decodeGateway(cfg)
	if err != nil {
		return nil, err
	}
	ln, err := spec.listen.listen(ctx)
	if err != nil {
		return nil, err
	}
	g, err := newGateway(d.driver, spec)
	if err != nil {
		_ = ln.Close() // nobody came
		return nil, err
	}
	g.net = newNetServer(ln, g.log, spec.listen.clients, g.admit)
	g.net.mode = spec.listen.mode
	g.net.start()
	return g, nil
}

// gateway passes requests of foreign clients on. It implements drivers.Device.
type gateway struct {
	*counters // of all units that its clients ask
	spec      *gatewaySpec
	bus       *bus
	log       *slog.Logger
	ctx       context.Context // ends with Close: requests under way do
	end       context.CancelFunc
	net       *netServer
}

func newGateway(d *Driver, spec *gatewaySpec) (*gateway, error) {
	b, err := d.acquire(spec.transport)
	if err != nil {
		return nil, fmt.Errorf("cannot open the gateway: %w", err)
	}
	g := &gateway{counters: &counters{}, spec: spec, bus: b, log: d.opts.Log}
	g.ctx, g.end = context.WithCancel(context.Background())
	return g, nil
}

// admit lets a client in.
func (g *gateway) admit(c net.Conn) (answerer, error) {
	who, readOnly, err := g.spec.listen.client(g.ctx, c)
	if err != nil {
		return nil, err
	}
	g.log.Debug("modbus client", "client", who, "readOnly", readOnly)
	return func(b []byte, unit uint8, pdu []byte) []byte { return g.answer(b, unit, pdu, readOnly) }, nil
}

// answer passes a request on and adds the answer to b. It may be called by any
// goroutine; each client has one request under way.
func (g *gateway) answer(b []byte, unit uint8, pdu []byte, readOnly bool) []byte {
	fn := Function(pdu[0])
	r := parseRequest(unit, pdu)
	switch {
	case fn == 0 || fn >= exceptionBit || !g.spec.functions[fn] || fn.writes() && readOnly:
		return append(b, byte(fn)|exceptionBit, byte(IllegalFunction))
	case !g.spec.units[unit], checkRequest(request{unit: unit, fn: fn, raw: true}, g.bus.rtu) != nil:
		return append(b, byte(fn)|exceptionBit, byte(GatewayPath))
	case r.raw && (fn.reads() || fn <= WriteSingleRegister), unit == broadcast && g.bus.rtu && r.gives():
		return append(b, byte(fn)|exceptionBit, byte(IllegalValue))
	}
	got, err := g.bus.ask(g.ctx, r, timing{timeout: g.spec.timeout, counters: g.counters})
	var e Exception
	switch {
	case err == nil && unit == broadcast && g.bus.rtu:
		return b
	case err == nil:
		return r.appendAnswer(b, got.data)
	case errors.As(err, &e):
		return append(b, byte(fn)|exceptionBit, byte(e.Code))
	case errors.Is(err, errQueueFull):
		return append(b, byte(fn)|exceptionBit, byte(DeviceBusy))
	case errors.Is(err, errSilent), errors.Is(err, errGarbled), errors.Is(err, errDead), errors.Is(err, drivers.ErrUncertain):
		return append(b, byte(fn)|exceptionBit, byte(GatewayNoResponse))
	}
	return append(b, byte(fn)|exceptionBit, byte(GatewayPath))
}

// Addr is the address that the gateway listens on.
func (g *gateway) Addr() net.Addr { return g.net.ln.Addr() }

// Points implements drivers.Device.
func (g *gateway) Points() []drivers.Point { return nil }

// Read implements drivers.Device.
func (g *gateway) Read(_ context.Context, names []string) ([]drivers.Reading, error) {
	if len(names) > 0 {
		return nil, fmt.Errorf("%w: %q", errNoPoint, names[0])
	}
	return nil, nil
}

// Write implements drivers.Device.
func (g *gateway) Write(_ context.Context, name string, _ drivers.Value) error {
	return fmt.Errorf("%w: %q", errNoPoint, name)
}

// Close implements drivers.Device.
func (g *gateway) Close() error {
	g.end()
	if g.net.stop() {
		g.bus.release()
	}
	return nil
}
