package serial_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers/serial"
)

// machine is a tree as sysfs and /dev have it.
type machine struct {
	t    *testing.T
	root string
	find serial.Finder
}

func newMachine(t *testing.T) *machine {
	root := t.TempDir()
	m := &machine{t, root, serial.Finder{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")}}
	m.write("sys/class/tty/tty0/active", "tty1")
	m.write("dev/tty0", "")
	return m
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(to, path string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(to, path)); err != nil {
		m.t.Fatal(err)
	}
}

// plug plugs in a USB adapter at a place of the bus.
func (m *machine) plug(place, name, vid, pid, number, iface, driver string) {
	usb := "sys/devices/pci0/usb1/" + place
	m.write(usb+"/idVendor", vid)
	m.write(usb+"/idProduct", pid)
	if number != "" {
		m.write(usb+"/serial", number)
	}
	m.write(usb+"/manufacturer", "Maker")
	m.write(usb+"/product", "Adapter")
	at := usb + "/" + place + ":1." + iface
	m.write(at+"/bInterfaceNumber", iface)
	m.link("../../../../../bus/usb-serial/drivers/"+driver, at+"/"+name+"/driver")
	m.write(at+"/"+name+"/tty/"+name+"/dev", "188:0")
	m.link("../../../"+name, at+"/"+name+"/tty/"+name+"/device")
	m.link("../../devices/pci0/usb1/"+place+"/"+place+":1."+iface+"/"+name+"/tty/"+name, "sys/class/tty/"+name)
	m.write("dev/"+name, "")
}

// pull pulls it out.
func (m *machine) pull(place, name string) {
	m.t.Helper()
	for _, path := range []string{"sys/devices/pci0/usb1/" + place, "sys/class/tty/" + name, "dev/" + name} {
		if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// solder puts in a port that is no USB port.
func (m *machine) solder(name, kind string) {
	at := "sys/devices/platform/" + name
	m.link("../../../bus/platform/drivers/uart-pl011", at+"/driver")
	m.write(at+"/tty/"+name+"/type", kind)
	m.link("../../../"+name, at+"/tty/"+name+"/device")
	m.link("../../devices/platform/"+name+"/tty/"+name, "sys/class/tty/"+name)
	m.write("dev/"+name, "")
}

func TestPorts(t *testing.T) {
	m := newMachine(t)
	dev := func(name string) string { return filepath.Join(m.root, "dev", name) }
	m.solder("ttyAMA0", "32")
	m.solder("ttySC1", "100")
	m.solder("ttyS0", "0") // provided for, but not there
	m.plug("1-10", "ttyUSB10", "0403", "6011", "FT1", "00", "ftdi_sio")
	m.plug("1-2", "ttyUSB2", "1A86", "7523", "", "00", "ch341-uart")
	m.plug("1-3", "ttyACM0", "303a", "1001", "34:85:18:A1:B2:C3", "00", "cdc_acm")
	m.plug("1-4", "ttyUSB3", "0403", "6011", "FT2", "00", "ftdi_sio")
	m.plug("1-4", "ttyUSB4", "0403", "6011", "FT2", "01", "ftdi_sio")
	m.link("../../ttyUSB2", "dev/serial/by-id/usb-1a86_USB_Serial-if00-port0")
	m.link("../../ttyAMA0", "dev/serial/by-id/odd")

	got, err := m.find.Ports()
	if err != nil {
		t.Fatal(err)
	}
	usb := func(name, lasting, vid, pid, number, iface, driver string) serial.PortInfo {
		return serial.PortInfo{
			Name: dev(name), Lasting: lasting, Driver: driver, VID: vid, PID: pid, Serial: number, Interface: iface,
			Manufacturer: "Maker", Product: "Adapter",
		}
	}
	want := []serial.PortInfo{
		usb("ttyACM0", "usb:303a:1001", "303a", "1001", "34:85:18:A1:B2:C3", "00", "cdc_acm"),
		{Name: dev("ttyAMA0"), Lasting: dev("serial/by-id/odd"), ByID: dev("serial/by-id/odd"), Driver: "uart-pl011"},
		{Name: dev("ttySC1"), Lasting: dev("ttySC1"), Driver: "uart-pl011"},
		usb("ttyUSB2", "usb:1a86:7523", "1a86", "7523", "", "00", "ch341-uart"),
		usb("ttyUSB3", "usb:0403:6011:FT2:00", "0403", "6011", "FT2", "00", "ftdi_sio"),
		usb("ttyUSB4", "usb:0403:6011:FT2:01", "0403", "6011", "FT2", "01", "ftdi_sio"),
		usb("ttyUSB10", "usb:0403:6011:FT1", "0403", "6011", "FT1", "00", "ftdi_sio"),
	}
	want[3].ByID = dev("serial/by-id/usb-1a86_USB_Serial-if00-port0")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}

	t.Run("are found by what they are", func(t *testing.T) {
		for port, want := range map[string]string{
			"/dev/any":                           "/dev/any",
			"usb:1a86:7523":                      dev("ttyUSB2"),
			"usb:1A86:7523":                      dev("ttyUSB2"),
			"usb:1a86:7523::00":                  dev("ttyUSB2"),
			"usb:0403:6011:FT1":                  dev("ttyUSB10"),
			"usb:0403:6011:FT2:01":               dev("ttyUSB4"),
			"usb:303a:1001:34:85:18:A1:B2:C3":    dev("ttyACM0"),
			"usb:303a:1001:34:85:18:A1:B2:C3:00": dev("ttyACM0"),
			"usb:0403:6011":                      "several USB ports are that: " + dev("ttyUSB3") + " is usb:0403:6011:FT2:00, " + dev("ttyUSB4") + " is usb:0403:6011:FT2:01, " + dev("ttyUSB10") + " is usb:0403:6011:FT1:00",
			"usb:1a86:7523:other":                "no such USB port is plugged in: file does not exist",
			"usb:0403:6011:FT2:02":               "no such USB port is plugged in: file does not exist",
			"usb:1a86:752":                       "a USB port is written",
		} {
			got, err := m.find.Path(port)
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s: want %s, got %s", port, want, got)
			}
			if strings.HasPrefix(want, "no such") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: want fs.ErrNotExist only for a port that is not there, got %v", port, err)
			}
		}
	})
	t.Run("are none where there is no sysfs", func(t *testing.T) {
		if got, err := (serial.Finder{Sys: filepath.Join(m.root, "none")}).Ports(); len(got) != 0 || err != nil {
			t.Errorf("want none, got %v, %v", got, err)
		}
	})
	t.Run("of this machine can be listed", func(t *testing.T) {
		if _, err := serial.Ports(); err != nil {
			t.Error(err)
		}
	})
}

func TestAppear(t *testing.T) {
	m := newMachine(t)
	m.plug("1-2", "ttyUSB0", "1a86", "7523", "", "00", "ch341-uart")
	path := filepath.Join(m.root, "dev/ttyUSB0")
	wait := func(port string, gone bool) <-chan error {
		came := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		go func() { came <- m.find.Appear(ctx, port, gone) }()
		return came
	}
	still := func(what string, came <-chan error) {
		t.Helper()
		select {
		case err := <-came:
			t.Errorf("%s: want it to wait, got %v", what, err)
		case <-time.After(600 * time.Millisecond):
		}
	}
	arrives := func(what string, came <-chan error) {
		t.Helper()
		if err := <-came; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	arrives("a port that is there by now", wait("usb:1a86:7523", true))
	byKey, byPath := wait("usb:1a86:7523", false), wait(path, false)
	still("a port that has been there", byKey)
	m.pull("1-2", "ttyUSB0")
	still("a port that was pulled out", byKey)
	m.plug("1-7", "ttyUSB1", "1a86", "7523", "", "00", "ch341-uart")
	arrives("a port under another name", byKey)
	still("another name than the one that was asked for", byPath)
	m.plug("1-8", "ttyUSB0", "0403", "6001", "", "00", "ftdi_sio")
	arrives("a path", byPath)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.find.Appear(ctx, path, true); !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
}

func BenchmarkFinderPath(b *testing.B) {
	for b.Loop() {
		if _, err := (serial.Finder{}).Path("usb:1a86:7523"); !errors.Is(err, fs.ErrNotExist) {
			b.Fatal(err)
		}
	}
}
