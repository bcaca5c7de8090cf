package modbus

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// The defaults and limits of what leads to a device; those of the line are the
// standard's (Modbus over Serial Line V1.02 §2.5.1).
const (
	defaultBaud   = 19200
	defaultPort   = "502"
	securePort    = "802" // mbap/TLS/TCP (Modbus/TCP Security §7)
	maxSerialUnit = 247
	broadcast     = 0         // the unit identifier of all, on a line
	maxBaud       = 4_000_000 // that a serial port takes
	maxSilenceKey = time.Second
	maxDelay      = 10 * time.Second
	pseudoPort    = "pty:" // of a port that is a pseudo-terminal of the gateway's
)

// transportFile says what leads to a device; exactly one of the first five is set.
type transportFile struct {
	// TCP is the host and perhaps the port (502) of a Modbus TCP device.
	TCP string `yaml:"tcp"`
	// TLS is a Modbus TCP device behind TLS (Modbus/TCP Security).
	TLS *tlsFile `yaml:"tls"`
	// RTUTCP and ASCIITCP are the host and perhaps the port (502) of a serial device
	// server, which passes the frames of its line through a TCP stream.
	RTUTCP   string `yaml:"rtu_tcp"`
	ASCIITCP string `yaml:"ascii_tcp"`
	// Serial is a serial port.
	Serial *serialFile `yaml:"serial"`
	// Line is the line behind a serial device server, as it is set there: what it has to
	// carry is forecast by it.
	Line *charactersFile `yaml:"line"`
	// Silence is the pause between two frames on a line; absent it is 3.5 characters,
	// 1.75 ms above 19200 baud.
	Silence time.Duration `yaml:"silence"`
	// Delay is the pause between an answer of the unit and the next request to it.
	Delay time.Duration `yaml:"delay"`
	// Echo is that the line repeats what is sent; absent, that is found out.
	Echo *bool `yaml:"echo"`
}

// tlsFile is a device behind TLS.
type tlsFile struct {
	// Address is the host and perhaps the port (802).
	Address string `yaml:"address"`
	// CA is a PEM file of the certificates that the device's is verified by; absent,
	// those of the system are.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files of what the gateway shows of itself.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// ServerName is what the device's certificate must name; absent, the host.
	ServerName string `yaml:"server_name"`
}

// serialFile is a serial line.
type serialFile struct {
	Port       string         `yaml:"port"`
	Characters charactersFile `yaml:",inline"`
	Mode       string         `yaml:"mode"` // rtu (the default) or ascii
	Wiring     drivers.Wiring `yaml:",inline"`
}

// charactersFile is how the characters of a line are sent.
type charactersFile struct {
	Baud     *scalar `yaml:"baud"`      // 19200 if absent
	Parity   string  `yaml:"parity"`    // none, even (the default) or odd
	DataBits *scalar `yaml:"data_bits"` // 8; in ASCII mode 7 (the default) or 8
	StopBits *scalar `yaml:"stop_bits"` // 1 (the default) or 2
}

// streamLine is what is guessed of the line behind a stream.
var streamLine = SerialConfig{Baud: defaultBaud, Parity: "even", DataBits: 8, StopBits: 1}

// kind is a kind of transport, by the word of a device file.
type kind string

const (
	kindTCP      kind = "tcp"
	kindTLS      kind = "tls"
	kindRTUTCP   kind = "rtu_tcp"
	kindASCIITCP kind = "ascii_tcp"
	kindSerial   kind = "serial"
)

// echo says whether a line repeats what is sent.
type echo uint8

const (
	echoLearnt echo = iota
	echoYes
	echoNo
)

// transport is what leads to a device, checked. Devices whose bus has the same name
// share it; then all of it must be the same, but for delay.
type transport struct {
	kind    kind
	address string       // host and port; "" is serial
	serial  SerialConfig // for a stream, what is guessed of the line behind it
	tls     TLSConfig
	silence time.Duration // 0 is the standard's
	echo    echo
}

// bus is the name of the bus that the device is on.
func (t transport) bus() string { return string(t.kind) + " " + t.place() }

// place is the address or the port.
func (t transport) place() string {
	if t.kind == kindSerial {
		return t.serial.Port
	}
	return t.address
}

// line reports whether frames carry nothing that tells which request they belong to.
func (t transport) line() bool { return t.kind != kindTCP && t.kind != kindTLS }

func (t transport) ascii() bool { return t.kind == kindASCIITCP || t.serial.Mode == modeASCII }

// gap is the pause between two frames.
func (t transport) gap() time.Duration {
	if t.silence > 0 {
		return t.silence
	}
	return t.serial.silence()
}

// check reads what leads to a device. The error is a *drivers.ConfigError.
func (f *transportFile) check(cfg drivers.Config) (t transport, err error) {
	var kinds []kind
	for _, k := range []struct {
		kind kind
		set  bool
	}{
		{kindTCP, f.TCP != ""},
		{kindTLS, f.TLS != nil},
		{kindRTUTCP, f.RTUTCP != ""},
		{kindASCIITCP, f.ASCIITCP != ""},
		{kindSerial, f.Serial != nil},
	} {
		if k.set {
			kinds = append(kinds, k.kind)
		}
	}
	if len(kinds) != 1 {
		return t, cfg.Errorf("$.driver", "a Modbus device needs exactly one of tcp, tls, rtu_tcp, ascii_tcp and serial")
	}
	t.kind = kinds[0]
	switch address := f.TCP + f.RTUTCP + f.ASCIITCP; t.kind {
	case kindSerial:
		t.serial, err = f.Serial.check(cfg)
	case kindTLS:
		t.address, t.tls, err = f.TLS.check(cfg)
	default:
		if t.address, err = hostPort(address, defaultPort); err != nil {
			return t, cfg.Errorf("$."+string(t.kind), "%v", err)
		}
	}
	if err != nil {
		return t, err
	}
	if t.kind == kindRTUTCP || t.kind == kindASCIITCP {
		t.serial = streamLine
	}
	return t, f.checkManners(cfg, &t)
}

// checkManners reads how the line is to be treated.
func (f *transportFile) checkManners(cfg drivers.Config, t *transport) error {
	if !t.line() && (f.Silence != 0 || f.Echo != nil) {
		return cfg.Errorf("$."+map[bool]string{true: "silence", false: "echo"}[f.Silence != 0],
			"there is no such thing over %s, only on a line", t.kind)
	}
	if f.Silence < 0 || f.Silence > maxSilenceKey {
		return cfg.Errorf("$.silence", "silence must be 0 to %v", maxSilenceKey)
	}
	if f.Delay < 0 || f.Delay > maxDelay {
		return cfg.Errorf("$.delay", "delay must be 0 to %v", maxDelay)
	}
	t.silence = f.Silence
	if f.Echo != nil {
		t.echo = map[bool]echo{true: echoYes, false: echoNo}[*f.Echo]
	}
	return nil
}

// unitOf reads a unit identifier.
func (t transport) unitOf(cfg drivers.Config, text *scalar) (uint8, error) {
	if text == nil {
		return defaultUnit, nil
	}
	lowest, highest := int64(0), int64(255)
	if t.line() {
		lowest, highest = 1, maxSerialUnit
	}
	unit, err := text.whole("unit", lowest, highest)
	if err != nil {
		return 0, cfg.Errorf("$.unit", "%v", err)
	}
	return uint8(unit), nil
}

// hostPort checks a host with or without a port.
func hostPort(s, port string) (string, error) {
	host, given, err := net.SplitHostPort(s)
	if err == nil {
		port = given
	} else {
		host = strings.Trim(s, "[]")
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("%q is not a host and a port", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q is not a host and a port", s)
	}
	return net.JoinHostPort(host, port), nil
}

// hostOf is the host of what hostPort gave.
func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address) // it was joined
	return host
}

func (f *tlsFile) check(cfg drivers.Config) (address string, c TLSConfig, err error) {
	if address, err = hostPort(f.Address, securePort); err != nil {
		return "", c, cfg.Errorf("$.tls", "tls needs an address: %v", err)
	}
	c = TLSConfig{ServerName: f.ServerName}
	c.CA, c.Certificate, c.Key = beside(cfg, f.CA), beside(cfg, f.Certificate), beside(cfg, f.Key)
	if c.ServerName == "" {
		c.ServerName = hostOf(address)
	}
	if key, err := c.check(); err != nil {
		return "", c, cfg.Errorf("$.tls."+key, "%v", err)
	}
	return address, c, nil
}

// beside is a path that counts from the folder of the device file.
func beside(cfg drivers.Config, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(cmp.Or(cfg.Folder, filepath.Dir(cfg.File)), path)
}

func (f *serialFile) check(cfg drivers.Config) (SerialConfig, error) {
	c := SerialConfig{Port: f.Port, Mode: f.Mode, Wiring: f.Wiring}
	if c.Port == "" {
		return c, cfg.Errorf("$.serial", "serial needs a port")
	}
	switch c.Mode {
	case "":
		c.Mode = modeRTU
	case modeASCII, modeRTU:
	default:
		return c, cfg.Errorf("$.serial.mode", "mode must be rtu or ascii")
	}
	if err := f.Characters.check(cfg, "$.serial", &c); err != nil {
		return c, err
	}
	if key, err := c.checkWiring(); err != nil {
		return c, cfg.Errorf("$.serial."+key, "%v", err)
	}
	return c, nil
}

// check reads how characters are sent into c, whose mode is known; path is that of f.
func (f *charactersFile) check(cfg drivers.Config, path string, c *SerialConfig) error {
	c.Baud, c.Parity, c.DataBits, c.StopBits = defaultBaud, f.Parity, 8, 1
	fewest := int64(8)
	if c.Mode == modeASCII {
		c.DataBits, fewest = 7, 7
	}
	for _, n := range []struct {
		name      string
		text      *scalar
		low, high int64
		to        *int
	}{
		{"baud", f.Baud, 50, maxBaud, &c.Baud},
		{"data_bits", f.DataBits, fewest, 8, &c.DataBits},
		{"stop_bits", f.StopBits, 1, 2, &c.StopBits},
	} {
		if n.text == nil {
			continue
		}
		v, err := n.text.whole(n.name, n.low, n.high)
		if err != nil {
			return cfg.Errorf(path+"."+n.name, "%v", err)
		}
		*n.to = int(v)
	}
	switch c.Parity {
	case "":
		c.Parity = "even"
	case "none", "even", "odd":
	default:
		return cfg.Errorf(path+".parity", "parity must be none, even or odd")
	}
	return nil
}

// behind is the line behind a device server, if the file tells; nil is that it does not.
func (f *transportFile) behind(cfg drivers.Config, t transport) (*SerialConfig, error) {
	switch {
	case f.Line == nil:
		return nil, nil
	case t.kind != kindRTUTCP && t.kind != kindASCIITCP:
		return nil, cfg.Errorf("$.line", "line is what a serial device server has behind it (rtu_tcp, ascii_tcp), and there is none")
	case f.Line.Baud == nil:
		return nil, cfg.Errorf("$.line", "line needs a baud rate")
	}
	c := &SerialConfig{Mode: modeRTU}
	if t.ascii() {
		c.Mode = modeASCII
	}
	return c, f.Line.check(cfg, "$.line", c)
}

// checkWiring judges what the port's lines are used for; key is the wrong one.
func (c SerialConfig) checkWiring() (key string, err error) {
	if key, err = c.Check(); err != nil {
		return key, err
	}
	switch {
	case c.Flow == drivers.FlowSoftware && c.Mode == modeRTU:
		return "flow", errors.New("the frames of mode rtu have the characters of flow xonxoff in them: only mode ascii can have it")
	case strings.HasPrefix(c.Port, pseudoPort) && c.Wiring != drivers.Wiring{}:
		return "port", errors.New("a pseudo-terminal has no flow control, no modem lines and no RS-485 sender")
	}
	return "", nil
}
