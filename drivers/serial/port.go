package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	bugst "go.bug.st/serial"
	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
)

// writeAgain is after how long what a port did not take is offered again.
const writeAgain = 5 * time.Millisecond

// Port is an open serial port. One goroutine may read while another writes; Close
// may be called by a third, at any time, more than once.
type Port struct {
	name    string
	file    *os.File   // what is read and written, and carries the lock; see openQuiet
	gate    *gate      // where Read waits
	setup   bugst.Port // holds the settings and the exclusive mode; neither read nor written
	char    time.Duration
	rs485   drivers.RS485 // with By "rts": Write switches the sender itself
	lines   lines         // of file
	timeout atomic.Int64  // of a Read, in nanoseconds; below 0 is none
	closing chan struct{} // closed by Close: ends what waits in Write and Break
	closed  atomic.Bool
}

// Open opens and locks a serial port and sets its mode. A port that somebody else
// has, that is not there or is no serial port is an error that leaves its settings
// alone. The error is fs.ErrNotExist if the port is not there: [Appear] waits for it.
// On a pseudo-terminal, parity and data bits have no effect, and there are no modem
// lines.
func Open(ctx context.Context, c PortConfig) (*Port, error) {
	p, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("cannot open port %q: %w", c.Port, err)
	}
	return p, nil
}

func open(ctx context.Context, c PortConfig) (*Port, error) {
	mode, err := c.mode()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	path, err := (Finder{}).Path(c.Port)
	if err != nil {
		return nil, err
	}
	file, err := openQuiet(path)
	if err != nil {
		return nil, cause(err)
	}
	setup, err := claim(file, path, mode)
	if err != nil {
		_ = file.Close() // the error is the one above
		return nil, err
	}
	p := &Port{
		name: c.Port, file: file, setup: setup, char: c.Char(),
		rs485: c.RS485, lines: modemLines{file}, closing: make(chan struct{}),
	}
	p.timeout.Store(-1)
	if p.gate, err = newGate(file); err == nil {
		err = p.prepare(c)
	}
	if err != nil {
		_ = p.Close() // likewise
		return nil, err
	}
	return p, nil
}

// claim locks the port and then sets its mode: as root, opening it for the mode
// would succeed and change the speed under another program.
func claim(file *os.File, name string, mode *bugst.Mode) (bugst.Port, error) {
	var locked error
	if err := control(file, func(fd int) {
		if _, locked = unix.IoctlGetTermios(fd, unix.TCGETS); locked != nil {
			locked = errors.New("it is not a serial port")
			return
		}
		if locked = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); locked != nil {
			locked = errors.New("it is in use")
		}
	}); err != nil {
		return nil, err
	}
	if locked != nil {
		return nil, locked
	}
	setup, err := bugst.Open(name, mode)
	var known *bugst.PortError
	if errors.As(err, &known) && known.Code() == bugst.PortBusy {
		return nil, errors.New("it is in use")
	}
	return setup, err
}

// control calls f with the file's descriptor. (File.Fd would make it block.)
func control(file *os.File, f func(fd int)) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// cause takes the path off an error that will name it again.
func cause(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if errors.Is(err, syscall.EBUSY) {
		return errors.New("it is in use")
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (is the user in the group dialout?)", err)
	}
	return err
}

// SetReadTimeout bounds the next calls of Read; 0 or less is that they do not wait.
// Without it, a Read waits until something comes. It never fails.
func (p *Port) SetReadTimeout(d time.Duration) error {
	p.timeout.Store(int64(max(d, 0)))
	return nil
}

// Read reads what is there, or waits for it. When the time-out passes it returns
// 0 and nil. After Close the error is os.ErrClosed; after an unplug it is
// drivers.ErrLost. What comes while no Read waits costs nothing.
func (p *Port) Read(b []byte) (int, error) {
	start, timeout := time.Now(), time.Duration(p.timeout.Load())
	for {
		n, err := p.file.Read(b)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, unix.EAGAIN) {
			left := timeout
			if timeout > 0 {
				left = max(0, timeout-time.Since(start))
			}
			err = p.gate.wait(left)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, nil
		}
		if err != nil {
			return 0, p.lost("read", err)
		}
	}
}

// Sleep waits for d. What comes meanwhile costs nothing and is there for the next Read, and
// it wakes more exactly than a timer of the runtime, with a third of the work. Only who
// reads may call it. The error is that of ctx, or of Read.
func (p *Port) Sleep(ctx context.Context, d time.Duration) error {
	err := p.gate.sleep(ctx, d)
	if err != nil && ctx.Err() == nil {
		return p.lost("wait at", err)
	}
	return err
}

// Write hands all bytes to the port. It gives up, with an error that is
// os.ErrDeadlineExceeded, after 2 s and twice the time that they take on the line:
// flow control or a dead adapter must not hold up its caller for ever.
//
// On an RS-485 line whose sender is not switched by the kernel, it returns once the
// last character is out and the sender is off.
func (p *Port) Write(b []byte) (int, error) {
	deadline := time.Now().Add(2*time.Second + 2*time.Duration(len(b))*p.char + p.rs485.DelayBefore + p.rs485.DelayAfter)
	n, err := 0, error(nil)
	if p.rs485.By == drivers.RS485RTS {
		n, err = p.writeSwitched(b, deadline)
	} else {
		n, err = p.hand(b, deadline)
	}
	if err != nil {
		return n, p.lost("write", err)
	}
	return n, nil
}

// hand gives all bytes to the port. It takes some thousand at once: only behind more, or
// on a line whose other end wants no more, is there anything to wait for.
func (p *Port) hand(b []byte, deadline time.Time) (n int, err error) {
	for {
		taken, err := p.file.Write(b[n:])
		n += taken
		switch {
		case n == len(b):
			return n, nil
		case err != nil && !errors.Is(err, unix.EAGAIN):
			return n, err
		case !time.Now().Before(deadline):
			return n, os.ErrDeadlineExceeded
		}
		if err := p.pause(writeAgain); err != nil {
			return n, err
		}
	}
}

// lost says which errors are the end of the port.
func (p *Port) lost(what string, err error) error {
	err = cause(err)
	if p.closed.Load() {
		err = os.ErrClosed
	}
	switch {
	case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("cannot %s port %q: %w", what, p.name, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("port %q was unplugged: %w", p.name, drivers.ErrLost)
	}
	return fmt.Errorf("cannot %s port %q: %w: %w", what, p.name, err, drivers.ErrLost)
}

// ResetInput forgets what came and was not read.
func (p *Port) ResetInput() error {
	if p.closed.Load() {
		return fmt.Errorf("cannot reset port %q: %w", p.name, os.ErrClosed)
	}
	var flushed error
	err := control(p.file, func(fd int) { flushed = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
	if err == nil {
		err = flushed
	}
	if err != nil {
		return p.lost("reset", err)
	}
	return nil
}

// Close gives the port back and ends a Read or Write that waits.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	close(p.closing)
	// What waits to be sent is forgotten: a close would wait for it.
	_ = control(p.file, func(fd int) { _ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH) })
	var errGate error
	if p.gate != nil {
		errGate = p.gate.close()
	}
	if err := errors.Join(errGate, p.setup.Close(), p.file.Close()); err != nil {
		return fmt.Errorf("cannot close port %q: %w", p.name, cause(err))
	}
	return nil
}
