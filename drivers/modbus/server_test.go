package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// shopPoints are the points of a server that foreign clients visit.
const shopPoints = `
points:
  fan:    {coil: 3, topic: hall/fan, writable: true}
  lamp:   {coil: 4, topic: hall/lamp, writable: true}
  pump:   {coil: 5, topic: hall/pump, writable: true}
  door:   {discrete: 1, topic: hall/door}
  t:      {input: 0, type: int16, scale: 0.1, topic: hall/t}
  speed:  {holding: 4, topic: hall/speed, writable: true}
  total:  {holding: 100, type: float32, order: CDAB, topic: hall/total, writable: true}
  silent: {holding: 200, topic: hall/silent, writable: true}
`

// shopValues are what is heard on the topics, but for that which is silent.
var shopValues = map[string]string{
	"fan": "false", "lamp": "false", "pump": "true", "door": "true", "t": "-21.5", "speed": "1234", "total": "21.5",
}

// openShop opens a server and does what the Host does: what is written to a point is
// shown by it, but for a speed above 9000.
func openShop(t testing.TB, d *modbus.Driver, text string) drivers.Server {
	t.Helper()
	dev := open(t, d.Server(), "driver: modbus-server\n"+text+shopPoints).(drivers.Server)
	var first []drivers.Reading
	for _, p := range dev.Points() {
		r := drivers.Reading{Point: p.Name, Quality: drivers.Bad}
		if text, ok := shopValues[p.Name]; ok {
			r.Quality = drivers.Good
			r.Value, _ = drivers.ParseValue([]byte(text)) // they are right
		}
		first = append(first, r)
	}
	if err := dev.Feed(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	var host sync.WaitGroup
	host.Go(func() {
		for asked := range dev.Asked() {
			asked.Done(obey(dev, asked.Writes))
		}
	})
	t.Cleanup(func() {
		_ = dev.Close() // it is closed again by open
		host.Wait()
	})
	return dev
}

func obey(dev drivers.Server, writes []drivers.Written) error {
	var news []drivers.Reading
	for _, w := range writes {
		if n, ok := w.Value.Int(); ok && n > 9000 {
			return errors.New("too fast")
		}
		news = append(news, drivers.Reading{Point: w.Point, Value: w.Value})
	}
	return dev.Feed(context.Background(), news)
}

// serverPort is the port that a server listens on.
func serverPort(dev any) string {
	_, port, _ := net.SplitHostPort(dev.(interface{ Addr() net.Addr }).Addr().String())
	return port
}

// wantAllRight runs a client that says so.
func wantAllRight(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "all right\n") {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func TestServerServesPymodbus(t *testing.T) {
	needPymodbus(t)
	d := newDriver(t, modbus.Options{})
	for _, frames := range []string{"tcp", "rtu", "ascii"} {
		t.Run(frames, func(t *testing.T) {
			dev := openShop(t, d, "listen: {address: 127.0.0.1:0, frames: "+frames+"}")
			wantAllRight(t, exec.CommandContext(t.Context(), debianPython, "testdata/pymodbus_client.py", frames, serverPort(dev)))
		})
	}
	for role, how := range map[string]string{"Operator": "write", "Viewer": "read", "Stranger": "", "": ""} {
		t.Run("tls as "+role, func(t *testing.T) {
			c := newCertificates(t, role)
			dev := openShop(t, d, fmt.Sprintf("listen: {address: 127.0.0.1:0, tls: {certificate: %s, key: %s, ca: %s, roles: {Operator: write, Viewer: read}}}",
				c.certificate("server"), c.key("server"), c.ca))
			cmd := exec.CommandContext(t.Context(), debianPython, "testdata/pymodbus_client.py", "tls", serverPort(dev),
				c.certificate("client"), c.key("client"), c.ca, how)
			if how == "" {
				if out, err := cmd.CombinedOutput(); err == nil {
					t.Errorf("role %q is served: %s", role, out)
				}
				return
			}
			wantAllRight(t, cmd)
			stranger := newCertificates(t, role) // of another authority
			cmd = exec.CommandContext(t.Context(), debianPython, "testdata/pymodbus_client.py", "tls", serverPort(dev),
				stranger.certificate("client"), stranger.key("client"), c.ca, how)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("a certificate of another authority is served: %s", out)
			}
		})
	}
}

func TestServerServesClientsFromNPM(t *testing.T) {
	need(t, "node", "nodejs")
	need(t, "npm", "npm")
	modules := drivertest.NodeModules(t, "modbus-serial@8.0.25", "jsmodbus@5.0.0")
	d := newDriver(t, modbus.Options{})
	for _, c := range []struct{ name, frames string }{{"modbus-serial", "tcp"}, {"modbus-serial", "rtu"}, {"jsmodbus", "tcp"}} {
		t.Run(c.name+" "+c.frames, func(t *testing.T) {
			dev := openShop(t, d, "listen: {address: 127.0.0.1:0, frames: "+c.frames+"}")
			cmd := exec.CommandContext(t.Context(), "node", "testdata/npm_client.js", c.name, c.frames, serverPort(dev))
			cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
			wantAllRight(t, cmd)
		})
	}
}

// mbpollShop are mbpoll's words for each function on the shop's registers, and what it says.
var mbpollShop = []struct {
	args, values []string
	want         string
}{
	{[]string{"-t", "0", "-r", "5"}, nil, "[5]: \t1"},
	{[]string{"-t", "1", "-r", "1"}, nil, "[1]: \t1"},
	{[]string{"-t", "3", "-r", "0"}, nil, "65321 (-215)"},
	{[]string{"-t", "4", "-r", "4"}, nil, "1234"},
	{[]string{"-t", "4:float", "-r", "100"}, nil, "21.5"},
	{[]string{"-t", "0", "-r", "3"}, []string{"1"}, "Written 1 references."},
	{[]string{"-t", "0", "-r", "3", "-c", "2"}, nil, "[3]: \t1"},
	{[]string{"-t", "0", "-r", "3"}, []string{"0", "1", "1"}, "Written 3 references."},
	{[]string{"-t", "4", "-r", "4"}, []string{"4321"}, "Written 1 references."},
	{[]string{"-t", "4", "-r", "4"}, nil, "4321"},
	{[]string{"-t", "4:float", "-r", "100"}, []string{"--", "-2.25"}, "Written 1 references."},
	{[]string{"-t", "4:float", "-r", "100"}, nil, "-2.25"},
	{[]string{"-t", "4", "-r", "999"}, nil, "Illegal data address"},
	{[]string{"-t", "4", "-r", "200"}, nil, "device or server failure"},
	{[]string{"-t", "4", "-r", "4"}, []string{"9999"}, "Illegal data value"},
}

func checkMbpoll(t *testing.T, where string, how ...string) {
	t.Helper()
	mbpoll := need(t, "mbpoll", "mbpoll")
	for _, c := range mbpollShop {
		args := append(append([]string{"-0", "-1", "-a", "1", "-o", "5"}, how...), c.args...)
		args = append(append(args, where), c.values...)
		out, _ := exec.CommandContext(t.Context(), mbpoll, args...).CombinedOutput() // refusals are failures
		if !strings.Contains(string(out), c.want) {
			t.Errorf("mbpoll %v says\n%s\nwant %q", args, out, c.want)
		}
	}
}

func TestServerServesMbpoll(t *testing.T) {
	t.Run("over TCP", func(t *testing.T) {
		dev := openShop(t, newDriver(t, modbus.Options{}), "listen: 127.0.0.1:0") // short for {address: ...}
		checkMbpoll(t, "127.0.0.1", "-m", "tcp", "-p", serverPort(dev))
	})
	t.Run("on a line", func(t *testing.T) {
		near, far := socatPair(t)
		d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
			return &filePort{File: near}, nil
		}})
		openShop(t, d, "serial: {port: "+near.Name()+", baud: 38400}")
		checkMbpoll(t, far, "-m", "rtu", "-b", "38400", "-P", "even")
	})
}

// A unit on a line hears everything, and answers only for itself.
func TestServerOnALineWithOthers(t *testing.T) {
	for _, mode := range []string{"rtu", "ascii"} {
		for _, echo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, echo %v", mode, echo), func(t *testing.T) {
				near, far := net.Pipe()
				d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
					return &pipePort{Conn: near, echo: echo}, nil
				}})
				openShop(t, d, fmt.Sprintf("serial: {port: /dev/fake, baud: 4000000, mode: %s}\n", mode))
				frame := func(s string) []byte {
					b := unhex(t, s)
					if mode == "ascii" {
						return modbus.AppendASCII(nil, b[0], b[1:])
					}
					return modbus.AppendCRC(b)
				}
				ask := func(request []byte) string {
					later(5 * time.Millisecond) // the silence between frames
					if _, err := far.Write(request); err != nil {
						t.Fatal(err)
					}
					b := make([]byte, 600)
					_ = far.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // a pipe has one
					n, _ := far.Read(b)                                             // 0 is no answer
					return string(b[:n])
				}
				read, answer := frame("01 03 00 04 00 01"), string(frame("01 03 02 04 D2"))
				write := frame("01 06 00 04 00 07")
				for _, c := range []struct {
					name    string
					request []byte
					want    string
				}{
					{"a request", read, answer},
					{"another unit's", frame("02 03 00 04 00 01"), ""},
					{"another unit's request and answer, and ours", append(append(frame("02 03 00 04 00 01"), frame("02 03 02 00 09")...), read...), answer},
					{"noise", []byte{1, 3, 9}, ""},
					{"a request after noise", read, answer},
					{"a wrong checksum", append(read[:len(read)-3:len(read)-3], 'A', 'B', '\n'), ""},
					{"a broadcast", frame("00 06 00 04 00 09"), ""},
					{"which was done", read, string(frame("01 03 02 00 09"))},
					{"an unknown function", frame("01 41 00"), string(frame("01 C1 01"))},
					{"a write, whose answer looks like it", write, string(write)},
					{"the same again", write, string(write)},
					{"an exception of somebody", frame("01 83 02"), ""},
				} {
					if got := ask(c.request); got != c.want {
						t.Errorf("%s: % x, want % x", c.name, got, c.want)
					}
				}
			})
		}
	}
}

// pipePort is a port over a pipe, perhaps with an adapter that repeats what is sent.
type pipePort struct {
	net.Conn
	timeout time.Duration
	echo    bool
	again   []byte
}

func (p *pipePort) SetReadTimeout(d time.Duration) error { p.timeout = d; return nil }
func (p *pipePort) ResetInput() error                    { return nil }

func (p *pipePort) Read(b []byte) (int, error) {
	if len(p.again) > 0 {
		n := copy(b, p.again[:min(3, len(p.again))]) // in pieces
		p.again = p.again[n:]
		return n, nil
	}
	_ = p.SetReadDeadline(time.Now().Add(p.timeout)) // a pipe has one
	n, err := p.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	return n, err
}

func (p *pipePort) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if p.echo {
		p.again = append(p.again, b[:n]...)
	}
	return n, err
}

// The whole way: a topic becomes registers, and what a client writes a message.
func TestServerInTheHost(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	port := freePort(t)
	host, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"modbus-server": d.Server()}})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := fmt.Sprintf("driver: modbus-server\nlisten: {address: 127.0.0.1:%d}\nexception: 11\npoints:\n"+
		"  t: {input: 0, type: int16, scale: 0.1, topic: hall/t, max_age: 500ms}\n"+
		"  lamp: {coil: 0, topic: hall/lamp, set: hall/lamp}\n  speed: {holding: 0, type: int32, topic: fan, field: speed, set: fan/set, max: 70000}\n", port)
	if err := os.WriteFile(filepath.Join(folder, "panel.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := host.Load(t.Context(), os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	bus := drivertest.NewBus()
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := host.Run(ctx, bus); err != nil {
			t.Error(err)
		}
	})
	defer run.Wait()
	defer cancel()
	c := dial(t, d, modbus.Target{TCP: fmt.Sprintf("127.0.0.1:%d", port), Timeout: 5 * time.Second})
	say := func(topic, payload string) {
		t.Helper()
		if err := bus.Publish(ctx, message.Message{Topic: topic, Payload: []byte(payload), Retain: true, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	eventually := func(want string, what func() (any, error)) {
		t.Helper()
		got := ""
		for range 500 {
			v, err := what()
			if got = fmt.Sprint(v); err != nil {
				got = err.Error()
			}
			if strings.HasPrefix(got, want) {
				return
			}
			later(20 * time.Millisecond)
		}
		t.Errorf("it stays %s, want %s", got, want)
	}
	temperature := func() (any, error) { return c.ReadRegisters(ctx, 1, modbus.ReadInputRegisters, 0, 1) }
	eventually("exception 11", temperature)
	say("hall/t", "21.5")
	eventually("[215]", temperature)
	eventually("exception 11", temperature) // it has grown too old
	say("hall/t", "99999")                  // does not fit: bad, and the last value stays
	eventually("bad 21.5 99999 does not fit int16", func() (any, error) {
		for _, p := range host.Status()[0].Points {
			if p.Name == "t" {
				return fmt.Sprint(p.Quality, " ", p.Value, " ", p.Error), nil
			}
		}
		return nil, errors.New("there is no point t")
	})
	eventually("exception 11", temperature)
	say("fan", `{"speed": 65538}`)
	eventually("[1 2]", func() (any, error) { return c.ReadRegisters(ctx, 1, modbus.ReadHoldingRegisters, 0, 2) })
	if err := c.WriteRegisters(ctx, 1, 0, []uint16{1, 3}); err != nil {
		t.Error(err)
	}
	if m := bus.Wait(t, "fan/set", 1); string(m.Payload) != "65539" || m.Retain {
		t.Errorf("published is %q, retained %v", m.Payload, m.Retain)
	}
	if err := c.WriteRegisters(ctx, 1, 0, []uint16{2, 0}); err == nil || !strings.Contains(err.Error(), "exception 3") {
		t.Errorf("above the range: %v", err)
	}
	if err := c.WriteCoil(ctx, 1, 0, true); err != nil {
		t.Error(err)
	}
	eventually("[true]", func() (any, error) { return c.ReadBits(ctx, 1, modbus.ReadCoils, 0, 1) })
	if got := bus.Retained("hall/lamp"); got != "true" {
		t.Errorf("on the topic is %q", got)
	}
}
