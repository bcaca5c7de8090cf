package drivers

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Wiring are the keys of a device file that say what a serial port's lines beside the
// data are used for. It may be compared. The zero value leaves them to the system and
// the adapter. Drivers with serial lines embed it with the yaml tag ",inline".
type Wiring struct {
	// Flow is [FlowNone], [FlowHardware] or [FlowSoftware]; empty means none.
	Flow string `yaml:"flow"`
	// DTR and RTS are what the modem lines are set to. The system raises both as it
	// opens a port, so that one that is to be low is high for a moment.
	DTR Level `yaml:"dtr"`
	RTS Level `yaml:"rts"`
	// RS485 says how the sender of an RS-485 line is switched on; the zero value is
	// that the adapter does that by itself.
	RS485 RS485 `yaml:"rs485"`
}

// What [Wiring].Flow may be.
const (
	FlowNone     = "none"
	FlowHardware = "rtscts"  // the lines RTS and CTS
	FlowSoftware = "xonxoff" // the characters DC1 and DC3, which data must not have
)

// Level is the state of a modem line: "" (as the system sets it), [High] or [Low].
type Level string

// The levels of a modem line.
const (
	High Level = "high"
	Low  Level = "low"
)

// RS485 says how the sender of a two-wire line is switched. In a device file it is a
// mapping, or the word that is By.
type RS485 struct {
	// By is "" (not by us), [RS485Auto], [RS485Kernel] or [RS485RTS].
	By string `yaml:"by"`
	// RTSOnSend is the level of RTS while sending; empty means high.
	RTSOnSend Level `yaml:"rts_on_send"`
	// DelayBefore and DelayAfter are between the switch and the first character, and
	// the last one and the switch. The kernel counts whole milliseconds: they are
	// rounded up for it. At most 100 ms, as there.
	DelayBefore time.Duration `yaml:"delay_before"`
	DelayAfter  time.Duration `yaml:"delay_after"`
	// Receive hears the line while sending, and so the own bytes, too.
	Receive bool `yaml:"receive"`
}

// Who switches the sender of an RS-485 line.
const (
	RS485Auto   = "auto"   // the kernel; RTS where its driver cannot
	RS485Kernel = "kernel" // by TIOCSRS485 of Linux
	RS485RTS    = "rts"    // the gateway, by the line RTS
)

const maxRS485 = 100 * time.Millisecond // SER_RS485 delays of the kernel

// UnmarshalYAML reads a mapping, or a word.
func (r *RS485) UnmarshalYAML(decode func(any) error) error {
	var node ast.Node
	if err := decode(&node); err != nil {
		return err
	}
	if word, ok := node.(ast.ScalarNode); ok {
		*r = RS485{By: word.GetToken().Value}
		return nil
	}
	type keys RS485 // without this method
	return decode((*keys)(r))
}

// Check judges the keys. Key is the path of the wrong one below those of the port,
// such as "rs485.delay_after". RTS can serve one end only.
func (w Wiring) Check() (key string, err error) {
	switch {
	case w.Flow != "" && w.Flow != FlowNone && w.Flow != FlowHardware && w.Flow != FlowSoftware:
		return "flow", fmt.Errorf("flow must be none, rtscts or xonxoff, not %q", w.Flow)
	case !w.DTR.known():
		return "dtr", fmt.Errorf("dtr must be high or low, not %q", w.DTR)
	case !w.RTS.known():
		return "rts", fmt.Errorf("rts must be high or low, not %q", w.RTS)
	case w.RTS != "" && w.Flow == FlowHardware:
		return "rts", fmt.Errorf("flow rtscts moves the line RTS by itself")
	case w.RS485.By != "" && w.Flow == FlowHardware:
		return "flow", fmt.Errorf("the line RTS cannot do flow control and switch an RS-485 sender")
	case w.RS485.By != "" && w.RTS != "":
		return "rts", fmt.Errorf("the line RTS switches the RS-485 sender: rs485.rts_on_send says how")
	}
	return w.RS485.check()
}

func (r RS485) check() (key string, err error) {
	switch {
	case r.By == "" && r != RS485{}:
		return "rs485", fmt.Errorf("rs485 needs by: auto, kernel or rts")
	case r.By != "" && r.By != RS485Auto && r.By != RS485Kernel && r.By != RS485RTS:
		return "rs485.by", fmt.Errorf("rs485 must be auto, kernel or rts, not %q", r.By)
	case !r.RTSOnSend.known():
		return "rs485.rts_on_send", fmt.Errorf("rts_on_send must be high or low, not %q", r.RTSOnSend)
	case r.DelayBefore < 0 || r.DelayBefore > maxRS485:
		return "rs485.delay_before", fmt.Errorf("delay_before must be 0s to %v, not %v", maxRS485, r.DelayBefore)
	case r.DelayAfter < 0 || r.DelayAfter > maxRS485:
		return "rs485.delay_after", fmt.Errorf("delay_after must be 0s to %v, not %v", maxRS485, r.DelayAfter)
	}
	return "", nil
}

func (l Level) known() bool { return l == "" || l == High || l == Low }
