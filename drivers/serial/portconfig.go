package serial

import (
	"fmt"
	"strings"
	"time"

	bugst "go.bug.st/serial"
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
	// Flow is "none", "rtscts" (the lines RTS and CTS) or "xonxoff" (the characters
	// DC1 and DC3); empty means none.
	Flow string
	// DTR and RTS are what the modem lines are set to. The system raises both as it
	// opens a port, so that one that is to be low is high for a moment.
	DTR, RTS Level
	// RS485 says how the sender of an RS-485 line is switched on; the zero value is
	// that the adapter does that by itself.
	RS485 RS485
}

// Level is the state of a modem line: "" (as the system sets it), "high" or "low".
type Level string

// The levels of a modem line.
const (
	High Level = "high"
	Low  Level = "low"
)

// RS485 says how the sender of a two-wire line is switched.
type RS485 struct {
	// By is "" (not by us), "auto" (by the kernel, by RTS where its driver cannot),
	// "kernel" or "rts".
	By string
	// RTSOnSend is the level of RTS while sending; empty means high.
	RTSOnSend Level
	// DelayBefore and DelayAfter are between the switch and the first character, and
	// the last one and the switch. The kernel counts whole milliseconds: they are
	// rounded up for it. At most 100 ms, as there.
	DelayBefore, DelayAfter time.Duration
	// Receive hears the line while sending, and so the own bytes, too.
	Receive bool
}

const (
	byAuto   = "auto"
	byKernel = "kernel"
	byRTS    = "rts"

	flowHardware = "rtscts"
	flowSoftware = "xonxoff"

	defaultBaud = 9600
	maxRS485    = 100 * time.Millisecond // SER_RS485 delays of the kernel
)

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
	if err := c.checkLines(); err != nil {
		return nil, err
	}
	if _, err := parseUSB(c.Port); err != nil {
		return nil, wrongKey("port", "%v", err)
	}
	return m, c.RS485.check()
}

// checkLines judges flow control and modem lines: RTS can serve one end only.
func (c PortConfig) checkLines() error {
	switch {
	case c.Flow != "" && c.Flow != "none" && c.Flow != flowHardware && c.Flow != flowSoftware:
		return wrongKey("flow", "flow must be none, rtscts or xonxoff, not %q", c.Flow)
	case !c.DTR.known():
		return wrongKey("dtr", "dtr must be high or low, not %q", c.DTR)
	case !c.RTS.known():
		return wrongKey("rts", "rts must be high or low, not %q", c.RTS)
	case c.RTS != "" && c.Flow == flowHardware:
		return wrongKey("rts", "flow rtscts moves the line RTS by itself")
	case c.RS485.By != "" && c.Flow == flowHardware:
		return wrongKey("flow", "the line RTS cannot do flow control and switch an RS-485 sender")
	case c.RS485.By != "" && c.RTS != "":
		return wrongKey("rts", "the line RTS switches the RS-485 sender: rs485.rts_on_send says how")
	}
	return nil
}

func (r RS485) check() error {
	switch {
	case r.By == "" && r != RS485{}:
		return wrongKey("rs485", "rs485 needs by: auto, kernel or rts")
	case r.By != "" && r.By != byAuto && r.By != byKernel && r.By != byRTS:
		return wrongKey("rs485.by", "by must be auto, kernel or rts, not %q", r.By)
	case !r.RTSOnSend.known():
		return wrongKey("rs485.rts_on_send", "rts_on_send must be high or low, not %q", r.RTSOnSend)
	case r.DelayBefore < 0 || r.DelayBefore > maxRS485:
		return wrongKey("rs485.delay_before", "delay_before must be 0s to %v, not %v", maxRS485, r.DelayBefore)
	case r.DelayAfter < 0 || r.DelayAfter > maxRS485:
		return wrongKey("rs485.delay_after", "delay_after must be 0s to %v, not %v", maxRS485, r.DelayAfter)
	}
	return nil
}

func (l Level) known() bool { return l == "" || l == High || l == Low }

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
