package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ptyWrite is how long a pseudo-terminal may take to accept what is written: nobody reads
// on the other end, so that it is forgotten, as on a line without a listener.
const ptyWrite = 100 * time.Millisecond

// Pseudo is the far end of a serial line that is not there: a pseudo-terminal, whose other
// end programs open by a link as they open a port. One goroutine may read while another
// writes; Close may be called by a third, at any time, more than once.
type Pseudo struct {
	link    string
	name    string   // of the other end: "/dev/pts/5"
	master  *os.File // is read and written
	slave   *os.File // held open: without it a read fails while no program has it open
	timeout atomic.Int64
	closed  atomic.Bool
}

// OpenPseudo makes a pseudo-terminal and the symbolic link to it. A link that is there
// already is replaced if it leads to a pseudo-terminal or to nothing; any other file is an
// error.
func OpenPseudo(ctx context.Context, link string) (*Pseudo, error) {
	p, err := openPseudo(ctx, link)
	if err != nil {
		return nil, fmt.Errorf("cannot make the pseudo-terminal %q: %w", link, err)
	}
	return p, nil
}

func openPseudo(ctx context.Context, link string) (p *Pseudo, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p = &Pseudo{link: link}
	if p.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = p.Close() // the error is the one above
		}
	}()
	number := 0
	if err := (modemLines{p.master}).ioctl(func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	}); err != nil {
		return nil, err
	}
	p.name = "/dev/pts/" + strconv.Itoa(number)
	if p.slave, err = os.OpenFile(p.name, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	if err := (modemLines{p.slave}).ioctl(setRaw); err != nil {
		return nil, err
	}
	if to, err := os.Readlink(link); err == nil && isPseudo(to) {
		if err := os.Remove(link); err != nil {
			return nil, err
		}
	}
	return p, os.Symlink(p.name, link)
}

// isPseudo reports whether a link to there is one of ours, which a killed program has left.
func isPseudo(path string) bool {
	var n int
	_, err := fmt.Sscanf(path, "/dev/pts/%d", &n)
	return err == nil
}

// setRaw has a terminal pass all bytes on as they are.
func setRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Name is the other end: "/dev/pts/5".
func (p *Pseudo) Name() string { return p.name }

// SetReadTimeout bounds the next calls of Read; below 1 ms is 1 ms. It never fails.
func (p *Pseudo) SetReadTimeout(d time.Duration) error {
	p.timeout.Store(int64(max(d, time.Millisecond)))
	return nil
}

// Read reads what programs have written, as that of a [Port] does.
func (p *Pseudo) Read(b []byte) (int, error) {
	deadline := time.Time{}
	if d := p.timeout.Load(); d > 0 {
		deadline = time.Now().Add(time.Duration(d))
	}
	if err := p.master.SetReadDeadline(deadline); err != nil {
		return 0, p.failed("read", err)
	}
	n, err := p.master.Read(b)
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, nil
	}
	return 0, p.failed("read", err)
}

// Write says bytes to the programs. What nobody reads is forgotten.
func (p *Pseudo) Write(b []byte) (int, error) {
	if err := p.master.SetWriteDeadline(time.Now().Add(ptyWrite)); err != nil {
		return 0, p.failed("write", err)
	}
	n, err := p.master.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = modemLines{p.slave}.ioctl(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
		n = len(b)
	}
	if err != nil {
		return n, p.failed("write", err)
	}
	return n, nil
}

func (p *Pseudo) failed(what string, err error) error {
	if p.closed.Load() {
		err = os.ErrClosed
	}
	return fmt.Errorf("cannot %s the pseudo-terminal %q: %w", what, p.link, cause(err))
}

// ResetInput forgets what came and was not read.
func (p *Pseudo) ResetInput() error {
	return modemLines{p.master}.ioctl(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
}

// Close takes the pseudo-terminal and the link away and ends a Read that waits.
func (p *Pseudo) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	var err error
	if to, wrong := os.Readlink(p.link); wrong == nil && to == p.name {
		if err = os.Remove(p.link); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if p.slave != nil {
		err = errors.Join(err, p.slave.Close())
	}
	return errors.Join(err, p.master.Close())
}
