package serial

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
)

// lines are what of a port is neither read nor written; tests have their own.
type lines interface {
	// set raises or drops modem lines, as unix.TIOCM_RTS.
	set(bits int, high bool) error
	// unsent is how many bytes wait for the line, and whether the last is still
	// being sent, where the driver tells.
	unsent() (bytes int, sending bool, err error)
}

// modemLines are the lines of an open port.
type modemLines struct{ file *os.File }

func (m modemLines) set(bits int, high bool) error {
	request := uint(unix.TIOCMBIC)
	if high {
		request = unix.TIOCMBIS
	}
	err := m.ioctl(func(fd int) error { return unix.IoctlSetPointerInt(fd, request, bits) })
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		return errors.New("it has no modem lines")
	}
	return err
}

func (m modemLines) unsent() (bytes int, sending bool, err error) {
	err = m.ioctl(func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		bytes = n
		if err != nil || n > 0 {
			return err
		}
		const transmitterEmpty = 1 // TIOCSER_TEMT
		state, errState := unix.IoctlGetInt(fd, unix.TIOCSERGETLSR)
		sending = errState == nil && state&transmitterEmpty == 0
		return nil
	})
	return bytes, sending, err
}

// ioctl calls f with the descriptor.
func (m modemLines) ioctl(f func(fd int) error) error {
	var failed error
	if err := control(m.file, func(fd int) { failed = f(fd) }); err != nil {
		return err
	}
	return failed
}

// prepare sets what the serial library does not: flow control, modem lines, the
// sender of an RS-485 line.
func (p *Port) prepare(c PortConfig) error {
	lines := modemLines{p.file}
	if err := lines.ioctl(func(fd int) error { return setFlow(fd, c.Flow) }); err != nil {
		return fmt.Errorf("it does not take flow control %s: %w", c.Flow, err)
	}
	for _, line := range []struct {
		name  string
		bit   int
		level drivers.Level
	}{{"dtr", unix.TIOCM_DTR, c.DTR}, {"rts", unix.TIOCM_RTS, c.RTS}} {
		if line.level == "" {
			continue
		}
		if err := lines.set(line.bit, line.level == drivers.High); err != nil {
			return fmt.Errorf("%s cannot be %s: %w", line.name, line.level, err)
		}
	}
	return p.prepareRS485()
}

func setFlow(fd int, flow string) error {
	if flow == "" || flow == drivers.FlowNone {
		return nil // the library has set none
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return err
	}
	if flow == drivers.FlowHardware {
		t.Cflag |= unix.CRTSCTS
	} else {
		t.Iflag |= unix.IXON | unix.IXOFF
		t.Cc[unix.VSTART], t.Cc[unix.VSTOP] = 0x11, 0x13
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS2, t)
}

// prepareRS485 has the kernel switch the sender, or sets RTS to receive.
func (p *Port) prepareRS485() error {
	if p.rs485.By == "" {
		return nil
	}
	if p.rs485.By != drivers.RS485RTS {
		err := modemLines{p.file}.ioctl(func(fd int) error { return setRS485(fd, kernelOf(p.rs485)) })
		if err == nil {
			p.rs485.By = drivers.RS485Kernel
			return nil
		}
		if p.rs485.By == drivers.RS485Kernel {
			return fmt.Errorf("the kernel's driver of the port does not switch an RS-485 sender (try rs485: {by: rts}): %w", err)
		}
	}
	p.rs485.By = drivers.RS485RTS
	if err := p.lines.set(unix.TIOCM_RTS, !highOnSend(p.rs485)); err != nil {
		return fmt.Errorf("the line RTS cannot switch an RS-485 sender: %w", err)
	}
	return nil
}

func highOnSend(r drivers.RS485) bool { return r.RTSOnSend != drivers.Low }

// kernelRS485 is struct serial_rs485 of linux/serial.h.
type kernelRS485 struct {
	flags                   uint32
	delayBefore, delayAfter uint32 // ms
	_                       [5]uint32
}

// The flags of kernelRS485.
const (
	rs485Enabled      = 1 << 0
	rs485RTSOnSend    = 1 << 1
	rs485RTSAfterSend = 1 << 2
	rs485Receive      = 1 << 4 // SER_RS485_RX_DURING_TX

	tiocsRS485 = 0x542f // TIOCSRS485, on every architecture that we build for
)

func kernelOf(r drivers.RS485) kernelRS485 {
	ms := func(d time.Duration) uint32 { return uint32((d + time.Millisecond - 1) / time.Millisecond) }
	k := kernelRS485{flags: rs485Enabled | rs485RTSAfterSend, delayBefore: ms(r.DelayBefore), delayAfter: ms(r.DelayAfter)}
	if highOnSend(r) {
		k.flags = rs485Enabled | rs485RTSOnSend
	}
	if r.Receive {
		k.flags |= rs485Receive
	}
	return k
}

func setRS485(fd int, k kernelRS485) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), tiocsRS485, uintptr(unsafe.Pointer(&k)))
	runtime.KeepAlive(&k)
	if errno != 0 {
		return errno
	}
	return nil
}

// writeSwitched writes with the sender on, and waits until all is sent.
func (p *Port) writeSwitched(b []byte, deadline time.Time) (n int, err error) {
	if err := p.lines.set(unix.TIOCM_RTS, highOnSend(p.rs485)); err != nil {
		return 0, err
	}
	defer func() {
		if off := p.lines.set(unix.TIOCM_RTS, !highOnSend(p.rs485)); err == nil {
			err = off
		}
	}()
	if err := p.pause(p.rs485.DelayBefore); err != nil {
		return 0, err
	}
	if n, err = p.hand(b, deadline); err != nil {
		return n, err
	}
	if err := p.drain(len(b), deadline); err != nil {
		return n, err
	}
	return n, p.pause(p.rs485.DelayAfter)
}

// drain waits until n bytes are on the line. It sleeps for what they take, and then
// asks. (tcdrain could not be ended by Close, and is late by some ticks.)
func (p *Port) drain(n int, deadline time.Time) error {
	wait := time.Duration(n) * p.char
	for {
		if err := p.pause(wait); err != nil {
			return err
		}
		bytes, sending, err := p.lines.unsent()
		switch {
		case err != nil:
			return err
		case bytes == 0 && !sending:
			return nil
		case !time.Now().Before(deadline):
			return os.ErrDeadlineExceeded
		}
		wait = max(time.Duration(bytes)*p.char, p.char/2, 50*time.Microsecond)
	}
}

// pause waits, or returns os.ErrClosed when the port is closed.
func (p *Port) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.closing:
		return os.ErrClosed
	}
}

// Break holds the line in the break state for so long. It returns early, with
// os.ErrClosed, when the port is closed.
func (p *Port) Break(d time.Duration) error {
	lines := modemLines{p.file}
	set := func(request uint) error {
		return lines.ioctl(func(fd int) error { return unix.IoctlSetInt(fd, request, 0) })
	}
	if err := set(unix.TIOCSBRK); err != nil {
		return p.lost("break", err)
	}
	waited := p.pause(d)
	if err := errors.Join(waited, set(unix.TIOCCBRK)); err != nil {
		return p.lost("break", err)
	}
	return nil
}

// Pulse turns DTR over for so long and back; was is the level that it has.
func (p *Port) Pulse(d time.Duration, was drivers.Level) error {
	if err := p.lines.set(unix.TIOCM_DTR, was == drivers.Low); err != nil {
		return fmt.Errorf("cannot pulse dtr of port %q: %w", p.name, err)
	}
	waited := p.pause(d)
	if err := errors.Join(waited, p.lines.set(unix.TIOCM_DTR, was != drivers.Low)); err != nil {
		return p.lost("pulse dtr of", err)
	}
	return nil
}
