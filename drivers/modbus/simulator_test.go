package modbus_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// formulas stands for rules/exprlang: it knows the formulas of these tests.
func formulas(source string) (func(map[string]any) (any, error), error) {
	number := func(v any) float64 {
		if n, ok := v.(int64); ok {
			return float64(n)
		}
		return v.(float64)
	}
	switch source {
	case "fan ? max(value-0.4*dt, 20) : value+0.2*dt":
		return func(vars map[string]any) (any, error) {
			value, dt := number(vars["value"]), vars["dt"].(float64)
			if vars["fan"].(bool) {
				return math.Max(value-0.4*dt, 20), nil
			}
			return value + 0.2*dt, nil
		}, nil
	case "oil_level > 5":
		return func(vars map[string]any) (any, error) { return number(vars["oil_level"]) > 5, nil }, nil
	case "t":
		return func(vars map[string]any) (any, error) { return int(vars["t"].(float64)), nil }, nil
	case "nil":
		return func(map[string]any) (any, error) { return nil, nil }, nil
	case "fails":
		return func(map[string]any) (any, error) { return nil, errors.New("division by zero") }, nil
	}
	return nil, errors.New("unknown formula")
}

func TestSimulatorFollowsItsFormulas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, err := modbus.Registers(config(t, `
driver: modbus-simulator
listen: 127.0.0.1:0
points:
  temperature: {input: 0, type: int16, scale: 0.1, initial: 58, formula: "fan ? max(value-0.4*dt, 20) : value+0.2*dt"}
  fan: {coil: 3, writable: true}
  oil-level: {holding: 7, initial: 3, writable: true}
  warm: {discrete: 1, formula: oil_level > 5}
  clock: {input: 9, formula: t}
  none: {input: 10, formula: nil}
  broken: {input: 11, formula: fails}
`), formulas)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // steps smaller than the register's
			later(100 * time.Millisecond)
			read(t, dev, "temperature")
		}
		wantRead(t, dev, map[string]string{"temperature": "58.2", "warm": "false", "clock": "1"})
		if err := write(t, dev, "fan", "true"); err != nil {
			t.Error(err)
		}
		if err := write(t, dev, "oil-level", "9"); err != nil {
			t.Error(err)
		}
		later(2 * time.Second)
		wantRead(t, dev, map[string]string{
			"temperature": "57.4", "warm": "true", "fan": "true",
			"none":   "bad: the formula gives no value",
			"broken": "bad: cannot evaluate the formula: division by zero",
		})
		later(time.Hour)
		wantRead(t, dev, map[string]string{"temperature": "20"})
		if err := write(t, dev, "fan", "false"); err != nil {
			t.Error(err)
		}
		later(100 * time.Hour)
		wantRead(t, dev, map[string]string{"temperature": "bad: 72020 does not fit int16 with scale 0.1"})
	})
}

func TestSimulatorAnswersAndRefuses(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	dev, _ := simulator(t, d, `
  a: {coil: 10, writable: true, initial: true}
  b: {coil: 11, writable: true}
  c: {coil: 12}
  d: {discrete: 0, initial: true}
  e: {input: 0, initial: 0}
  f: {holding: 100, type: uint32, writable: true, initial: 66051}
  g: {holding: 102}
  h: {holding: 65535, writable: true}
`)
	for _, c := range []struct{ name, request, answer string }{
		{"coils", "01 00 0A 00 03", "01 01 01"},
		{"discrete input", "02 00 00 00 01", "02 01 01"},
		{"registers", "03 00 64 00 02", "03 04 00 01 02 03"},
		{"input register", "04 00 00 00 01", "04 02 00 00"},
		{"the last register", "03 FF FF 00 01", "03 02 00 00"},
		{"unknown function", "07", "87 01"},
		{"another unknown function", "2B 0E 01 00", "AB 01"},
		{"no quantity", "03 00 64 00 00", "83 03"},
		{"too many registers", "03 00 64 00 7E", "83 03"},
		{"too many coils", "01 00 0A 07 D1", "81 03"},
		{"short request", "03 00 64 00", "83 03"},
		{"long request", "03 00 64 00 01 00", "83 03"},
		{"a register that is not there", "03 00 00 00 01", "83 02"},
		{"one that is there and one that is not", "03 00 66 00 02", "83 02"},
		{"beyond the end", "03 FF FF 00 02", "83 02"},
		{"write a coil", "05 00 0B FF 00", "05 00 0B FF 00"},
		{"and see it", "01 00 0A 00 03", "01 01 03"},
		{"half a coil", "05 00 0B 00 01", "85 03"},
		{"write a coil that cannot be written", "05 00 0C FF 00", "85 02"},
		{"write coils", "0F 00 0A 00 02 01 02", "0F 00 0A 00 02"},
		{"and see them", "01 00 0A 00 03", "01 01 02"},
		{"write coils, the last of which cannot be written", "0F 00 0A 00 03 01 05", "8F 02"},
		{"and see none of them", "01 00 0A 00 03", "01 01 02"},
		{"write coils with a wrong byte count", "0F 00 0A 00 02 02 02 00", "8F 03"},
		{"write a register", "06 00 65 12 34", "06 00 65 12 34"},
		{"write a register that cannot be written", "06 00 66 12 34", "86 02"},
		{"write registers", "10 00 64 00 02 04 AA BB CC DD", "10 00 64 00 02"},
		{"and see it all", "03 00 64 00 03", "03 06 AA BB CC DD 00 00"},
		{"write registers beyond the end", "10 FF FF 00 02 04 00 01 00 02", "90 02"},
		{"write no registers", "10 00 64 00 00 00", "90 03"},
		{"write registers with too few bytes", "10 00 64 00 02 04 AA BB CC", "90 03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprintf("% X", modbus.Answer(dev, 1, unhex(t, c.request))); got != c.answer {
				t.Errorf("%s gives %s, want %s", c.request, got, c.answer)
			}
		})
	}
	if got := fmt.Sprintf("% X", modbus.Answer(dev, 9, unhex(t, "03 00 64 00 01"))); got != "83 0A" {
		t.Errorf("another unit gives %s, want 83 0A", got)
	}
	wantRead(t, dev, map[string]string{"f": "2864434397", "b": "true"})
}

func TestSimulatorTellsWhatClientsWrite(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	dev, addr := simulator(t, d, "  fan: {coil: 3, writable: true}\n  speed: {holding: 4, type: int16, scale: 0.5, writable: true}\n")
	client := open(t, d, "driver: modbus\ntcp: "+addr+"\npoints:\n  fan: {coil: 3, writable: true}\n  speed: {holding: 4, type: int16, scale: 0.5, writable: true}\n")
	for point, value := range map[string]string{"fan": "true", "speed": "-12.5"} {
		if err := write(t, client, point, value); err != nil {
			t.Fatal(err)
		}
		said := <-dev.(drivers.Pusher).Pushed()
		if len(said.Readings) != 1 || said.Readings[0].Point != point || said.Readings[0].Value.String() != value {
			t.Errorf("it says %v, want %s is %s", said, point, value)
		}
		wantRead(t, dev, map[string]string{point: value})
	}
	for range 2000 { // nobody listens
		if err := write(t, client, "fan", "false"); err != nil {
			t.Fatal(err)
		}
	}
	wantRead(t, dev, map[string]string{"fan": "false"})
}

func TestSimulatorBoundsItsClients(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  a: {coil: 0}\n")
	ask := func(c net.Conn) error {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write(unhex(t, "00 01 00 00 00 06 01 01 00 00 00 01")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 10))
		return err
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	conns := make([]net.Conn, 16)
	for i := range conns {
		conns[i] = dial()
		if err := ask(conns[i]); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	if err := ask(dial()); err == nil {
		t.Error("a 17th client is served")
	}
	if _, err := conns[0].Write(unhex(t, "00 01 00 07 00 06 01 01 00 00 00 01")); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("a frame of another protocol is answered")
	}
	for i := range 100 { // the place is free again, soon
		err := ask(dial())
		if err == nil {
			break
		}
		if i == 99 {
			t.Error(err)
		}
		later(10 * time.Millisecond)
	}
}

func TestSimulatorTakesRequestsInPieces(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  a: {coil: 0, initial: true}\n")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	frame := unhex(t, "00 01 00 00 00 06 01 01 00 00 00 01")
	stream := []byte(strings.Repeat(string(frame), 40))
	go func() {
		for len(stream) > 0 {
			n := min(len(stream), 17)
			if _, err := c.Write(stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answers := make([]byte, 40*10)
	if _, err := io.ReadFull(c, answers); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(string(unhex(t, "00 01 00 00 00 04 01 01 01 01")), 40); string(answers) != want {
		t.Errorf("% x", answers)
	}
}

func TestSimulatorSaysThatItsAddressIsTaken(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, addr := simulator(t, d, "  a: {coil: 0}\n")
	_, err := d.Simulator().Open(t.Context(), config(t, "driver: modbus-simulator\nlisten: "+addr+"\npoints:\n  a: {coil: 0}\n"))
	if err == nil || !strings.Contains(err.Error(), "cannot listen on") {
		t.Errorf("%v", err)
	}
}

// exhausted is a listener of a machine that has no descriptors left for a while.
type exhausted struct {
	net.Listener
	failures int
	clients  chan net.Conn
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.failures--; e.failures >= 0 {
		return nil, syscall.EMFILE
	}
	c, ok := <-e.clients
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (*exhausted) Addr() net.Addr { return &net.TCPAddr{} }
func (e *exhausted) Close() error { close(e.clients); return nil }

func TestSimulatorSaysOnceThatItCannotAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		ln := &exhausted{failures: 100, clients: make(chan net.Conn)}
		stop := modbus.ServeSimulator(ln, slog.New(slog.NewTextHandler(&log, nil)))
		near, far := net.Pipe()
		ln.clients <- near
		_ = far.Close()
		stop()
		if n := strings.Count(log.String(), "cannot accept"); n != 1 || !strings.Contains(log.String(), "accepts again") || !strings.Contains(log.String(), "failed=100") {
			t.Errorf("it said so %d times:\n%s", n, log.String())
		}
	})
}

func TestSimulatorRefusesPointsThatFormulasCannotTellApart(t *testing.T) {
	sim := newDriver(t, modbus.Options{Formula: formulas}).Simulator()
	file := "driver: modbus-simulator\nlisten: 127.0.0.1:0\npoints:\n  oil/level: {holding: 1}\n  oil_level: {holding: 2}\n"
	if _, err := sim.Check(config(t, file)); err != nil {
		t.Errorf("without a formula: %v", err)
	}
	_, err := sim.Check(config(t, file+"  warm: {coil: 1, formula: oil_level > 5}\n"))
	if err == nil || !strings.Contains(err.Error(), `press.yaml:5:14: the name is oil_level in formulas, as that of "oil/level" is`) {
		t.Errorf("with one: %v", err)
	}
}
