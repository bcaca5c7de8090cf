package gpio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
)

// Driver opens lines of GPIO chips. Its methods may be called by any goroutine.
type Driver struct {
	dev   string
	ioctl ioctl
}

// New returns the driver.
func New() *Driver { return &Driver{dev: "/dev", ioctl: systemCall} }

// Check implements drivers.Driver.
func (d *Driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	lines, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	return points(lines), nil
}

func points(lines []*line) []drivers.Point {
	all := make([]drivers.Point, len(lines))
	for i, l := range lines {
		all[i] = l.Point
	}
	return all
}

// Open implements drivers.Driver.
func (d *Driver) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	lines, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	chips, err := d.openChips()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range chips {
			_ = c.file.Close() // lines outlive it
		}
	}()
	dev := &device{
		lines: lines, held: make(map[string]*held, len(lines)),
		pushed: make(chan drivers.Pushed, 64), done: make(chan struct{}),
	}
	for _, l := range lines {
		h, err := d.hold(chips, l)
		if err != nil {
			_ = dev.Close() // the error at hand says more
			return nil, fmt.Errorf("point %q: %w", l.Name, err)
		}
		dev.held[l.Name] = h
	}
	for _, l := range lines {
		dev.start(dev.held[l.Name])
	}
	return dev, nil
}

func (d *Driver) hold(chips []*chip, l *line) (*held, error) {
	c, offset, err := find(chips, l)
	if err != nil {
		return nil, err
	}
	fd, err := c.request(l, offset)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Close ends Read
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot wait for line %q: %w", l.name, err)
	}
	return &held{line: l, fd: fd, file: os.NewFile(uintptr(fd), "GPIO line "+l.name), ioctl: d.ioctl, fire: make(chan bool, 1)}, nil
}

// held is a line that was requested.
type held struct {
	*line
	fd    int // of file, whose Fd method would make it blocking
	file  *os.File
	ioctl ioctl
	fire  chan bool // begins or ends a pulse; capacity 1

	mu    sync.Mutex // also held while a pulse begins or ends
	count uint64     // edges
	last  uint32     // the number of the last edge
}

// device is a set of lines.
type device struct {
	lines  []*line
	held   map[string]*held
	pushed chan drivers.Pushed
	done   chan struct{}
	wait   sync.WaitGroup
	once   sync.Once
	meter  drivers.Meter
}

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point { return points(d.lines) }

// Pushed implements drivers.Pusher.
func (d *device) Pushed() <-chan drivers.Pushed { return d.pushed }

// Metrics implements drivers.Metered: "edges" were heard, "missed_edges" came faster
// than they were taken, and are counted by their numbers alone.
func (d *device) Metrics() drivers.Metrics { return d.meter.Metrics() }

// start has a line tell what it is, and what becomes of it.
func (d *device) start(h *held) {
	d.wait.Go(func() {
		told := d.push(h.reading())
		switch {
		case h.output:
			d.pulses(h)
		case told:
			d.edges(h)
		}
	})
}

// push hands a reading over. It is false when the device is closed.
func (d *device) push(r drivers.Reading) bool {
	return d.tell(drivers.Pushed{Readings: []drivers.Reading{r}})
}

func (d *device) tell(p drivers.Pushed) bool {
	select {
	case d.pushed <- p:
		return true
	case <-d.done:
		return false
	}
}

// edges takes the edges of an input until the device is closed.
func (d *device) edges(h *held) {
	var events [64]lineEvent
	const size = int(unsafe.Sizeof(lineEvent{}))
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&events)), len(events)*size) // the kernel writes whole ones
	for {
		n, err := h.file.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				d.tell(drivers.Pushed{Err: fmt.Errorf("cannot hear line %q: %w: %w", h.name, err, drivers.ErrLost)})
			}
			return
		}
		if !d.take(h, events[:n/size]) {
			return
		}
	}
}

// take takes edges that came together. An input tells each of them; where one is
// missing it tells what the line is now instead.
func (d *device) take(h *held, events []lineEvent) bool {
	if len(events) == 0 {
		return true
	}
	last := events[len(events)-1]
	h.mu.Lock()
	moved := last.lineSeq - h.last // also beyond the turn of 32 bits
	h.count, h.last = h.count+uint64(moved), last.lineSeq
	count := h.count
	h.mu.Unlock()
	d.meter.Count("edges", uint64(moved))
	missed := uint64(moved) - min(uint64(moved), uint64(len(events)))
	if missed > 0 {
		d.meter.Count("missed_edges", missed)
	}
	switch {
	case h.counts:
		return d.push(drivers.Reading{Point: h.Name, Value: drivers.UintValue(count), At: wallTime(last.timestamp)})
	case missed > 0:
		return d.push(h.reading())
	}
	for _, e := range events {
		if !d.push(drivers.Reading{Point: h.Name, Value: drivers.BoolValue(e.id == eventRising), At: wallTime(e.timestamp)}) {
			return false
		}
	}
	return true
}

// wallTime is the time of a moment of CLOCK_MONOTONIC.
func wallTime(ns uint64) time.Time {
	now := time.Now()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return now
	}
	if ago := time.Duration(ts.Nano() - int64(ns)); ago >= 0 && ago < time.Hour {
		return now.Add(-ago)
	}
	return now
}

// pulses ends the pulses of an output until the device is closed, and the one that is
// then at hand.
func (d *device) pulses(h *held) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var over <-chan time.Time
	for {
		select {
		case on := <-h.fire:
			if over = nil; on {
				timer.Reset(h.pulse)
				over = timer.C
			}
		case <-over:
			over = nil
			ended, err := h.end()
			if !ended {
				continue // another one begins
			}
			r := drivers.Reading{Point: h.Name, At: time.Now(), Value: drivers.BoolValue(false), Err: err}
			if err != nil {
				r.Value, r.Quality = drivers.Value{}, drivers.Bad
			}
			if !d.push(r) {
				return
			}
		case <-d.done:
			select {
			case on := <-h.fire: // it was not taken up yet
				if over = nil; on {
					over = timer.C
				}
			default:
			}
			if over != nil {
				_ = h.set(false) // nobody hears of it any more
			}
			return
		}
	}
}

// begin begins a pulse, or ends it.
func (h *held) begin(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.set(on); err != nil {
		return err
	}
	select {
	case <-h.fire: // it was not looked at, and is of the past
	default:
	}
	h.fire <- on // there is room: nobody else sends
	return nil
}

// end ends a pulse whose time is over, unless another one has begun by now.
func (h *held) end() (ended bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.fire) > 0 {
		return false, nil
	}
	return true, h.set(false)
}

func (h *held) set(on bool) error {
	v := lineValues{mask: 1}
	if on {
		v.bits = 1
	}
	return h.ioctl(h.fd, setValues, unsafe.Pointer(&v))
}

// reading is what the line is now.
func (h *held) reading() drivers.Reading {
	r := drivers.Reading{Point: h.Name, At: time.Now()}
	if h.counts {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.Value = drivers.UintValue(h.count)
		return r
	}
	v := lineValues{mask: 1}
	if err := h.ioctl(h.fd, getValues, unsafe.Pointer(&v)); err != nil {
		r.Quality, r.Err = drivers.Bad, fmt.Errorf("cannot read line %q: %w", h.name, err)
		return r
	}
	r.Value = drivers.BoolValue(v.bits&1 == 1)
	return r
}

// Read implements drivers.Device.
func (d *device) Read(_ context.Context, names []string) ([]drivers.Reading, error) {
	all := make([]drivers.Reading, len(names))
	for i, name := range names {
		if h := d.held[name]; h != nil {
			all[i] = h.reading()
		} else {
			all[i] = drivers.Reading{Point: name, Quality: drivers.Bad, At: time.Now(), Err: fmt.Errorf("there is no point %q", name)}
		}
	}
	return all, nil
}

// Write implements drivers.Device.
func (d *device) Write(_ context.Context, name string, v drivers.Value) error {
	h := d.held[name]
	switch {
	case h == nil:
		return fmt.Errorf("there is no point %q", name)
	case !h.output:
		return fmt.Errorf("point %q is not writable", name)
	}
	on, ok := v.Bool()
	if n, whole := v.Int(); !ok || !whole || n < 0 || n > 1 {
		return fmt.Errorf("point %q: %s is neither true nor false", name, v)
	}
	set := h.set
	if h.pulse > 0 {
		set = h.begin
	}
	if err := set(on); err != nil {
		return fmt.Errorf("cannot set line %q: %w", h.name, err)
	}
	return nil
}

// Close implements drivers.Device.
func (d *device) Close() error {
	var errs []error
	d.once.Do(func() {
		close(d.done)
		for _, h := range d.held {
			if !h.output {
				errs = append(errs, h.file.Close()) // which ends its Read
			}
		}
		d.wait.Wait()
		for _, h := range d.held {
			if h.output {
				errs = append(errs, h.file.Close())
			}
		}
		close(d.pushed)
	})
	return errors.Join(errs...)
}
