package modbus_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// fakeValue is what a register of a fake unit holds: no two are the same, so that
// another register's value shows.
func fakeValue(unit uint8, fn modbus.Function, addr uint16) uint16 {
	return addr<<6 | uint16(unit&7)<<3 | uint16(fn&7)
}

// fakeBit is what a coil or discrete input of a fake unit holds.
func fakeBit(unit uint8, fn modbus.Function, addr uint16) bool {
	h := uint32(addr)*2654435761 + uint32(unit)*40503 + uint32(fn)*9176
	return (h^h>>15)>>7&1 == 1
}

// fakeUnit answers for all addresses below 1024, but for those that are missing.
type fakeUnit struct {
	dead    bool
	missing map[uint16]bool
	mute    map[uint16]bool // a request for such an address is not answered
	exact   bool            // only one register at a time
	several bool            // knows functions 15 and 16, not 5, 6 and 22
	latency time.Duration
	asked   int
	last    int // how many requests it still answers; 0 is all
	written []modbus.Function
	refuse  modbus.Code // what it answers to every read of a function, see refused
	refused modbus.Function

	generation uint16 // if not 0, every second register tells it, see pairValue

	memory *memory // if not nil, what is written is done
}

// register is what one of the unit's registers holds.
func (u *fakeUnit) register(unit uint8, fn modbus.Function, addr uint16) uint16 {
	if u.memory != nil && u.memory.owns(fn, addr) {
		value, _ := u.memory.get(fn, addr)
		return value
	}
	if u.generation > 0 && addr%2 == 1 {
		return uint16(pairValue(unit, fn, addr-1, u.generation))
	}
	return fakeValue(unit, fn, addr)
}

// bit is what one of the unit's coils or discrete inputs holds.
func (u *fakeUnit) bit(unit uint8, fn modbus.Function, addr uint16) bool {
	if u.memory != nil && u.memory.owns(fn, addr) {
		value, _ := u.memory.get(fn, addr)
		return value != 0
	}
	return fakeBit(unit, fn, addr)
}

// write is the PDU of the unit's answer to a request that writes.
func (u *fakeUnit) write(unit uint8, fn modbus.Function, pdu []byte) []byte {
	u.written = append(u.written, fn)
	code := modbus.Code(0)
	switch {
	case u.several && (fn <= modbus.WriteSingleRegister || fn == modbus.MaskWriteRegister):
		code = modbus.IllegalFunction
	case u.memory == nil:
		return slices.Clone(pdu[:5])
	default:
		code = u.memory.write(modbus.ParseRequest(unit, pdu))
	}
	if code != 0 {
		return []byte{byte(fn) | 0x80, byte(code)}
	}
	if fn == modbus.ReadWriteRegisters {
		read := u.answer(unit, append([]byte{byte(modbus.ReadHoldingRegisters)}, pdu[1:5]...))
		read[0] |= byte(fn) // an exception stays one
		return read
	}
	if fn == modbus.MaskWriteRegister {
		return slices.Clone(pdu)
	}
	return slices.Clone(pdu[:5])
}

// of is the answer of another unit to the same request. Nothing is written.
func (u *fakeUnit) of(other uint8, request, plain []byte) []byte {
	if modbus.Function(request[1]) < modbus.WriteSingleCoil {
		return modbus.AppendCRC(append([]byte{other}, u.answer(other, request[1:])...))
	}
	return reseal(append([]byte{other}, plain[1:]...))
}

// answer is the PDU of the unit's answer; nil is none.
func (u *fakeUnit) answer(unit uint8, pdu []byte) []byte {
	fn := modbus.Function(pdu[0])
	addr, count := binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
	if fn >= modbus.WriteSingleCoil {
		return u.write(unit, fn, pdu)
	}
	if u.refuse != 0 && u.refused == fn {
		return []byte{byte(fn) | 0x80, byte(u.refuse)}
	}
	if int(addr)+int(count) > 1024 || (u.exact && count != 1) {
		return []byte{byte(fn) | 0x80, byte(modbus.IllegalAddress)}
	}
	var data []byte
	if fn <= modbus.ReadDiscreteInputs {
		data = make([]byte, (count+7)/8)
	}
	for i := range count {
		if u.mute[addr+i] {
			return nil
		}
		if u.missing[addr+i] {
			return []byte{byte(fn) | 0x80, byte(modbus.IllegalAddress)}
		}
		switch {
		case fn > modbus.ReadDiscreteInputs:
			data = binary.BigEndian.AppendUint16(data, u.register(unit, fn, addr+i))
		case u.bit(unit, fn, addr+i):
			data[i/8] |= 1 << (i % 8)
		}
	}
	return append([]byte{byte(fn), byte(len(data))}, data...)
}

// fault is what goes wrong with one exchange.
type fault int

const (
	faultNone fault = iota
	faultLost
	faultLate
	faultDuplicate
	faultStaleFirst
	faultTruncated
	faultTruncatedThenWhole
	faultForeignFirst
	faultForeignOnly
	faultForeignRequest
	faultEchoed
	faultCRC
	faultWrongUnit
	faultWrongFunction
	faultWrongLength
	faultNoiseBefore
	faultNoiseWithin
	faultNoiseAfter
	faultNoiseOnly
	faultPause
	faultFrozen
	faultClosed
	faultUnheard // the unit did not get the request
	faultAway    // the request was done, but a gateway says that nobody answered
	faultCount
)

// fakeLine is an RTU line in virtual time, with everything that goes wrong on one.
type fakeLine struct {
	timeout time.Duration
	char    time.Duration

	mu        sync.Mutex
	rng       *rand.Rand
	units     map[uint8]*fakeUnit
	faulty    bool
	ascii     bool
	echo      []byte // what comes before the echo of a request; nil is a line without
	spoilEcho bool
	percent   int     // of the exchanges that go wrong, when faulty
	only      []fault // which faults there are; nil is all
	once      fault   // of the next request alone, faulty or not
	frozen    int     // requests that are still ignored
	history   []sentFrame
	order     []uint8 // the units asked
	hasty     int     // requests without the silence that must go before
	port      *fakePort
	opened    int
	counts    [faultCount]int
	perfect   int // frames that nothing could tell from the answer, and that did not arrive
}

// sentFrame is an answer that may come again.
type sentFrame struct {
	at    time.Time
	frame []byte
}

func newFakeLine(seed uint64, timeout time.Duration, units ...uint8) *fakeLine {
	l := &fakeLine{
		timeout: timeout, char: time.Second * 11 / 9600, units: map[uint8]*fakeUnit{},
		rng: rand.New(rand.NewPCG(seed, 1)), percent: 45,
	}
	for _, u := range units {
		l.units[u] = &fakeUnit{latency: 20 * time.Millisecond}
	}
	return l
}

func (l *fakeLine) setFaulty(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faulty = on
	if !on {
		l.frozen = 0
	}
}

// with changes a unit.
func (l *fakeLine) with(unit uint8, change func(u *fakeUnit)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.units[unit])
}

// faults is how often each fault was made.
func (l *fakeLine) faults() [faultCount]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// asked is how many requests a unit got.
func (l *fakeLine) asked(unit uint8) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.units[unit].asked
}

// open is Options.OpenSerial.
func (l *fakeLine) open(context.Context, modbus.SerialConfig) (modbus.Port, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	l.port = &fakePort{line: l, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	return l.port, nil
}

// request is a frame that has gone over the line.
func (l *fakeLine) request(p *fakePort, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.echo != nil {
		heard := append(slices.Clone(l.echo), frame...)
		if l.spoilEcho {
			heard[1] ^= 0x55
		}
		p.deliver(0, heard)
	}
	asked := frame
	if l.ascii {
		unit, pdu, ok := modbus.CutASCII(frame)
		if !ok {
			return
		}
		frame = modbus.AppendCRC(append([]byte{unit}, pdu...))
	}
	u := l.units[frame[0]]
	if u == nil {
		return
	}
	u.asked++
	f := faultNone
	if l.faulty && l.rng.IntN(100) < l.percent {
		if f = fault(1 + l.rng.IntN(int(faultCount)-1)); l.only != nil {
			f = l.only[l.rng.IntN(len(l.only))]
		}
	}
	if l.frozen > 0 {
		l.frozen--
		f = faultUnheard
	}
	if l.once != faultNone {
		f, l.once = l.once, faultNone
	}
	if u.dead {
		return
	}
	if u.last > 0 {
		u.last--
		u.dead = u.last == 0
	}
	l.counts[f]++
	if f == faultUnheard || f == faultFrozen {
		l.freeze(f)
		return
	}
	pdu := u.answer(frame[0], frame[1:len(frame)-2])
	l.order = append(l.order, frame[0])
	if pdu == nil {
		return
	}
	answer := modbus.AppendCRC(append([]byte{frame[0]}, pdu...))
	l.inject(p, f, u, frame, answer, asked)
	l.history = append(l.history, sentFrame{at: time.Now(), frame: l.wire(answer)})
	if len(l.history) > 50 {
		l.history = l.history[1:]
	}
}

// freeze ignores a request, and perhaps some after it.
func (l *fakeLine) freeze(f fault) {
	if f == faultFrozen {
		l.frozen = 1 + l.rng.IntN(3)
	}
}

// wire is an RTU frame as it travels on the line.
func (l *fakeLine) wire(frame []byte) []byte {
	if l.ascii {
		return modbus.AppendASCII(nil, frame[0], frame[1:len(frame)-2])
	}
	return frame
}

// inject delivers an answer as the fault has it. Request and plain, the answer, are RTU
// frames; asked is the request as it travels.
func (l *fakeLine) inject(p *fakePort, f fault, u *fakeUnit, request, plain, asked []byte) {
	answer := l.wire(plain)
	at := u.latency + time.Duration(l.rng.IntN(20))*time.Millisecond
	long := func() time.Duration { return time.Duration(l.rng.Int64N(int64(l.timeout * 5 / 2))) }
	noise := make([]byte, 1+l.rng.IntN(12))
	for i := range noise {
		noise[i] = byte(l.rng.Uint32())
	}
	switch f {
	case faultNone:
		p.deliver(at, answer)
	case faultLost:
	case faultLate:
		p.deliver(l.timeout+long()*7/10, answer)
	case faultDuplicate:
		p.deliver(at, answer)
		p.deliver(at+long(), answer)
	case faultStaleFirst:
		if old := l.stale(); old != nil {
			p.deliver(at/2, old)
		}
		p.deliver(at+long()/8, answer)
	case faultTruncated:
		p.deliver(at, answer[:1+l.rng.IntN(len(answer)-1)])
	case faultTruncatedThenWhole:
		p.deliver(at, append(slices.Clone(answer[:1+l.rng.IntN(len(answer)-1)]), answer...))
	case faultForeignFirst, faultForeignOnly:
		p.deliver(at, l.wire(u.of(77, request, plain)))
		if f == faultForeignFirst {
			p.deliver(at+5*time.Millisecond, answer)
		}
	case faultForeignRequest:
		p.deliver(at, l.wire(modbus.AppendCRC([]byte{request[0], 3, 0, byte(l.rng.IntN(9)), 0, 4})))
		p.deliver(at+5*time.Millisecond, answer)
	case faultEchoed:
		p.deliver(0, asked)
		p.deliver(at, answer)
	case faultWrongUnit:
		other := request[0] ^ (1 + byte(l.rng.IntN(7)))
		p.stray(at, l.wire(u.of(other, request, plain)))
	case faultPause:
		cut := 1 + l.rng.IntN(len(answer)-1)
		p.deliver(at, answer[:cut])
		p.deliver(at+16*time.Millisecond, answer[cut:])
	case faultAway:
		p.deliver(at, l.wire(modbus.AppendCRC([]byte{request[0], request[1] | 0x80, byte(modbus.GatewayNoResponse)})))
	case faultClosed:
		p.breakDown()
	default:
		l.spoil(p, f, at, noise, plain, asked)
	}
}

// spoil delivers something that is not quite the answer to what was asked.
func (l *fakeLine) spoil(p *fakePort, f fault, at time.Duration, noise, plain, asked []byte) {
	answer := l.wire(plain)
	bad := slices.Clone(answer)
	switch f {
	case faultCRC:
		bad[l.rng.IntN(len(bad))] ^= 1 << l.rng.IntN(8)
	case faultWrongFunction:
		bad = slices.Clone(plain)
		bad[1] = bad[1]%4 + 1
		p.stray(at, l.wire(reseal(bad)))
		return
	case faultWrongLength:
		bad = append(slices.Clone(plain[:len(plain)-2]), 0, 0, 0, 0)
		bad[2] += 2
		p.stray(at, l.wire(reseal(bad)))
		return
	case faultNoiseBefore:
		bad = append(noise, answer...)
	case faultNoiseWithin:
		bad = slices.Insert(bad, 1+l.rng.IntN(len(bad)-1), noise...)
	case faultNoiseAfter:
		bad = append(bad, noise...)
	case faultNoiseOnly:
		bad = noise
	default:
		panic("no such fault")
	}
	if says, data := l.judge(asked, bad); says != "" {
		if is, right := l.judge(asked, answer); says != is || !bytes.Equal(data, right) {
			l.perfect++ // the checksum fits by chance
			return
		}
	}
	p.deliver(at, bad)
}

// judge is what a client makes of what it hears when it has asked: "granted", with data,
// "refused", or empty, if that is no answer.
func (l *fakeLine) judge(asked, heard []byte) (verdict string, data []byte) {
	if l.ascii {
		unit, pdu, ok := modbus.CutASCII(asked)
		if !ok {
			return "", nil
		}
		verdict, data, _ = modbus.ParseRequest(unit, pdu).ScanASCII(heard, false)
	} else {
		verdict, data, _ = modbus.ParseRequest(asked[0], asked[1:len(asked)-2]).Scan(heard, false)
	}
	if verdict == "foreign" {
		verdict = ""
	}
	return verdict, data
}

// stale is an answer of the last three time-outs.
func (l *fakeLine) stale() []byte {
	recent := slices.DeleteFunc(slices.Clone(l.history), func(s sentFrame) bool {
		return time.Since(s.at) > l.timeout*5/2
	})
	if len(recent) == 0 {
		return nil
	}
	return recent[l.rng.IntN(len(recent))].frame
}

func reseal(frame []byte) []byte { return modbus.AppendCRC(frame[:len(frame)-2]) }

// fakePort is the near end of a fakeLine.
type fakePort struct {
	line    *fakeLine
	arrived chan struct{} // holds one
	closed  chan struct{}

	mu      sync.Mutex
	rx      []byte
	last    time.Time // when the last byte came
	sent    int       // requests
	asked   []byte    // the latest
	timeout time.Duration
	broken  bool
	shut    bool

	wire   io.Writer // where what arrives goes, if that is a real line; Read is for no such port
	latest time.Time // on a real line, when what answers the request at hand is lost
}

// arrive takes what has come over the line; mu is held.
func (p *fakePort) arrive(frame []byte, latest time.Time) {
	p.last = time.Now()
	if p.wire != nil && p.last.After(latest) {
		return
	}
	if p.wire != nil {
		_, _ = p.wire.Write(frame) // after the end of the test nobody hears it
		return
	}
	p.rx = append(p.rx, frame...)
}

var errUnplugged = errors.New("unplugged")

// deliver lets bytes arrive after a while; what takes time on the line ends later.
func (p *fakePort) deliver(after time.Duration, frame []byte) {
	frame = slices.Clone(frame)
	latest := p.latest
	time.AfterFunc(after+time.Duration(len(frame))*p.line.char, func() {
		p.mu.Lock()
		p.arrive(frame, latest)
		p.mu.Unlock()
		p.signal()
	})
}

// stray lets a frame arrive that is no answer to any request, unless it is one, down to
// its length, to a further request that is on the line by then: see
// docs/decisions/0049-perfect-lies.md.
func (p *fakePort) stray(after time.Duration, frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent, latest := p.sent, p.latest
	time.AfterFunc(after+time.Duration(len(frame))*p.line.char, func() {
		p.mu.Lock()
		says, _ := p.line.judge(p.asked, frame)
		perfect := p.sent != sent && says != ""
		if !perfect {
			p.arrive(frame, latest)
		}
		p.mu.Unlock()
		if perfect {
			p.line.mu.Lock()
			p.line.perfect++
			p.line.mu.Unlock()
		}
		p.signal()
	})
}

func (p *fakePort) signal() {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// breakDown unplugs the port.
func (p *fakePort) breakDown() {
	p.mu.Lock()
	p.broken = true
	p.mu.Unlock()
	p.signal()
}

func (p *fakePort) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken || p.shut {
		return 0, errUnplugged
	}
	n := copy(b, p.rx)
	p.rx = p.rx[n:]
	return n, nil
}

// Read gives what has come, or what comes within the time-out. A timer that is due at once
// is not for a bubble: under the race detector two of them at a time have crashed the
// runtime of Go 1.26 (runtime.(*timer).maybeRunChan).
func (p *fakePort) Read(b []byte) (int, error) {
	p.mu.Lock()
	timeout := p.timeout
	p.mu.Unlock()
	if timeout <= 0 {
		return p.take(b)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		if n, err := p.take(b); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-p.arrived:
		case <-p.closed:
		case <-timer.C:
			return 0, nil
		}
	}
}

func (p *fakePort) Write(b []byte) (int, error) {
	p.mu.Lock()
	broken := p.broken || p.shut
	p.sent, p.asked = p.sent+1, slices.Clone(b)
	hasty := time.Since(p.last) < p.line.char*7/2
	p.mu.Unlock()
	if hasty {
		p.line.mu.Lock()
		p.line.hasty++
		p.line.mu.Unlock()
	}
	if broken {
		return 0, errUnplugged
	}
	frame := slices.Clone(b)
	time.AfterFunc(time.Duration(len(b))*p.line.char, func() { p.line.request(p, frame) })
	return len(b), nil
}

func (p *fakePort) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shut {
		p.shut = true
		close(p.closed)
	}
	return nil
}

func (p *fakePort) SetReadTimeout(d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = d
	return nil
}

func (p *fakePort) ResetInput() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rx = nil
	return nil
}

// dial is Options.Dial: the line through a serial device server.
func (l *fakeLine) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if _, err := l.open(ctx, modbus.SerialConfig{}); err != nil {
		return nil, err
	}
	return &fakeConn{fakePort: l.port}, nil
}

// fakeConn is a fakePort as a connection.
type fakeConn struct{ *fakePort }

func (c *fakeConn) Read(b []byte) (int, error) {
	n, err := c.fakePort.Read(b)
	if n == 0 && err == nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (c *fakeConn) SetReadDeadline(t time.Time) error { return c.SetReadTimeout(time.Until(t)) }
func (*fakeConn) SetWriteDeadline(time.Time) error    { return nil }
func (c *fakeConn) SetDeadline(t time.Time) error     { return c.SetReadDeadline(t) }
func (*fakeConn) LocalAddr() net.Addr                 { return &net.TCPAddr{} }
func (*fakeConn) RemoteAddr() net.Addr                { return &net.TCPAddr{} }
