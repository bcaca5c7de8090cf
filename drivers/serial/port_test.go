package serial_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

func openPort(t *testing.T, c serial.PortConfig) *serial.Port {
	t.Helper()
	p, err := serial.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

func termios(t *testing.T, path string) *unix.Termios {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got *unix.Termios
	if errControl := raw.Control(func(fd uintptr) { got, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); errControl != nil || err != nil {
		t.Fatal(errControl, err)
	}
	return got
}

func TestPortRead(t *testing.T) {
	t.Run("gives what came", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		w.say("hello")
		buf := make([]byte, 16)
		if n, err := p.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("want hello, got %q, %v", buf[:n], err)
		}
	})
	t.Run("gives 0 and nil when its time-out passes", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path})
		for _, d := range []time.Duration{20 * time.Millisecond, 0, -time.Second} {
			if err := p.SetReadTimeout(d); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if n, err := p.Read(make([]byte, 1)); n != 0 || err != nil {
				t.Errorf("want 0, nil after %v, got %d, %v", d, n, err)
			}
			if took := time.Since(began); took < d || took > d+5*time.Second {
				t.Errorf("want it after %v, it took %v", d, took)
			}
		}
	})
	t.Run("gives what is there if it may not wait", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		buf := make([]byte, 16)
		w.say("a")
		if n, err := p.Read(buf); err != nil || n != 1 {
			t.Fatalf("want a, got %q, %v", buf[:n], err)
		}
		if err := p.SetReadTimeout(0); err != nil {
			t.Fatal(err)
		}
		w.say("b")
		for deadline := time.Now().Add(time.Minute); ; settled() { // the kernel passes it on in its own time
			n, err := p.Read(buf)
			if n == 1 && buf[0] == 'b' {
				break
			}
			if n != 0 || err != nil || time.Now().After(deadline) {
				t.Fatalf("want b, got %q, %v", buf[:n], err)
			}
		}
	})
	t.Run("waits anew after one that did not wait out its time", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		buf := make([]byte, 16)
		for range 20 {
			began := time.Now()
			if err := p.SetReadTimeout(2 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if n, err := p.Read(buf); n != 0 || err != nil || time.Since(began) < 2*time.Millisecond {
				t.Fatalf("want nothing after 2ms, got %q, %v after %v", buf[:n], err, time.Since(began))
			}
			_ = p.SetReadTimeout(time.Hour)
			w.say("a")
			if n, err := p.Read(buf); n != 1 || err != nil {
				t.Fatalf("want a, got %q, %v", buf[:n], err)
			}
		}
	})
	t.Run("ends when the port is closed", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path})
		read := make(chan error, 1)
		go func() {
			_, err := p.Read(make([]byte, 1))
			read <- err
		}()
		settled() // it waits by now; if not, the test still holds
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; !errors.Is(err, os.ErrClosed) {
			t.Errorf("want os.ErrClosed, got %v", err)
		}
		if _, err := p.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Write: want os.ErrClosed, got %v", err)
		}
		if err := p.ResetInput(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("ResetInput: want os.ErrClosed, got %v", err)
		}
	})
	t.Run("and write say that an unplugged port is lost", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		if err := w.far.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("Read: want drivers.ErrLost, got %v", err)
		}
		if _, err := p.Write([]byte("x")); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("Write: want drivers.ErrLost, got %v", err)
		}
	})
	t.Run("forgets what came before a reset", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		w.say("old")
		settled()
		if err := p.ResetInput(); err != nil {
			t.Fatal(err)
		}
		w.say("new")
		buf := make([]byte, 16)
		if n, err := p.Read(buf); err != nil || string(buf[:n]) != "new" {
			t.Errorf("want new, got %q, %v", buf[:n], err)
		}
	})
	t.Run("works with a descriptor above 1023", func(t *testing.T) {
		for range 1100 {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		w.say("high")
		buf := make([]byte, 16)
		if n, err := p.Read(buf); err != nil || string(buf[:n]) != "high" {
			t.Errorf("want high, got %q, %v", buf[:n], err)
		}
	})
}

func TestPortWrite(t *testing.T) {
	t.Run("does not wait for ever for a line that takes nothing", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path, Baud: 4_000_000})
		began := time.Now()
		_, err := p.Write(make([]byte, 1<<16)) // nobody reads the other end
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > 20*time.Second {
			t.Errorf("want os.ErrDeadlineExceeded in time, got %v after %v", err, took)
		}
	})
	t.Run("ends when the port is closed", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path, Baud: 300})
		wrote := make(chan error, 1)
		go func() {
			_, err := p.Write(make([]byte, 1<<20)) // its limit is an hour
			wrote <- err
		}()
		settled()
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; !errors.Is(err, os.ErrClosed) {
			t.Errorf("want os.ErrClosed, got %v", err)
		}
	})
}

func TestPortOpen(t *testing.T) {
	t.Run("sets the mode", func(t *testing.T) {
		w := newWire(t)
		openPort(t, serial.PortConfig{Port: w.path, Baud: 19200, StopBits: 2})
		got := termios(t, w.path)
		if got.Cflag&unix.CBAUD != unix.B19200 || got.Cflag&unix.CSTOPB == 0 || got.Lflag&(unix.ECHO|unix.ICANON) != 0 {
			t.Errorf("want 19200 baud, 2 stop bits, raw, got %+v", got)
		}
	})
	t.Run("takes a pseudo-terminal with parity, which it does not have", func(t *testing.T) {
		openPort(t, serial.PortConfig{Port: newWire(t).path, Parity: "even", DataBits: 7})
	})
	t.Run("a second time is refused and leaves the speed alone", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path, Baud: 19200})
		_, err := serial.Open(t.Context(), serial.PortConfig{Port: w.path, Baud: 300})
		if err == nil || !strings.Contains(err.Error(), "it is in use") {
			t.Errorf("want it in use, got %v", err)
		}
		if got := termios(t, w.path); got.Cflag&unix.CBAUD != unix.B19200 {
			t.Errorf("want 19200 baud still, got %#x", got.Cflag&unix.CBAUD)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		openPort(t, serial.PortConfig{Port: w.path, Baud: 300})
	})
	t.Run("says what is wrong", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			config serial.PortConfig
			want   string
		}{
			{serial.PortConfig{Port: "/dev/ttyNONE"}, `cannot open port "/dev/ttyNONE": no such file or directory`},
			{serial.PortConfig{Port: file}, `cannot open port "` + file + `": it is not a serial port`},
			{serial.PortConfig{Port: "x", Baud: 5_000_000}, `cannot open port "x": baud must be 50 to 4000000, not 5000000`},
			{serial.PortConfig{Port: "x", Parity: "weird"}, `cannot open port "x": parity must be none, even, odd, mark or space, not "weird"`},
			{serial.PortConfig{Port: "x", DataBits: 9}, `cannot open port "x": data_bits must be 5 to 8, not 9`},
			{serial.PortConfig{Port: "x", StopBits: 3}, `cannot open port "x": stop_bits must be 1 or 2, not 3`},
		} {
			if _, err := serial.Open(t.Context(), c.config); err == nil || err.Error() != c.want {
				t.Errorf("want %s, got %v", c.want, err)
			}
		}
	})
	t.Run("with an ended context opens nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := serial.Open(ctx, serial.PortConfig{Port: newWire(t).path}); !errors.Is(err, context.Canceled) {
			t.Errorf("want context.Canceled, got %v", err)
		}
	})
}

// What comes while nobody reads must not wake anybody: nobody polls the terminal then.
func TestPortIsWatchedWhileSomebodyReads(t *testing.T) {
	w := newWire(t)
	p := openPort(t, serial.PortConfig{Port: w.path})
	if watched := watchedFor(t, w.path); watched&unix.EPOLLIN != 0 {
		t.Errorf("the terminal is polled for %x before a Read", watched)
	}
	read := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 1))
		read <- err
	}()
	for deadline := time.Now().Add(time.Minute); watchedFor(t, w.path)&unix.EPOLLIN == 0; settled() {
		if time.Now().After(deadline) {
			t.Fatal("a Read does not have the terminal polled")
		}
	}
	w.say("a")
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if watched := watchedFor(t, w.path); watched&unix.EPOLLIN != 0 {
		t.Errorf("the terminal is polled for %x after a Read", watched)
	}
}

// watchedFor is for what the epoll instances of this process poll a terminal.
func watchedFor(t *testing.T, path string) (events uint32) {
	t.Helper()
	terminal, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]bool{}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && to == terminal {
			n, _ := strconv.Atoi(filepath.Base(fd))
			open[n] = true
		}
	}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err != nil || to != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + filepath.Base(fd))
		if err != nil {
			continue // it was closed meanwhile
		}
		for line := range strings.Lines(string(info)) {
			var n int
			var mask uint32
			if _, err := fmt.Sscanf(line, "tfd: %d events: %x", &n, &mask); err == nil && open[n] {
				events |= mask
			}
		}
	}
	if len(open) == 0 {
		t.Fatalf("%s is not open", terminal)
	}
	return events
}

func TestPortSleep(t *testing.T) {
	t.Run("is not woken by what comes, and leaves it for Read", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		w.say("hello")
		for range 3 {
			began := time.Now()
			if err := p.Sleep(t.Context(), 20*time.Millisecond); err != nil || time.Since(began) < 20*time.Millisecond {
				t.Errorf("want it to return after 20ms, it did after %v with %v", time.Since(began), err)
			}
		}
		buf := make([]byte, 16)
		if n, err := p.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("want hello, got %q, %v", buf[:n], err)
		}
	})
	t.Run("ends with its context, and can be called again", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path})
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			if err := p.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
				t.Errorf("want context.Canceled, got %v", err)
			}
			if err := p.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
				t.Errorf("want context.Canceled again, got %v", err)
			}
			if err := p.Sleep(t.Context(), time.Millisecond); err != nil {
				t.Error(err)
			}
		}
		w.say("hello")
		buf := make([]byte, 16)
		if n, err := p.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("want hello, got %q, %v", buf[:n], err)
		}
	})
	t.Run("ends when the port is closed", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path})
		slept := make(chan error, 1)
		go func() { slept <- p.Sleep(t.Context(), time.Hour) }()
		settled() // it waits by now; if not, the test still holds
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-slept; !errors.Is(err, os.ErrClosed) {
			t.Errorf("want os.ErrClosed, got %v", err)
		}
	})
}
