package serial_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

func TestFlow(t *testing.T) {
	if testing.Short() {
		t.Skip("an emulator has not all of the kernel's calls for terminals")
	}
	for flow, want := range map[string][2]bool{"": {}, "none": {}, "rtscts": {true, false}, "xonxoff": {false, true}} {
		t.Run("is "+flow, func(t *testing.T) {
			w := newWire(t)
			openPort(t, serial.PortConfig{Port: w.path, Baud: 250_000, Wiring: drivers.Wiring{Flow: flow}})
			got := termios(t, w.path)
			if hard := got.Cflag&unix.CRTSCTS != 0; hard != want[0] {
				t.Errorf("want hardware flow control %v, got %v", want[0], hard)
			}
			if soft := got.Iflag&unix.IXON != 0 && got.Iflag&unix.IXOFF != 0; soft != want[1] {
				t.Errorf("want software flow control %v, got %v", want[1], soft)
			}
			if got.Cflag&unix.CBAUD != unix.BOTHER {
				t.Errorf("want a speed that has no name kept, got %#x", got.Cflag&unix.CBAUD)
			}
		})
	}
	t.Run("by characters holds the sender back", func(t *testing.T) {
		w := newWire(t)
		p := openPort(t, serial.PortConfig{Port: w.path, Wiring: drivers.Wiring{Flow: "xonxoff"}})
		w.say("\x13")
		settled()
		wrote := make(chan error, 1)
		go func() {
			_, err := p.Write([]byte("held"))
			wrote <- err
		}()
		settled()
		if err := w.far.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := w.far.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("want nothing while it is held back, got %d bytes, %v", n, err)
		}
		w.say("\x11")
		w.hear("held")
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

func TestModemLines(t *testing.T) {
	for _, c := range []struct {
		config serial.PortConfig
		want   string
	}{
		{serial.PortConfig{Wiring: drivers.Wiring{DTR: drivers.Low}}, "dtr cannot be low: it has no modem lines"},
		{serial.PortConfig{Wiring: drivers.Wiring{RTS: drivers.High}}, "rts cannot be high: it has no modem lines"},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "kernel"}}}, "the kernel's driver of the port does not switch an RS-485 sender"},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "auto"}}}, "the line RTS cannot switch an RS-485 sender: it has no modem lines"},
	} {
		t.Run("that a port lacks are an error, and it is given back", func(t *testing.T) {
			w := newWire(t)
			c.config.Port = w.path
			if _, err := serial.Open(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
			openPort(t, serial.PortConfig{Port: w.path})
		})
	}
	if testing.Short() {
		return // an emulator has not all of the kernel's calls for terminals
	}
	t.Run("a break ends with its time", func(t *testing.T) {
		if err := openPort(t, serial.PortConfig{Port: newWire(t).path}).Break(time.Millisecond); err != nil {
			t.Error(err)
		}
	})
	t.Run("a break ends with the port", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path})
		ended := make(chan error, 1)
		go func() { ended <- p.Break(time.Hour) }()
		settled()
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("want os.ErrClosed, got %v", err)
		}
	})
}

// TestRS485 has the sender switched on lines that the test holds: pseudo-terminals
// have none.
func TestRS485(t *testing.T) {
	for _, level := range []drivers.Level{drivers.High, drivers.Low} {
		t.Run("the sender is on while bytes are on the line, RTS "+string(level), func(t *testing.T) {
			w := newWire(t)
			p := openPort(t, serial.PortConfig{Port: w.path, Baud: 4_000_000})
			var did []string
			asked := 0
			lines := serial.ModemLines{
				Set: func(bits int, high bool) error {
					did = append(did, fmt.Sprint(bits == unix.TIOCM_RTS, high))
					return nil
				},
				Unsent: func() (int, bool, error) {
					asked++
					did = append(did, "asked")
					return max(0, 2-asked), asked == 2, nil
				},
			}
			r := drivers.RS485{By: "rts", RTSOnSend: level, DelayBefore: time.Millisecond, DelayAfter: time.Millisecond}
			if err := serial.Switched(p, r, lines); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			w.hear("hello")
			on := level == drivers.High
			want := []string{fmt.Sprint(true, !on), fmt.Sprint(true, on), "asked", "asked", "asked", fmt.Sprint(true, !on)}
			if !slices.Equal(did, want) {
				t.Errorf("want %q, got %q", want, did)
			}
		})
	}
	t.Run("the sender is off after a line that takes nothing", func(t *testing.T) {
		p := openPort(t, serial.PortConfig{Port: newWire(t).path, Baud: 4_000_000})
		var on bool
		lines := serial.ModemLines{
			Set:    func(_ int, high bool) error { on = high; return nil },
			Unsent: func() (int, bool, error) { return 1, true, nil },
		}
		if err := serial.Switched(p, drivers.RS485{By: "rts"}, lines); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || on {
			t.Errorf("want os.ErrDeadlineExceeded and the sender off, got %v, on: %v", err, on)
		}
	})
	t.Run("the kernel is told what it wants to know", func(t *testing.T) {
		for _, c := range []struct {
			config drivers.RS485
			want   [8]uint32
		}{
			{drivers.RS485{}, [8]uint32{0b00011}},
			{drivers.RS485{RTSOnSend: drivers.Low, Receive: true}, [8]uint32{0b10101}},
			{drivers.RS485{DelayBefore: time.Millisecond, DelayAfter: 1500 * time.Microsecond}, [8]uint32{0b00011, 1, 2}},
		} {
			if got := serial.KernelRS485(c.config); got != c.want {
				t.Errorf("%+v: want %v, got %v", c.config, c.want, got)
			}
		}
	})
}

func TestPortConfig(t *testing.T) {
	for _, c := range []struct {
		config serial.PortConfig
		want   string
	}{
		{serial.PortConfig{Wiring: drivers.Wiring{Flow: "hard"}}, `flow must be none, rtscts or xonxoff, not "hard"`},
		{serial.PortConfig{Wiring: drivers.Wiring{DTR: "on"}}, `dtr must be high or low, not "on"`},
		{serial.PortConfig{Wiring: drivers.Wiring{RTS: "on"}}, `rts must be high or low, not "on"`},
		{serial.PortConfig{Wiring: drivers.Wiring{RTS: drivers.Low, Flow: "rtscts"}}, `flow rtscts moves the line RTS by itself`},
		{serial.PortConfig{Wiring: drivers.Wiring{RTS: drivers.Low, RS485: drivers.RS485{By: "rts"}}}, `rts_on_send says how`},
		{serial.PortConfig{Wiring: drivers.Wiring{Flow: "rtscts", RS485: drivers.RS485{By: "auto"}}}, `cannot do flow control and switch`},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "magic"}}}, `rs485 must be auto, kernel or rts, not "magic"`},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{Receive: true}}}, `rs485 needs by: auto, kernel or rts`},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "rts", RTSOnSend: "up"}}}, `rts_on_send must be high or low, not "up"`},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "rts", DelayBefore: time.Second}}}, `delay_before must be 0s to 100ms, not 1s`},
		{serial.PortConfig{Wiring: drivers.Wiring{RS485: drivers.RS485{By: "rts", DelayAfter: -1}}}, `delay_after must be 0s to 100ms, not -1ns`},
		{serial.PortConfig{Port: "usb:1a86"}, `a USB port is written usb:VID:PID`},
		{serial.PortConfig{Port: "usb:1a86:75x3"}, `a USB port is written usb:VID:PID`},
	} {
		if c.config.Port == "" {
			c.config.Port = "x"
		}
		if _, err := serial.Open(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: want %s, got %v", c.config, c.want, err)
		}
	}
}
