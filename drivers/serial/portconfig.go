package serial

import (
	"fmt"
	"strings"
	"time"

	bugst "go.bug.st/serial"

	"github.com/gatehouse/gatehouse/drivers"
)

// PortConfig says how to open a serial port. It may be compared.
type PortConfig struct {
	// Port is the path, "/dev/ttyUSB0", or "usb:VID:PID[:SERIAL[:INTERFACE]]": the
	// one USB port that has these, whatever its name is now.
	Port     string
	Baud     int    // 0 means 9600
	Parity   string // "none", "even", "odd", "mark" or "space"; empty means none
	DataBits int    // 5 to 8; 0 means 8
	StopBits int    // 1 or 2; 0 means 1
	drivers.Wiring
}

const defaultBaud = 9600

// mode checks the configuration. The error is a *keyError.
func (c PortConfig) mode() (*bugst.Mode, error) {
	parities := map[string]bugst.Parity{
		"": bugst.NoParity, "none": bugst.NoParity, "even": bugst.EvenParity, "odd": bugst.OddParity,
		"mark": bugst.MarkParity, "space": bugst.SpaceParity,
	}
	stopBits := map[int]bugst.StopBits{0: bugst.OneStopBit, 1: bugst.OneStopBit, 2: bugst.TwoStopBits}
	m := &bugst.Mode{BaudRate: orDefault(c.Baud, defaultBaud), DataBits: orDefault(c.DataBits, 8)}
	var known bool
	if m.BaudRate < 50 || m.BaudRate > 4_000_000 {
		return nil, wrongKey("baud", "baud must be 50 to 4000000, not %d", c.Baud)
	}
	if m.DataBits < 5 || m.DataBits > 8 {
		return nil, wrongKey("data_bits", "data_bits must be 5 to 8, not %d", c.DataBits)
	}
	if m.Parity, known = parities[c.Parity]; !known {
		return nil, wrongKey("parity", "parity must be none, even, odd, mark or space, not %q", c.Parity)
	}
	if m.StopBits, known = stopBits[c.StopBits]; !known {
		return nil, wrongKey("stop_bits", "stop_bits must be 1 or 2, not %d", c.StopBits)
	}
	if key, err := c.Check(); err != nil {
		return nil, &keyError{key, err.Error()}
	}
	if _, err := parseUSB(c.Port); err != nil {
		return nil, wrongKey("port", "%v", err)
	}
	return m, nil
}

// Char is how long one character takes on the line: start bit, data, parity, stop.
func (c PortConfig) Char() time.Duration {
	bits := 1 + orDefault(c.DataBits, 8) + orDefault(c.StopBits, 1)
	if c.Parity != "" && c.Parity != "none" {
		bits++
	}
	return time.Duration(bits) * time.Second / time.Duration(orDefault(c.Baud, defaultBaud))
}

// String gives "/dev/ttyUSB0 9600 8N1".
func (c PortConfig) String() string {
	parity := "N"
	if c.Parity != "" {
		parity = strings.ToUpper(c.Parity[:1])
	}
	return fmt.Sprintf("%s %d %d%s%d", c.Port, orDefault(c.Baud, defaultBaud), orDefault(c.DataBits, 8), parity, orDefault(c.StopBits, 1))
}

func orDefault(n, d int) int {
	if n == 0 {
		return d
	}
	return n
}

// keyError is something wrong with one key, named by its path below the port's keys.
type keyError struct{ key, msg string }

func (e *keyError) Error() string { return e.msg }

func wrongKey(key, format string, args ...any) error {
	return &keyError{key, fmt.Sprintf(format, args...)}
}
