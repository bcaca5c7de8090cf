package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Options are what a [Driver] is made of. The zero value has no codecs.
type Options struct {
	// Codec compiles codecs, which are files that device files name; nil is that there
	// are none.
	Codec drivers.Codec
}

// Driver opens equipment on serial ports. Its methods may be called by any
// goroutine.
type Driver struct {
	opt Options

	mu    sync.Mutex
	lines map[string]*line // by port
}

// New returns the driver. It starts nothing.
func New(o Options) *Driver { return &Driver{opt: o, lines: make(map[string]*line)} }

func (d *Driver) understand(cfg drivers.Config) (*spec, error) {
	return understand(cfg, d.opt.Codec != nil)
}

// Includes implements drivers.Includer: the codec.
func (d *Driver) Includes(cfg drivers.Config) []string {
	var f deviceFile
	if err := cfg.Decode(&f); err != nil || f.Codec == "" {
		return nil // Check says what is wrong
	}
	return []string{f.Codec}
}

// Check implements drivers.Driver.
func (d *Driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	s, err := d.understand(cfg)
	if err != nil {
		return nil, err
	}
	coder, err := d.coder(s)
	if err != nil {
		return nil, cfg.Errorf("$.codec", "%v", err)
	}
	if coder != nil {
		if err := coder.Close(); err != nil {
			return nil, fmt.Errorf("cannot check the codec: %w", err)
		}
	}
	return s.list(), nil
}

// coder compiles the codec of a device; nil is none.
func (d *Driver) coder(s *spec) (drivers.Coder, error) {
	if s.codecFile == "" {
		return nil, nil
	}
	return d.opt.Codec(s.name, s.codecFile, s.codec)
}

// Open implements drivers.Driver. The device is a drivers.Pusher.
func (d *Driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	s, err := d.understand(cfg)
	if err != nil {
		return nil, err
	}
	dev := newDevice(d, s)
	if dev.coder, err = d.coder(s); err != nil {
		return nil, cfg.Errorf("$.codec", "%v", err)
	}
	if err := d.join(ctx, dev); err != nil {
		return nil, errors.Join(err, dev.closeCoder())
	}
	if err := dev.begin(ctx); err != nil {
		_ = dev.Close() // the error is the one above
		return nil, err
	}
	return dev, nil
}

// Await implements drivers.Awaiter: it waits for the port.
func (d *Driver) Await(ctx context.Context, cfg drivers.Config, why error) error {
	s, err := d.understand(cfg)
	if err != nil {
		return err
	}
	return Appear(ctx, s.port.Port, errors.Is(why, fs.ErrNotExist))
}

func (s *spec) list() []drivers.Point {
	all := make([]drivers.Point, len(s.points))
	for i, p := range s.points {
		all[i] = p.Point
	}
	return all
}

const (
	// pushedQueue is how many frames wait for the host. When it is full, a device that
	// has the line for itself and is never waited for is not read, and the system's
	// buffer of 4 KiB takes what comes; of others the oldest is dropped, and counted.
	pushedQueue = 64
	// halfLine is how soon after opening a line may begin that is not whole.
	halfLine = 30 * time.Millisecond
)

// device is one that shares a line.
type device struct {
	*spec
	driver *Driver
	line   *line
	hears  bool // it speaks by itself
	waits  bool // for an answer, or for what acknowledges a command
	meter  drivers.Meter

	frames reader // guarded by line.mu
	first  bool   // nothing was heard; likewise

	pushed  chan drivers.Pushed // closed by finish
	closing chan struct{}
	pushing sync.Mutex // held while something is sent to pushed, which closing ends
	done    bool       // pushed is closed; guarded by pushing

	talkedAt time.Time // the caller's
	silent   bool      // it does not answer; likewise
	probe    int       // which request is tried while it is silent; likewise

	coding sync.Mutex // held while coder is called
	coder  drivers.Coder

	mu   sync.Mutex
	told map[string]drivers.Reading // by point, since it was last written
}

func newDevice(d *Driver, s *spec) *device {
	dev := &device{
		spec:    s,
		driver:  d,
		frames:  s.reader,
		first:   true,
		pushed:  make(chan drivers.Pushed, pushedQueue),
		closing: make(chan struct{}),
		told:    make(map[string]drivers.Reading),
		waits:   s.talk.expect != nil,
	}
	for i := range s.points {
		dev.waits = dev.waits || s.points[i].asked() || s.points[i].expect != nil
		dev.hears = dev.hears || !s.points[i].asked()
	}
	return dev
}

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point { return d.list() }

// Pushed implements drivers.Pusher.
func (d *device) Pushed() <-chan drivers.Pushed { return d.pushed }

// Metrics implements drivers.Metered.
func (d *device) Metrics() drivers.Metrics { return d.meter.Metrics() }

// begin sends what the device is to hear first.
func (d *device) begin(ctx context.Context) error {
	if d.hears && len(d.talk.init) > 0 { // the answer must not be taken for the rest of half a line
		if err := d.line.wait(ctx, time.Until(d.line.opened.Add(halfLine))); err != nil {
			return err
		}
	}
	for _, b := range d.talk.init {
		if _, err := d.command(ctx, b, d.talk.expect); err != nil {
			return fmt.Errorf("cannot send %q after opening: %w", clip(string(b)), err)
		}
	}
	return nil
}

func (d *device) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.told, name)
}

func (d *device) note(readings []drivers.Reading) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range readings {
		d.told[r.Point] = r
	}
}

// Close implements drivers.Device.
func (d *device) Close() error {
	close(d.closing)
	err := d.driver.leave(d)
	d.finish()
	return errors.Join(err, d.closeCoder())
}

func (d *device) closeCoder() error {
	if d.coder == nil {
		return nil
	}
	d.coding.Lock()
	defer d.coding.Unlock()
	return d.coder.Close()
}

// push hands something to the host, or ends with the device.
func (d *device) push(p drivers.Pushed) {
	d.pushing.Lock()
	defer d.pushing.Unlock()
	if d.done {
		return
	}
	if d.waits || d.line.shared() {
		select {
		case d.pushed <- p:
			return
		default:
		}
		select {
		case <-d.pushed:
			d.meter.Count("dropped", 1)
		default:
		}
	}
	select {
	case d.pushed <- p:
	case <-d.closing:
	}
}

// finish ends what is pushed.
func (d *device) finish() {
	d.pushing.Lock()
	defer d.pushing.Unlock()
	if !d.done {
		d.done = true
		close(d.pushed)
	}
}

// hear takes a frame that came by itself, or what was none.
func (d *device) hear(h heard) {
	err := h.err
	var readings []drivers.Reading
	if err == nil {
		d.meter.Count("frames", 1)
		readings, err = d.readings(h.frame, time.Now(), (*point).unasked)
	}
	switch {
	case err != nil:
		d.meter.Count(kindOf(err), 1)
		if d.hears {
			d.push(drivers.Pushed{Err: err})
		}
	case len(readings) > 0:
		d.note(readings)
		d.push(drivers.Pushed{Readings: readings})
	}
}

// kindOf is the counter of what is wrong with what came.
func kindOf(err error) string {
	switch {
	case errors.Is(err, errChecksum):
		return "checksum_errors"
	case errors.Is(err, errTooLong):
		return "too_long"
	case errors.Is(err, errBroken):
		return "broken_frames"
	case errors.Is(err, errNoise):
		return "noise"
	}
	return "not_understood"
}

// shared reports whether the line has more than one device.
func (l *line) shared() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.devices) > 1
}
