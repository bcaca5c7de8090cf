package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Driver opens line-framed serial equipment. Its methods may be called by any
// goroutine.
type Driver struct{}

// New returns the driver.
func New() *Driver { return &Driver{} }

// Check implements drivers.Driver.
func (*Driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	s, err := understand(cfg)
	if err != nil {
		return nil, err
	}
	return s.list(), nil
}

// Open implements drivers.Driver. The device is a drivers.Pusher.
func (*Driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	s, err := understand(cfg)
	if err != nil {
		return nil, err
	}
	port, err := Open(ctx, s.port)
	if err != nil {
		return nil, err
	}
	d := &device{
		spec:    s,
		port:    port,
		frames:  s.reader,
		opened:  time.Now(),
		pushed:  make(chan drivers.Pushed, pushedQueue),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		told:    make(map[string]drivers.Reading),
	}
	go d.listen()
	return d, nil
}

// Await implements drivers.Awaiter: it waits for the port.
func (*Driver) Await(ctx context.Context, cfg drivers.Config, why error) error {
	s, err := understand(cfg)
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
	// pushedQueue is how many lines wait for the host. When it is full the device
	// is not read, and the system's buffer of 4 KiB takes what comes.
	pushedQueue = 64
	// halfLine is how soon after opening a line may begin that is not whole.
	halfLine = 30 * time.Millisecond
)

// device is an open port and the goroutine that listens to it.
type device struct {
	*spec
	port    *Port
	frames  reader // the listener's
	opened  time.Time
	pushed  chan drivers.Pushed // closed by listen
	closing chan struct{}
	ended   chan struct{}

	mu   sync.Mutex
	told map[string]drivers.Reading // by point, since it was last written
}

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point { return d.list() }

// Pushed implements drivers.Pusher.
func (d *device) Pushed() <-chan drivers.Pushed { return d.pushed }

// Read implements drivers.Device: it gives what the points were last told to be,
// if that was after they were last written.
func (d *device) Read(_ context.Context, points []string) ([]drivers.Reading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []drivers.Reading
	for _, name := range points {
		if r, ok := d.told[name]; ok {
			all = append(all, r)
		}
	}
	return all, nil
}

// Write implements drivers.Device.
func (d *device) Write(ctx context.Context, name string, v drivers.Value) error {
	i, known := d.index[name]
	switch {
	case !known:
		return fmt.Errorf("there is no point %q", name)
	case !d.points[i].Writable:
		return fmt.Errorf("point %q is not writable", name)
	case ctx.Err() != nil:
		return fmt.Errorf("cannot write point %q: %w", name, ctx.Err())
	}
	p := &d.points[i]
	v, err := p.accept(v)
	var text string
	if err == nil {
		text, err = p.write.text(name, p.words.text(v))
	}
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	send := []byte(text)
	if !d.raw {
		if send, err = d.reader.encode(nil, send); err != nil {
			return fmt.Errorf("cannot write point %q: %w", name, err)
		}
	}
	d.forget(name)
	if _, err := d.port.Write(send); err != nil {
		return err
	}
	if p.assume {
		d.note([]drivers.Reading{{Point: name, Value: v, At: time.Now()}})
	}
	return nil
}

// accept makes a written value one of the point's type.
func (p *point) accept(v drivers.Value) (drivers.Value, error) {
	_, number := v.Float()
	switch {
	case v.Kind() == drivers.Text && len(p.words) > 0:
		if meant, ok := p.words.meaning(v.String()); ok {
			return meant, nil
		}
	case v.IsNull():
		return v, errors.New("null cannot be sent")
	}
	if p.words.closed(p.kind) {
		meant, ok := p.words.value(v)
		if !ok {
			return v, fmt.Errorf("%q is none of the values %s", clip(v.String()), p.words.meanings())
		}
		return meant, nil
	}
	switch p.kind {
	case typeNumber:
		if !number || v.Kind() == drivers.Bool {
			return v, fmt.Errorf("%s is not a number", v)
		}
	case typeBool:
		b, ok := v.Bool()
		if !ok {
			return v, fmt.Errorf("%s is not true or false", v)
		}
		return drivers.BoolValue(b), nil
	case typeText:
		return drivers.TextValue(v.String()), nil
	}
	return v, nil
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
	err := d.port.Close()
	<-d.ended
	return err
}

// listen reads the port until it is closed or lost.
func (d *device) listen() {
	defer close(d.ended)
	defer close(d.pushed)
	defer func() {
		if p := recover(); p != nil {
			d.push(drivers.Pushed{Err: fmt.Errorf("the driver panicked: %v\n%s: %w", p, debug.Stack(), drivers.ErrLost)})
		}
	}()
	bad := func(err error) { d.push(drivers.Pushed{Err: err}) }
	buf := make([]byte, 1024)
	for first := true; ; {
		_ = d.port.SetReadTimeout(d.patience()) // it never fails
		n, err := d.port.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				d.push(drivers.Pushed{Err: err})
			}
			return
		}
		if n == 0 {
			d.frames.silence(d.frame, bad)
			continue
		}
		if first {
			first = false
			if time.Since(d.opened) < halfLine {
				d.frames.skip()
			}
		}
		d.frames.feed(buf[:n], d.frame, bad)
	}
}

// patience is how long to wait for more of a frame.
func (d *device) patience() time.Duration {
	if d.frames.gap > 0 && d.frames.waits() {
		return d.frames.gap
	}
	return time.Hour
}

// push hands something to the host, or ends with the device.
func (d *device) push(p drivers.Pushed) {
	select {
	case d.pushed <- p:
	case <-d.closing:
	}
}

// frame takes what one frame says.
func (d *device) frame(line []byte) {
	readings, err := d.readings(line, time.Now())
	if err != nil {
		d.push(drivers.Pushed{Err: err})
		return
	}
	d.note(readings)
	d.push(drivers.Pushed{Readings: readings})
}

// readings is what a line says.
func (s *spec) readings(line []byte, now time.Time) ([]drivers.Reading, error) {
	if err := readable(line); err != nil {
		return nil, err
	}
	find, err := s.parse(line)
	if err != nil {
		return nil, err
	}
	var all []drivers.Reading
	for i := range s.points {
		p := &s.points[i]
		f, ok := find(p.field)
		if !ok {
			continue
		}
		r := drivers.Reading{Point: p.Name, At: now}
		if r.Value, r.Err = convert(f, p.kind, p.words); r.Err != nil {
			r.Quality = drivers.Bad
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, errors.New("the line has no field of a point")
	}
	return all, nil
}
