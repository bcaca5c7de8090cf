package serial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// line is an open port, the devices that share it, and the goroutine that listens.
type line struct {
	name   string
	config PortConfig
	echo   bool
	port   *Port
	opened time.Time
	turn   turn
	users  int           // guarded by Driver.mu
	ended  chan struct{} // closed by listen
	taps   drivers.Taps

	mu       sync.Mutex
	devices  []*device
	asking   *exchange // nil between exchanges
	echoed   []byte    // what was sent and is to come back
	heardAt  time.Time // when something came last
	lastAt   time.Time // when the last exchange ended
	waryTill time.Time // an answer that was given up may come until then
	lost     error     // why the port is gone
}

// turn is whose turn it is: one after the other, writes before requests.
type turn struct {
	mu      sync.Mutex
	taken   bool
	waiting [2][]chan struct{} // urgent, other; at most one a device
}

// take waits for the turn.
func (t *turn) take(ctx context.Context, urgent bool) error {
	queue := 1
	if urgent {
		queue = 0
	}
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting[queue] = append(t.waiting[queue], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, c := range t.waiting[queue] {
		if c == mine {
			t.waiting[queue] = append(t.waiting[queue][:i], t.waiting[queue][i+1:]...)
			return ctx.Err()
		}
	}
	t.pass() // it has come by now
	return ctx.Err()
}

// give gives the turn to who waits longest.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turn) pass() {
	for i := range t.waiting {
		if len(t.waiting[i]) > 0 {
			next := t.waiting[i][0]
			t.waiting[i] = t.waiting[i][1:]
			close(next)
			return
		}
	}
	t.taken = false
}

// join has a device share the line of its port, which is opened for the first one.
func (d *Driver) join(ctx context.Context, dev *device) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lines[dev.port.Port]; l != nil {
		return l.join(dev)
	}
	port, err := Open(ctx, dev.port)
	if err != nil {
		return err
	}
	l := &line{
		name: dev.port.Port, config: dev.port, echo: dev.echo, port: port, opened: time.Now(),
		users: 1, devices: []*device{dev}, ended: make(chan struct{}),
	}
	d.lines[l.name], dev.line = l, l
	go l.listen(func() { d.forget(l) }) // what is there already is the device's
	return nil
}

// join adds a device to a line that is open. The caller holds Driver.mu.
func (l *line) join(dev *device) error {
	if l.config != dev.port || l.echo != dev.echo {
		return fmt.Errorf("cannot open port %q: another device has it open with other settings", l.name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	l.users++
	l.devices, dev.line = append(l.devices, dev), l
	return nil
}

// forget has the next device open the port anew.
func (d *Driver) forget(l *line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lines[l.name] == l {
		delete(d.lines, l.name)
	}
}

// leave takes a device off its line; the last one closes the port.
func (d *Driver) leave(dev *device) error {
	l := dev.line
	l.mu.Lock()
	for i, other := range l.devices {
		if other == dev {
			l.devices = append(l.devices[:i:i], l.devices[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	d.mu.Lock()
	l.users--
	last := l.users == 0
	if last && d.lines[l.name] == l {
		delete(d.lines, l.name)
	}
	d.mu.Unlock()
	if !last {
		return nil
	}
	err := l.port.Close()
	<-l.ended
	return err
}

// heard is what one device heard, to be told without a lock.
type heard struct {
	dev   *device
	frame []byte
	err   error
}

// listen reads the port until it is closed or lost.
func (l *line) listen(forget func()) {
	defer close(l.ended)
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the driver panicked: %v\n%s: %w", p, debug.Stack(), drivers.ErrLost)
		}
		forget()
		_ = l.port.Close() // who opens it anew must not find it in use
		l.end(err)
	}()
	buf := make([]byte, 1024)
	for {
		_ = l.port.SetReadTimeout(l.patience()) // it never fails
		var n int
		if n, err = l.port.Read(buf); err != nil {
			return
		}
		at := time.Now()
		for _, h := range l.hear(buf[:n], at) {
			h.dev.hear(h)
		}
	}
}

// end tells all that the port is gone.
func (l *line) end(err error) {
	if err == nil {
		err = drivers.ErrLost
	}
	l.mu.Lock()
	l.lost = err
	devices := append([]*device(nil), l.devices...)
	l.mu.Unlock()
	l.taps.Close()
	for _, dev := range devices {
		if !errors.Is(err, os.ErrClosed) {
			dev.push(drivers.Pushed{Err: err})
		}
		dev.finish()
	}
}

// patience is how long to wait for more of a frame.
func (l *line) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := time.Hour
	for _, dev := range l.devices {
		if dev.frames.gap > 0 && dev.frames.waits() {
			wait = min(wait, dev.frames.gap)
		}
	}
	return wait
}

// hear has each device that listens take what came; nothing is a silence. It returns
// what they heard.
func (l *line) hear(b []byte, at time.Time) (all []heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	silent := at.Sub(l.heardAt)
	if len(b) > 0 {
		l.taps.Tell(at, false, b)
		l.heardAt = at
		if b = l.withoutEcho(b); len(b) == 0 {
			return nil
		}
	}
	for _, dev := range l.devices {
		asking := l.asking != nil && l.asking.dev == dev
		if !dev.hears && !asking {
			continue
		}
		got := func(frame []byte) {
			if asking && !at.Before(l.asking.began) && l.asking.offer(frame) {
				return
			}
			all = append(all, heard{dev: dev, frame: append([]byte(nil), frame...)})
		}
		bad := func(err error) { all = append(all, heard{dev: dev, err: err}) }
		if len(b) == 0 {
			if dev.frames.gap > 0 && silent >= dev.frames.gap {
				dev.frames.silence(got, bad)
			}
			continue
		}
		if dev.first {
			dev.first = false
			if at.Sub(l.opened) < halfLine {
				dev.frames.skip()
			}
		}
		dev.frames.feed(b, got, bad)
	}
	return all
}

// withoutEcho takes what comes back of what was sent off the beginning.
func (l *line) withoutEcho(b []byte) []byte {
	for len(b) > 0 && len(l.echoed) > 0 {
		if b[0] != l.echoed[0] {
			l.echoed = nil
			break
		}
		b, l.echoed = b[1:], l.echoed[1:]
	}
	return b
}

// send writes, and tells the taps.
func (l *line) send(b []byte) error {
	l.mu.Lock()
	if l.echo {
		l.echoed = append([]byte(nil), b...)
	}
	l.taps.Tell(time.Now(), true, b)
	l.mu.Unlock()
	_, err := l.port.Write(b)
	return err
}
