package modbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// The errors of a request that got no answer, beside [Exception] and
// drivers.ErrLost: nothing came, or what came was no valid answer.
var (
	ErrSilent  = errSilent
	ErrGarbled = errGarbled
)

// Target is what leads to units: exactly one of TCP, TLS, RTUTCP, ASCIITCP and
// Serial.Port is set.
type Target struct {
	TCP      string // host and perhaps port (502): Modbus TCP
	TLS      string // host and perhaps port (802): Modbus TCP behind TLS
	RTUTCP   string // host and perhaps port (502): RTU frames in a TCP stream
	ASCIITCP string // host and perhaps port (502): ASCII frames in a TCP stream
	Serial   SerialConfig
	Secure   TLSConfig     // for TLS; an empty ServerName is the host
	Timeout  time.Duration // from the end of a request to its answer; 0 is 1 s
	Silence  time.Duration // between two frames on a line; 0 is the standard's
}

// transport checks a target.
func (t Target) transport() (transport, error) {
	out := transport{tls: t.Secure, silence: t.Silence}
	set := 0
	for _, k := range []struct {
		kind          kind
		address, port string
	}{
		{kindTCP, t.TCP, defaultPort},
		{kindTLS, t.TLS, securePort},
		{kindRTUTCP, t.RTUTCP, defaultPort},
		{kindASCIITCP, t.ASCIITCP, defaultPort},
		{kindSerial, t.Serial.Port, ""},
	} {
		if k.address == "" {
			continue
		}
		set++
		out.kind = k.kind
		if k.kind == kindSerial {
			out.serial = t.Serial.withDefaults()
			continue
		}
		var err error
		if out.address, err = hostPort(k.address, k.port); err != nil {
			return out, err
		}
	}
	switch {
	case set != 1:
		return out, fmt.Errorf("a target needs exactly one of TCP, TLS, RTU over TCP, ASCII over TCP and a serial port")
	case out.kind == kindTLS:
		if out.tls.ServerName == "" {
			out.tls.ServerName = hostOf(out.address)
		}
		_, err := out.tls.check()
		return out, err
	case out.kind != kindTCP && out.kind != kindSerial:
		out.serial = streamLine
	}
	return out, nil
}

// withDefaults fills in what is absent, as a device file would.
func (c SerialConfig) withDefaults() SerialConfig {
	if c.Mode == "" {
		c.Mode = modeRTU
	}
	if c.Baud == 0 {
		c.Baud = defaultBaud
	}
	if c.Parity == "" {
		c.Parity = "even"
	}
	if c.DataBits == 0 {
		c.DataBits = map[bool]int{true: 7, false: 8}[c.Mode == modeASCII]
	}
	if c.StopBits == 0 {
		c.StopBits = 1
	}
	return c
}

// Client asks units behind one target, by the rules of its bus, which it shares with
// the devices there: one request at a time, skipping what is no answer to it, and after
// anything odd not before the line is calm. Unlike a device it asks a unit that does not
// answer again and again. Its methods may be called by any goroutine. An error is an
// [Exception], or wraps [ErrSilent], [ErrGarbled], drivers.ErrLost or the context's.
//
// On a line unit 0 is all units: what is written to it gets no answer.
type Client struct {
	bus    *bus
	timing timing
}

// Dial returns a client; Close gives it back. It connects with the first request.
func (d *Driver) Dial(t Target) (*Client, error) {
	line, err := t.transport()
	if err != nil {
		return nil, fmt.Errorf("cannot reach any unit: %w", err)
	}
	b, err := d.acquire(line)
	if err != nil {
		return nil, err
	}
	c := &Client{bus: b, timing: timing{timeout: t.Timeout, insist: true}}
	if c.timing.timeout <= 0 {
		c.timing.timeout = defaultTimeout
	}
	return c, nil
}

// Close gives the client back, once.
func (c *Client) Close() error {
	c.bus.release()
	return nil
}

// ask does a request.
func (c *Client) ask(ctx context.Context, r request) (reply, error) {
	if err := checkRequest(r, c.bus.rtu); err != nil {
		return reply{}, err
	}
	t := c.timing
	t.confirm = min(c.bus.condition(r.unit, t.timeout).confirm, t.timeout)
	return c.bus.ask(ctx, r, t)
}

// checkRequest refuses what cannot be asked.
func checkRequest(r request, line bool) error {
	switch {
	case line && r.unit > maxSerialUnit:
		return fmt.Errorf("cannot ask unit %d: on a line units are 1 to %d", r.unit, maxSerialUnit)
	case line && r.unit == broadcast && r.gives():
		return fmt.Errorf("cannot ask unit 0: it is all units, which only take what is written")
	case !r.whole() && int(r.addr)+int(r.count) > 1<<16:
		return fmt.Errorf("cannot ask for %d at %d: the last address is 65535", r.count, r.addr)
	case !r.whole() && !wellFormed(r.appendPDU(nil)):
		return fmt.Errorf("cannot ask for %d by %v: it is none, or more than one request holds", r.count, r.fn)
	}
	return nil
}

// Do sends the PDU of any request and returns that of the answer. A request that is
// as the standard has it is guarded as by the other methods; of the answer to any other
// nothing is known but its function code.
func (c *Client) Do(ctx context.Context, unit uint8, pdu []byte) ([]byte, error) {
	if len(pdu) == 0 || len(pdu) > maxPDU {
		return nil, fmt.Errorf("a PDU has 1 to %d bytes, not %d", maxPDU, len(pdu))
	}
	if pdu[0] == 0 || pdu[0]&exceptionBit != 0 {
		return nil, fmt.Errorf("a function code is 1 to 127, not %d", pdu[0])
	}
	r := parseRequest(unit, pdu)
	got, err := c.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	return r.appendAnswer(nil, got.data), nil
}

// ReadBits reads 1 to 2000 bits by ReadCoils or ReadDiscreteInputs.
func (c *Client) ReadBits(ctx context.Context, unit uint8, fn Function, addr, count uint16) ([]bool, error) {
	if !fn.bits() {
		return nil, fmt.Errorf("%v reads no bits", fn)
	}
	got, err := c.ask(ctx, request{unit: unit, fn: fn, addr: addr, count: count})
	if err != nil {
		return nil, err
	}
	bits := make([]bool, count)
	for i := range bits {
		bits[i] = got.data[i/8]>>(i%8)&1 == 1
	}
	return bits, nil
}

// ReadRegisters reads 1 to 125 registers by ReadHoldingRegisters or
// ReadInputRegisters.
func (c *Client) ReadRegisters(ctx context.Context, unit uint8, fn Function, addr, count uint16) ([]uint16, error) {
	if !fn.reads() || fn.bits() {
		return nil, fmt.Errorf("%v reads no registers", fn)
	}
	return c.registers(ctx, request{unit: unit, fn: fn, addr: addr, count: count})
}

// registers does a request whose answer holds registers.
func (c *Client) registers(ctx context.Context, r request) ([]uint16, error) {
	got, err := c.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	out := make([]uint16, r.count)
	for i := range out {
		out[i] = binary.BigEndian.Uint16(got.data[2*i:])
	}
	return out, nil
}

// WriteCoil writes one coil (function 5).
func (c *Client) WriteCoil(ctx context.Context, unit uint8, addr uint16, on bool) error {
	data := []byte{0, 0}
	if on {
		binary.BigEndian.PutUint16(data, coilOn)
	}
	_, err := c.ask(ctx, request{unit: unit, fn: WriteSingleCoil, addr: addr, count: 1, data: data})
	return err
}

// WriteRegister writes one holding register (function 6).
func (c *Client) WriteRegister(ctx context.Context, unit uint8, addr, value uint16) error {
	_, err := c.ask(ctx, request{unit: unit, fn: WriteSingleRegister, addr: addr, count: 1, data: words(value)})
	return err
}

// WriteCoils writes 1 to 1968 coils (function 15).
func (c *Client) WriteCoils(ctx context.Context, unit uint8, addr uint16, on []bool) error {
	if len(on) > maxWriteBits {
		return fmt.Errorf("cannot write %d coils: one request holds %d", len(on), maxWriteBits)
	}
	data := make([]byte, (len(on)+7)/8)
	for i, bit := range on {
		if bit {
			data[i/8] |= 1 << (i % 8)
		}
	}
	_, err := c.ask(ctx, request{unit: unit, fn: WriteMultipleCoils, addr: addr, count: uint16(len(on)), data: data})
	return err
}

// WriteRegisters writes 1 to 123 holding registers (function 16).
func (c *Client) WriteRegisters(ctx context.Context, unit uint8, addr uint16, values []uint16) error {
	if len(values) > maxWriteRegisters {
		return fmt.Errorf("cannot write %d registers: one request holds %d", len(values), maxWriteRegisters)
	}
	r := request{unit: unit, fn: WriteMultipleRegisters, addr: addr, count: uint16(len(values)), data: words(values...)}
	_, err := c.ask(ctx, r)
	return err
}

// MaskWrite makes a holding register (itself AND and) OR (or AND NOT and), in the
// device (function 22).
func (c *Client) MaskWrite(ctx context.Context, unit uint8, addr, and, or uint16) error {
	_, err := c.ask(ctx, request{unit: unit, fn: MaskWriteRegister, addr: addr, count: 1, data: words(and, or)})
	return err
}

// ReadWrite writes 1 to 121 holding registers and then reads 1 to 125, in one request
// (function 23).
func (c *Client) ReadWrite(ctx context.Context, unit uint8, addr, count, writeAddr uint16, values []uint16) ([]uint16, error) {
	if len(values) > maxWriteWithRead {
		return nil, fmt.Errorf("cannot write %d registers: one request that reads, too, holds %d", len(values), maxWriteWithRead)
	}
	data := words(writeAddr, uint16(len(values)))
	data = append(append(data, byte(2*len(values))), words(values...)...)
	return c.registers(ctx, request{unit: unit, fn: ReadWriteRegisters, addr: addr, count: count, data: data})
}

// words are values as they travel.
func words(values ...uint16) []byte {
	b := make([]byte, 0, 2*len(values))
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}
