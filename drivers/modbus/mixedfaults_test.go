package modbus_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// mixedPoint is a point that somebody writes, alone.
type mixedPoint struct {
	keys string
	place
	bits int // how many bits its values have
	low  int // the lowest of them in its register
}

// mixedPoints are written by all functions that a device uses. Several says that they
// are of two devices which share the registers 220, 230 and 231.
var mixedPoints = []map[string]mixedPoint{{
	"single": {"holding: 200", place{3, 200, 1, 0}, 16, 0},
	"wide":   {"holding: 210, type: uint32", place{3, 210, 2, 0}, 32, 0},
	"lamp":   {"coil: 205", place{1, 205, 1, 0}, 1, 0},
	"locked": {"coil: 990", place{1, lockedCoil, 1, 0}, 1, 0},
	"low":    {"holding: 220, bits: 0..7", place{3, 220, 1, 0x00FF}, 8, 0},
	"first":  {"holding: 230, type: uint32, bits: 16..25", place{3, 230, 1, 0x03FF}, 10, 0},
}, {
	"other":  {"holding: 240, type: int16", place{3, 240, 1, 0}, 15, 0},
	"high":   {"holding: 220, bits: 8..15", place{3, 220, 1, 0xFF00}, 8, 8},
	"second": {"holding: 230, type: uint32, bits: 2..12", place{3, 231, 1, 0x1FFC}, 11, 2},
}}

// file is a device file of these points.
func mixedFile(transport string, unit uint8, timeout time.Duration, points map[string]mixedPoint) string {
	file := fmt.Sprintf("driver: modbus\nunit: %d\n%s\ntimeout: %v\nevery: 300ms\npoints:\n", unit, transport, timeout)
	for _, name := range slices.Sorted(maps.Keys(points)) {
		file += fmt.Sprintf("  %s: {%s, writable: true}\n", name, points[name].keys)
	}
	return file
}

// another is a value that a point does not hold: one of a few, so that it comes again, and
// sometimes one that the unit refuses.
func (p mixedPoint) another(rng *rand.Rand, held []uint16) (value uint32, want []uint16) {
	for {
		value = uint32(1 + rng.IntN(3))
		switch {
		case p.bits == 1:
			value = uint32(rng.IntN(2))
		case p.bits > 8 && rng.IntN(6) == 0:
			value = 0x100 | refusedByte
		case rng.IntN(6) == 0 && p.low == 0:
			value = refusedByte
		}
		want = []uint16{uint16(value << p.low)}
		if p.bits == 32 {
			value |= value << 24
			want = []uint16{uint16(value >> 16), uint16(value)}
		}
		if p.mask == 0 || want[0] != held[0] {
			return value, want
		}
	}
}

// claimOf is what the error of a driver claims.
func claimOf(err error) (claim, string) {
	switch {
	case err == nil:
		return claimDone, ""
	case errors.Is(err, drivers.ErrUncertain):
		return claimUnknown, err.Error()
	}
	return claimRefused, err.Error()
}

// mixed is what one run is about.
type mixed struct {
	transport string
	timeout   time.Duration
	seed      uint64
	unit      uint8
	done      func() bool
	*ledger
}

// device writes and reads points as a device does.
func (x *mixed) device(t *testing.T, d *modbus.Driver, points map[string]mixedPoint, seed uint64) {
	rng := rand.New(rand.NewPCG(x.seed, seed))
	cfg := config(t, mixedFile(x.transport, x.unit, x.timeout, points))
	all := slices.Sorted(maps.Keys(points))
	last := map[string]*seen{}
	var dev drivers.Device
	for !x.done() {
		var err error
		if dev == nil {
			if dev, err = d.Open(context.Background(), cfg); err != nil {
				later(time.Second)
				continue
			}
		}
		name := all[rng.IntN(len(all))]
		p := points[name]
		if last[name] == nil {
			last[name] = &seen{}
		}
		value, want := p.another(rng, x.now(p.place).values)
		x.write("device", p.place, want, last[name], func() (claim, string) {
			v := drivers.UintValue(uint64(value))
			if p.bits == 1 {
				v = drivers.BoolValue(value == 1)
			}
			err = dev.Write(context.Background(), name, v)
			return claimOf(err)
		})
		if !errors.Is(err, drivers.ErrLost) {
			start := time.Now()
			var readings []drivers.Reading
			readings, err = dev.Read(context.Background(), all)
			for _, r := range readings {
				x.reading(points[r.Point], r, start)
			}
		}
		if errors.Is(err, drivers.ErrLost) {
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			dev = nil
		}
		if err != nil {
			later(time.Second) // the back-off of a unit that seems dead
		}
		later(time.Duration(rng.IntN(300)) * time.Millisecond)
	}
	if dev != nil && dev.Close() != nil {
		t.Error("the device does not close")
	}
}

// reading judges a reading.
func (x *mixed) reading(p mixedPoint, r drivers.Reading, start time.Time) {
	if r.Quality != drivers.Good {
		return
	}
	if b, _ := r.Value.Bool(); p.bits == 1 {
		x.read("device", p.place, []uint16{map[bool]uint16{true: 1}[b]}, start, 3*x.timeout)
		return
	}
	n, _ := r.Value.Uint()
	got := []uint16{uint16(n << p.low)}
	if p.bits == 32 {
		got = []uint16{uint16(n >> 16), uint16(n)}
	}
	x.read("device", p.place, got, start, 3*x.timeout)
}

// asked is a request that writes, of a place that is nobody else's.
type asked struct {
	name string
	place
	make func(v uint16) (pdu []byte, want []uint16)
}

// askedWrites are those of a client: each its own, by base.
func askedWrites(base uint16) []asked {
	pdu := func(fn modbus.Function, words ...uint16) []byte {
		b := []byte{byte(fn)}
		for _, w := range words {
			b = binary.BigEndian.AppendUint16(b, w)
		}
		return b
	}
	return []asked{
		{"coil", place{1, base, 1, 0}, func(v uint16) ([]byte, []uint16) {
			return pdu(modbus.WriteSingleCoil, base, (v&1)*0xFF00), []uint16{v & 1}
		}},
		{"register", place{3, base + 1, 1, 0}, func(v uint16) ([]byte, []uint16) {
			return pdu(modbus.WriteSingleRegister, base+1, v), []uint16{v}
		}},
		{"coils", place{1, base + 2, 2, 0}, func(v uint16) ([]byte, []uint16) {
			return append(pdu(modbus.WriteMultipleCoils, base+2, 2), 1, byte(v&3)), []uint16{v & 1, v >> 1 & 1}
		}},
		{"registers", place{3, base + 4, 2, 0}, func(v uint16) ([]byte, []uint16) {
			return append(append(pdu(modbus.WriteMultipleRegisters, base+4, 2), 4), pdu(0, v, v)[1:]...), []uint16{v, v}
		}},
		{"mask", place{3, base + 6, 1, 0}, func(v uint16) ([]byte, []uint16) {
			return pdu(modbus.MaskWriteRegister, base+6, 0, v), []uint16{v}
		}},
		{"read and write", place{3, base + 8, 2, 0}, func(v uint16) ([]byte, []uint16) {
			return append(append(pdu(modbus.ReadWriteRegisters, base+8, 3, base+8, 2), 4), pdu(0, v, v)[1:]...), []uint16{v, v}
		}},
	}
}

// client writes and reads as foreign clients and tools do. Its reads have lengths of their
// own, as far as that concerns what others ask of the same function.
func (x *mixed) client(who string, base, length uint16, do func(pdu []byte) (answer []byte, told claim, why string)) {
	rng := rand.New(rand.NewPCG(x.seed, uint64(base)))
	writes, last := askedWrites(base), map[string]*seen{}
	for !x.done() {
		w := writes[rng.IntN(len(writes))]
		if last[w.name] == nil {
			last[w.name] = &seen{}
		}
		v := uint16(1 + rng.IntN(3))
		if w.fn == modbus.ReadHoldingRegisters && rng.IntN(6) == 0 {
			v = refusedByte
		}
		pdu, want := w.make(v)
		x.write(who+", "+w.name, w.place, want, last[w.name], func() (claim, string) {
			answer, told, why := do(pdu)
			if told == claimDone && pdu[0] == byte(modbus.ReadWriteRegisters) {
				x.registers(who, base+8, answer, time.Now())
			}
			return told, why
		})
		start := time.Now()
		if answer, told, _ := do([]byte{3, byte(base >> 8), byte(base), 0, byte(length)}); told == claimDone {
			x.registers(who, base, answer, start)
		}
		later(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
}

// registers judges the registers in an answer.
func (x *mixed) registers(who string, addr uint16, answer []byte, start time.Time) {
	got := make([]uint16, (len(answer)-2)/2)
	for i := range got {
		got[i] = binary.BigEndian.Uint16(answer[2+2*i:])
	}
	x.read(who, place{3, addr, uint16(len(got)), 0}, got, start, 3*x.timeout)
}

// foreign is a client of a gateway, which is told exceptions only.
func (x *mixed) foreign(base, length uint16, gate func(unit uint8, pdu []byte) []byte) {
	x.client("foreign client", base, length, func(pdu []byte) ([]byte, claim, string) {
		answer := gate(x.unit, pdu)
		switch {
		case answer[0]&0x80 == 0:
			return answer, claimDone, ""
		case answer[1] == byte(modbus.GatewayNoResponse):
			return nil, claimUnknown, "exception 11"
		}
		return nil, claimRefused, fmt.Sprintf("exception %d", answer[1])
	})
}

// tool is a client as tools are.
func (x *mixed) tool(base, length uint16, c *modbus.Client) {
	x.client("tool", base, length, func(pdu []byte) ([]byte, claim, string) {
		answer, err := c.Do(context.Background(), x.unit, pdu)
		told, why := claimOf(err)
		return answer, told, why
	})
}

// commandBus carries commands to a Host and its results back.
type commandBus struct {
	mu      sync.Mutex
	hear    message.Handler
	stands  chan struct{} // closed when commands are heard
	results map[string]chan string
}

func (b *commandBus) Publish(_ context.Context, all ...message.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range all {
		if c := b.results[m.Topic]; c != nil {
			c <- string(m.Payload)
		}
	}
	return nil
}

func (b *commandBus) Subscribe(ctx context.Context, s message.Subscription, h message.Handler) error {
	if s.Name == drivers.SubscriptionName {
		b.hear = h
		close(b.stands)
	}
	if s.Ready != nil {
		s.Ready()
	}
	<-ctx.Done()
	return nil
}

func (*commandBus) Resubscribe(context.Context, string, []string) error { return nil }

// command sends a command and waits for its result.
func (b *commandBus) command(name, payload string) (r struct {
	OK             bool
	Warning, Error string
	Confirm        string
	Unknown        bool
},
) {
	_ = b.hear(context.Background(), []message.Message{{
		Topic: "press/" + name + "/set", Payload: []byte(payload), QoS: 1,
		ResponseTopic: "answer/" + name, Origin: "client/panel",
	}})
	if err := json.Unmarshal([]byte(<-b.results["answer/"+name]), &r); err != nil {
		panic(err)
	}
	return r
}

// commandPoints are written by commands.
var commandPoints = map[string]mixedPoint{
	"set":    {"holding: 260", place{3, 260, 1, 0}, 16, 0},
	"long":   {"holding: 262, type: uint32", place{3, 262, 2, 0}, 32, 0},
	"pump":   {"coil: 263", place{1, 263, 1, 0}, 1, 0},
	"mode":   {"holding: 270, bits: 0..7, confirm: true", place{3, 270, 1, 0x00FF}, 8, 0},
	"locked": {"coil: 990", place{1, lockedCoil, 1, 0}, 1, 0},
}

// commands has a Host poll a device, and sends it commands.
func (x *mixed) commands(t *testing.T, d *modbus.Driver) {
	host, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"modbus": d}})
	if err != nil {
		t.Error(err)
		return
	}
	file := mixedFile(x.transport, x.unit, x.timeout, commandPoints)
	if err := host.Load(t.Context(), fstest.MapFS{"press.yaml": {Data: []byte(file)}}); err != nil {
		t.Error(err)
		return
	}
	bus := &commandBus{stands: make(chan struct{}), results: map[string]chan string{}}
	for name := range commandPoints {
		bus.results["answer/"+name] = make(chan string, 1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := host.Run(ctx, bus); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	<-bus.stands
	rng := rand.New(rand.NewPCG(x.seed, 260))
	all, last := slices.Sorted(maps.Keys(commandPoints)), map[string]*seen{}
	for !x.done() {
		name := all[rng.IntN(len(all))]
		p := commandPoints[name]
		if last[name] == nil {
			last[name] = &seen{}
		}
		value, want := p.another(rng, x.now(p.place).values)
		text := fmt.Sprint(value)
		if p.bits == 1 {
			text = fmt.Sprint(value == 1)
		}
		token := ""
		if strings.Contains(p.keys, "confirm") {
			x.write("command without confirmation", p.place, want, last[name], func() (claim, string) {
				r := bus.command(name, text)
				token = r.Confirm
				return claimRefused, r.Error
			})
			text = fmt.Sprintf(`{"value":%s,"confirm":%q}`, text, token)
		}
		x.write("command", p.place, want, last[name], func() (claim, string) {
			switch r := bus.command(name, text); {
			case strings.Contains(r.Warning, "the write was not answered, but"):
				return claimHeld, r.Warning
			case strings.Contains(r.Warning, "the device holds"):
				return claimUnknown, r.Warning
			case r.OK:
				return claimDone, r.Warning
			case r.Unknown:
				return claimUnknown, r.Error
			default:
				return claimRefused, r.Error
			}
		})
		later(time.Duration(rng.IntN(400)) * time.Millisecond)
	}
}

// naive writes as a client does that takes the first frame of the right shape, tries
// twice, and then says that it failed.
func (x *mixed) naive(open func() modbus.Port) {
	port := open()
	x.client("naive client", 300, 41, func(pdu []byte) ([]byte, claim, string) {
		r := modbus.ParseRequest(x.unit, pdu)
		for range 2 {
			_ = port.ResetInput()
			if _, err := port.Write(r.Frame()); err != nil {
				port = open()
				continue
			}
			heard := make([]byte, 0, r.AnswerLen()+3)
			for _ = port.SetReadTimeout(x.timeout); len(heard) < cap(heard); {
				n, err := port.Read(heard[len(heard):cap(heard)])
				if heard = heard[:len(heard)+n]; n == 0 || err != nil {
					break
				}
			}
			switch verdict, data, _ := r.Scan(heard, false); verdict {
			case "granted":
				return r.AppendAnswer(data), claimDone, ""
			case "refused":
				return nil, claimRefused, ""
			}
		}
		return nil, claimRefused, ""
	})
}

// The ledger finds what a client claims that does not guard itself.
func TestFaultsOfALineFoolANaiveWriter(t *testing.T) {
	const timeout = 300 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, timeout, 1)
		line.faulty, line.percent = true, 40
		line.only = []fault{faultDuplicate, faultStaleFirst, faultLost, faultUnheard, faultEchoed}
		line.with(1, func(u *fakeUnit) { u.memory = newMemory() })
		x := &mixed{
			timeout: timeout, seed: 1, unit: 1,
			done:   func() bool { return line.exchanges() >= 5000 },
			ledger: &ledger{look: func(f func(*memory)) { line.with(1, func(u *fakeUnit) { f(u.memory) }) }},
		}
		x.naive(func() modbus.Port {
			p, err := line.open(t.Context(), modbus.SerialConfig{})
			if err != nil {
				t.Error(err)
			}
			return p
		})
		found := map[string]int{}
		for _, text := range x.lies {
			for _, kind := range []string{"is said to be done", "is said to be refused", "was done 2 times"} {
				if strings.Contains(text, kind) {
					found[kind]++
				}
			}
		}
		t.Log(found)
		if len(found) < 3 {
			t.Errorf("the ledger found %v only", found)
		}
		later(time.Minute)
	})
}

// run has everybody at work at once, until it is done.
func (x *mixed) run(t *testing.T, d *modbus.Driver) {
	target := faultTarget(x.transport, x.timeout)
	gateway := fmt.Sprintf("driver: modbus-gateway\nlisten: {address: 127.0.0.1:0}\n%s\ntimeout: %v\n", x.transport, x.timeout)
	gate, end, err := modbus.GatewayAnswer(d, config(t, gateway))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	var all sync.WaitGroup
	for i, points := range mixedPoints {
		all.Go(func() { x.device(t, d, points, uint64(i)) })
	}
	all.Go(func() { x.foreign(300, 41, gate) })
	all.Go(func() { x.foreign(400, 42, gate) })
	tool, err := d.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	all.Go(func() { x.tool(500, 43, tool) })
	all.Go(func() { x.commands(t, d) })
	all.Wait()
	if err := tool.Close(); err != nil {
		t.Error(err)
	}
	later(time.Minute) // what is under way arrives
}

// Polls, writes, commands, tools and foreign clients share a line with faults of all kinds:
// nobody is told of a write what is not so, nothing is done twice, no value is another's.
func TestFaultsOfALineFoolNoWriter(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, transport := range faultLines {
		for _, several := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, several %v", name, several), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					line := newFakeLine(11, timeout, 1)
					line.ascii, line.percent, line.faulty = strings.Contains(transport, "ascii"), 10, true
					line.with(1, func(u *fakeUnit) { u.memory, u.several = newMemory(), several })
					d := newDriver(t, modbus.Options{OpenSerial: line.open, Dial: line.dial})
					limit := faultExchanges(1500, 100_000)
					x := &mixed{
						transport: transport, timeout: timeout, seed: 1, unit: 1,
						done:   func() bool { return line.exchanges() >= limit },
						ledger: &ledger{look: func(f func(*memory)) { line.with(1, func(u *fakeUnit) { f(u.memory) }) }},
					}
					x.run(t, d)
					x.verdict(t, fmt.Sprintf("%d exchanges, by fault %v", line.exchanges(), line.faults()))
				})
			})
		}
	}
}

// The faults that matter most to writers, many of them: answers that come late or twice
// while a request is lost, and echoes.
func TestFaultsOfALineThatBringStaleAnswersFoolNoWriter(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, only := range map[string][]fault{
		"twice": {faultDuplicate, faultStaleFirst, faultUnheard},
		"late":  {faultLate, faultUnheard},
		"echo":  {faultEchoed, faultDuplicate},
	} {
		for _, several := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, several %v", name, several), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					line := newFakeLine(3, timeout, 1)
					line.only, line.percent, line.faulty = only, 40, true
					line.with(1, func(u *fakeUnit) { u.memory, u.several = newMemory(), several })
					d := newDriver(t, modbus.Options{OpenSerial: line.open})
					limit := faultExchanges(1500, 50_000)
					x := &mixed{
						transport: faultLines["RTU"], timeout: timeout, seed: 1, unit: 1,
						done:   func() bool { return line.exchanges() >= limit },
						ledger: &ledger{look: func(f func(*memory)) { line.with(1, func(u *fakeUnit) { f(u.memory) }) }},
					}
					var all sync.WaitGroup
					for i, points := range mixedPoints {
						all.Go(func() { x.device(t, d, points, uint64(i)) })
					}
					all.Wait()
					x.verdict(t, fmt.Sprintf("%d exchanges, by fault %v", line.exchanges(), line.faults()))
					later(time.Minute)
				})
			})
		}
	}
}

func TestFaultsOfTCPFoolNoWriter(t *testing.T) {
	const timeout = 200 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(11, timeout)
		defer device.ended.Wait()
		device.faulty, device.unit.memory = true, newMemory()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		limit := faultExchanges(2500, 200_000)
		x := &mixed{
			transport: "tcp: 192.0.2.1:502", timeout: timeout, seed: 1, unit: 1,
			done:   func() bool { return device.asked() >= limit },
			ledger: &ledger{look: func(f func(*memory)) { device.with(func(n *fakeNet) { f(n.unit.memory) }) }},
		}
		x.run(t, d)
		x.verdict(t, fmt.Sprintf("%d exchanges, by fault %v", device.asked(), device.counts))
	})
}
