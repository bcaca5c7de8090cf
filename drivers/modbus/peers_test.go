package modbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// debianPython is the python that sees Debian's pymodbus.
const debianPython = "/usr/bin/python3"

// need fails unless a tool is there.
func need(t testing.TB, tool, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", tool, pkg)
	}
	return path
}

func needPymodbus(t testing.TB) {
	t.Helper()
	need(t, debianPython, "python3")
	if out, err := exec.Command(debianPython, "-c", "import pymodbus, serial, serial_asyncio").CombinedOutput(); err != nil {
		t.Fatalf("pymodbus is missing: apt-get install python3-pymodbus python3-serial python3-serial-asyncio: %s", out)
	}
}

// peer runs a program until the test ends.
func peer(t testing.TB, name string, args ...string) {
	t.Helper()
	var out lockedBuffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), out.String())
		}
	})
}

// lockedBuffer is a bytes.Buffer for two goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// freePort is a TCP port that nobody uses.
func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// openSoon opens a device whose peer is still starting.
func openSoon(t testing.TB, d drivers.Driver, text string) drivers.Device {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		dev, err := d.Open(t.Context(), config(t, text))
		if err == nil {
			t.Cleanup(func() {
				if err := dev.Close(); err != nil {
					t.Error(err)
				}
			})
			return dev
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		later(100 * time.Millisecond)
	}
}

// peerPoints are points of the peers' registers.
const peerPoints = `
  coil0: {coil: 0, writable: true}
  coil1: {coil: 1, writable: true}
  coil99: {coil: 99}
  discrete4: {discrete: 4}
  discrete199: {discrete: 199}
  input0: {input: 0}
  input150: {input: 150, scale: 0.1}
  holding2: {holding: 2, writable: true}
  holding20: {holding: 20, type: int32, writable: true}
  holding40: {holding: 40, type: float32, order: CDAB, writable: true}
  holding60: {holding: 60, type: int64, writable: true}
  holding199: {holding: 199}
  missing: {holding: 200}
`

// checkPeer reads and writes a peer's registers.
func checkPeer(t *testing.T, dev drivers.Device, unit int) {
	t.Helper()
	checkPeerBut(t, dev, unit, "exception 2 (illegal data address) from function 3 (read holding registers)")
}

// checkPeerBut is checkPeer where another answer than an exception comes for what is not
// there; if that is empty, the device has no such point.
func checkPeerBut(t *testing.T, dev drivers.Device, unit int, missing string) {
	t.Helper()
	want := map[string]string{
		"coil0": "true", "coil1": "false", "coil99": "true", "discrete4": "true", "discrete199": "false",
		"input0": "3", "input150": "75.3", "holding2": fmt.Sprint(14 + unit), "holding199": fmt.Sprint(1393 + unit),
		"holding20": fmt.Sprint((140+unit)<<16 | (147 + unit)),
	}
	if missing != "" {
		want["missing"] = "bad: " + missing
	}
	wantRead(t, dev, want)
	for point, values := range map[string][]string{
		"coil0": {"false", "true"}, "coil1": {"true", "false"}, "holding2": {"65535", fmt.Sprint(14 + unit)},
		"holding20": {"-2", "2147483647", fmt.Sprint((140+unit)<<16 | (147 + unit))},
		"holding40": {"21.3", "-0.001"}, "holding60": {"-9007199254740993"},
	} {
		for _, v := range values {
			if err := write(t, dev, point, v); err != nil {
				t.Error(err)
			}
			wantRead(t, dev, map[string]string{point: v})
		}
	}
}

func TestPeerPymodbusOverTCP(t *testing.T) {
	needPymodbus(t)
	for _, kind := range []string{"tcp", "rtu_tcp", "ascii_tcp", "tls"} {
		t.Run(kind, func(t *testing.T) {
			port := freePort(t)
			args := []string{"testdata/pymodbus_server.py", kind, strconv.Itoa(port)}
			place := fmt.Sprintf("%s: 127.0.0.1:%d", kind, port)
			target := map[string]modbus.Target{
				"tcp": {TCP: fmt.Sprintf("127.0.0.1:%d", port)}, "rtu_tcp": {RTUTCP: fmt.Sprintf("127.0.0.1:%d", port)},
				"ascii_tcp": {ASCIITCP: fmt.Sprintf("127.0.0.1:%d", port)},
			}[kind]
			if kind == "tls" {
				c := newCertificates(t, "Operator")
				args = append(args, c.certificate("server"), c.key("server"), c.ca)
				place = fmt.Sprintf("tls: {address: 127.0.0.1:%d, ca: %s, certificate: %s, key: %s}", port, c.ca, c.certificate("client"), c.key("client"))
				target.TLS = fmt.Sprintf("127.0.0.1:%d", port)
				target.Secure = modbus.TLSConfig{CA: c.ca, Certificate: c.certificate("client"), Key: c.key("client")}
			}
			peer(t, debianPython, args...)
			d := newDriver(t, modbus.Options{})
			for unit := 1; unit <= 2; unit++ {
				dev := openSoon(t, d, fmt.Sprintf("driver: modbus\n%s\nunit: %d\ntimeout: 5s\npoints:%s", place, unit, peerPoints))
				checkPeer(t, dev, unit)
			}
			target.Timeout = 5 * time.Second
			checkClient(t, d, target, kind != "rtu_tcp")
		})
	}
}

// checkClient does each function on a pymodbus server. Delimited says that its frames show
// where they end: else it cannot tell for a function that it does not know.
func checkClient(t *testing.T, d *modbus.Driver, target modbus.Target, delimited bool) {
	t.Helper()
	c, err := d.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	same := func(got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	bits, err := c.ReadBits(ctx, 2, modbus.ReadCoils, 96, 4)
	must(err)
	same(bits, []bool{true, false, false, true})
	bits, err = c.ReadBits(ctx, 2, modbus.ReadDiscreteInputs, 101, 3)
	must(err)
	same(bits, []bool{false, true, false})
	regs, err := c.ReadRegisters(ctx, 2, modbus.ReadHoldingRegisters, 100, 2)
	must(err)
	same(regs, []uint16{702, 709})
	regs, err = c.ReadRegisters(ctx, 2, modbus.ReadInputRegisters, 100, 2)
	must(err)
	same(regs, []uint16{503, 508})
	must(c.WriteCoil(ctx, 2, 97, true))
	must(c.WriteCoils(ctx, 2, 98, []bool{true, false, false}))
	bits, err = c.ReadBits(ctx, 2, modbus.ReadCoils, 96, 6)
	must(err)
	same(bits, []bool{true, true, true, false, false, false})
	must(c.WriteRegister(ctx, 2, 110, 0x00F0))
	must(c.MaskWrite(ctx, 2, 110, 0xFFCA, 0x0005)) // clears the bits 4 and 5, sets 0 and 2
	must(c.WriteRegisters(ctx, 2, 111, []uint16{1, 2, 3}))
	regs, err = c.ReadWrite(ctx, 2, 110, 4, 112, []uint16{7, 8})
	must(err)
	same(regs, []uint16{0x00C5, 1, 7, 8})
	id, err := c.Identify(ctx, 1)
	must(err)
	same([]string{id.VendorName, id.ProductCode, id.Revision, id.VendorURL, id.ProductName, id.ModelName},
		[]string{"Pymodbus", "PM", "3.0", "http://example.com/" + strings.Repeat("u", 100), "Peer " + strings.Repeat("p", 90), "Server"})
	answer, err := c.Do(ctx, 1, []byte{7})
	must(err)
	same(answer, []byte{7, 0})
	answer, err = c.Do(ctx, 1, []byte{8, 0, 0, 0xAB, 0xCD})
	must(err)
	same(answer, []byte{8, 0, 0, 0xAB, 0xCD})
	var e modbus.Exception
	if _, err = c.ReadRegisters(ctx, 1, modbus.ReadHoldingRegisters, 199, 2); !errors.As(err, &e) || e.Code != modbus.IllegalAddress {
		t.Errorf("reading beyond the end gives %v", err)
	}
	if !delimited {
		return
	}
	if _, err = c.Do(ctx, 1, []byte{0x64, 1, 2}); !errors.As(err, &e) || e.Code != modbus.IllegalFunction || e.Function != 0x64 {
		t.Errorf("an unknown function gives %v", err)
	}
}

func TestPeerLibmodbusOverTCP(t *testing.T) {
	port := freePort(t)
	peer(t, libmodbus(t, "libmodbus_server"), strconv.Itoa(port))
	d := newDriver(t, modbus.Options{})
	dev := openSoon(t, d, fmt.Sprintf("driver: modbus\ntcp: 127.0.0.1:%d\npoints:%s", port, peerPoints))
	checkPeer(t, dev, 1)
}

func TestPeerPymodbusOnALine(t *testing.T) {
	needPymodbus(t)
	for name, pair := range map[string]func(*testing.T) (near *os.File, far string){
		"rtu on a pty": ptyPair, "rtu on a socat pair": socatPair, "ascii on a pty": ptyPair,
	} {
		t.Run(name, func(t *testing.T) {
			mode, _, _ := strings.Cut(name, " ")
			near, far := pair(t)
			peer(t, debianPython, "testdata/pymodbus_server.py", mode, far)
			d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
				return &filePort{File: near}, nil
			}})
			file := func(unit int, timeout string) string {
				return fmt.Sprintf("driver: modbus\nserial: {port: %s, baud: 115200, mode: %s}\nunit: %d\ntimeout: %s\npoints:%s",
					near.Name(), mode, unit, timeout, peerPoints)
			}
			hello := modbus.Request{Unit: 1, Fn: modbus.ReadCoils, Count: 1}
			awaitLine(t, near, map[string][]byte{"rtu": hello.Frame(), "ascii": hello.FrameASCII()}[mode])
			one := open(t, d, file(1, "5s")) // a busy machine is no silent unit
			two := open(t, d, file(2, "5s"))
			// Nobody is unit 9: that is its own trouble only.
			if _, err := d.Open(t.Context(), config(t, file(9, "300ms"))); err == nil || errors.Is(err, drivers.ErrLost) {
				t.Errorf("opening a unit that is not there: %v", err)
			}
			checkPeer(t, one, 1)
			checkPeer(t, two, 2)
			checkClient(t, d, modbus.Target{Serial: modbus.SerialConfig{Port: near.Name(), Baud: 115200, Mode: mode}, Timeout: 5 * time.Second}, mode != "rtu")
			start := time.Now()
			for range 20 {
				wantRead(t, one, map[string]string{"holding2": "15", "coil0": "true", "input0": "3"})
				wantRead(t, two, map[string]string{"holding2": "16", "coil0": "true", "input0": "3"})
			}
			t.Logf("%v a request", time.Since(start)/120)
		})
	}
}

func TestPeerMbpollAsksTheSimulator(t *testing.T) {
	mbpoll := need(t, "mbpoll", "mbpoll")
	d := newDriver(t, modbus.Options{})
	dev, addr := simulator(t, d, `
  temperature: {input: 0, type: int16, scale: 0.1, initial: -21.5}
  fan: {coil: 3, writable: true}
  speed: {holding: 4, writable: true, initial: 1234}
`)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		args = append([]string{"-m", "tcp", "-0", "-1", "-p", port}, args...)
		out, err := exec.CommandContext(t.Context(), mbpoll, args...).CombinedOutput()
		if err != nil {
			t.Errorf("mbpoll %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-t", "3", "-r", "0", "127.0.0.1"}, "65321 (-215)"},
		{[]string{"-t", "0", "-r", "3", "127.0.0.1"}, "[3]: \t0"},
		{[]string{"-t", "4", "-r", "4", "127.0.0.1"}, "1234"},
		{[]string{"-t", "0", "-r", "3", "127.0.0.1", "1"}, "Written 1 references."},
		{[]string{"-t", "4", "-r", "4", "127.0.0.1", "4321"}, "Written 1 references."},
	} {
		if out := run(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("mbpoll %v says\n%s\nwant %q", c.args, out, c.want)
		}
	}
	wantRead(t, dev, map[string]string{"fan": "true", "speed": "4321"})
}

// awaitLine asks until somebody answers, and then until nothing comes any more.
func awaitLine(t *testing.T, line *os.File, request []byte) {
	t.Helper()
	port := &filePort{File: line, timeout: 300 * time.Millisecond}
	deadline := time.Now().Add(30 * time.Second)
	for heard := false; ; {
		n, err := port.Read(make([]byte, 512))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("nobody answers: %v", err)
		}
		if n == 0 && heard {
			return
		}
		if heard = heard || n > 0; heard {
			continue
		}
		if _, err := line.Write(request); err != nil {
			t.Fatal(err)
		}
	}
}

// filePort is a modbus.Port over a terminal. It outlives Close: the next open
// of the bus finds it again.
type filePort struct {
	*os.File
	timeout time.Duration
	closed  bool
}

func (p *filePort) SetReadTimeout(d time.Duration) error {
	p.timeout = d
	return nil
}

func (p *filePort) Read(b []byte) (int, error) {
	if p.closed {
		return 0, os.ErrClosed
	}
	if err := p.SetReadDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, err
	}
	n, err := p.File.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	return n, err
}

func (p *filePort) ResetInput() error { return nil }

func (p *filePort) Close() error {
	p.closed = true
	return nil
}

// raw makes a terminal pass bytes as they are.
func raw(t *testing.T, fd int) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	mode.Cflag = mode.Cflag&^unix.CSIZE | unix.CS8 | unix.CREAD | unix.CLOCAL
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

// ptyPair opens a pseudo terminal: near is its master, far the path of its slave.
func ptyPair(t *testing.T) (near *os.File, far string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far = fmt.Sprintf("/dev/pts/%d", n)
	// Held open, so that the master does not hang up before the peer has opened it.
	slave, err := os.OpenFile(far, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw(t, int(slave.Fd()))
	t.Cleanup(func() {
		_ = slave.Close()
		_ = near.Close()
	})
	return near, far
}

// socatPair joins two pseudo terminals.
func socatPair(t *testing.T) (near *os.File, far string) {
	t.Helper()
	socat := need(t, "socat", "socat")
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	peer(t, socat, "pty,raw,echo=0,link="+a, "pty,raw,echo=0,link="+b)
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, errA := os.Stat(a)
		_, errB := os.Stat(b)
		if errA == nil && errB == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("socat makes no terminals")
		}
		later(10 * time.Millisecond)
	}
	fd, err := unix.Open(a, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near = os.NewFile(uintptr(fd), a)
	t.Cleanup(func() { _ = near.Close() })
	return near, b
}
