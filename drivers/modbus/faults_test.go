package modbus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// pairValue is what two registers of a fake unit hold in a generation, from an even
// address below 128 on: both tell the address; the first the unit and the table, too, the
// second the generation.
func pairValue(unit uint8, fn modbus.Function, addr, generation uint16) uint32 {
	return uint32(fakeValue(unit, fn, addr))<<16 | uint32(addr>>1&63)<<10 | uint32(generation&1023)
}

// enoughValues is how many values a test must see of a unit to tell anything.
const enoughValues = 20

// moreRounds is how many rounds more than it wants a test makes to see as many.
const moreRounds = 500

// witness knows what one unit has held and when, and judges what is said of it.
type witness struct {
	unit   uint8
	change func(generation uint16) // makes the unit's registers those of a generation

	generation uint16
	ended      [1024]time.Time // by generation
	right      int
	stale      int           // a value that the register held a while ago
	oldest     time.Duration // of those, how long ago at most
	wrong      []string
}

// next begins a generation: each value that is asked for from now on must be of it.
func (w *witness) next() {
	w.ended[w.generation&1023] = time.Now()
	w.generation = max(1, w.generation+1) // 0 is none
	w.change(w.generation)
}

// see judges a value that was read at a time.
func (w *witness) see(fn modbus.Function, addr uint16, got uint32, at time.Time) {
	switch want := pairValue(w.unit, fn, addr, w.generation); {
	case got == want:
		w.right++
	case got&^1023 == want&^1023:
		w.stale++
		w.oldest = max(w.oldest, at.Sub(w.ended[got&1023]))
	default:
		w.wrong = append(w.wrong, fmt.Sprintf("unit %d: %v at %d is %#x, not %#x", w.unit, fn, addr, got, want))
	}
}

// verdict is the end of a test: no value is another register's, and none is older than
// an answer can be late.
func (w *witness) verdict(t *testing.T, latest time.Duration) {
	t.Helper()
	t.Logf("unit %d: %d values right, %d of them late (up to %v), %d wrong", w.unit, w.right+w.stale, w.stale, w.oldest, len(w.wrong))
	for _, text := range w.wrong[:min(len(w.wrong), 10)] {
		t.Error("WRONG VALUE: ", text)
	}
	if w.oldest > latest {
		t.Errorf("unit %d: a value is %v old, more than %v", w.unit, w.oldest, latest)
	}
	if w.right < enoughValues {
		t.Errorf("unit %d: the test saw %d values only", w.unit, w.right)
	}
}

// pairPoints are points of two registers, far from each other and near.
func pairPoints() (ps []fakePoint) {
	for _, fn := range []modbus.Function{modbus.ReadHoldingRegisters, modbus.ReadInputRegisters} {
		for _, addr := range []uint16{0, 2, 8, 30, 32, 50, 80, 82, 100, 126} {
			ps = append(ps, fakePoint{fn, addr})
		}
	}
	return ps
}

// pairFile is the device file of a unit with pairPoints.
func pairFile(transport string, unit uint8, timeout time.Duration) string {
	file := strings.ReplaceAll(rtuFile(unit, timeout, pairPoints()), "}\n  ", ", type: uint32}\n  ")
	file = strings.TrimSuffix(file, "}\n") + ", type: uint32}\n"
	return strings.Replace(file, "serial: {port: /dev/fake, baud: 9600}", transport, 1)
}

// faultExchanges is how many exchanges a test makes: few, or with SOAK all that are
// worth it.
func faultExchanges(short, soak int) int {
	if os.Getenv("SOAK") != "" {
		return soak
	}
	return short
}

// pollPairs reads a unit's points as a device, some at a time, until done says so.
func pollPairs(d *modbus.Driver, cfg drivers.Config, w *witness, seed uint64, done func() bool) error {
	rng := rand.New(rand.NewPCG(seed, uint64(w.unit)))
	points, byName := pairPoints(), map[string]fakePoint{}
	for _, p := range points {
		byName[p.name()] = p
	}
	var dev drivers.Device
	for more := moreRounds; !done() || w.right < enoughValues && more > 0; {
		if done() {
			more--
		}
		var err error
		if dev == nil {
			w.next()
			if dev, err = d.Open(context.Background(), cfg); errors.Is(err, drivers.ErrConfig) {
				return err
			}
			later(time.Second)
			continue
		}
		w.next()
		readings, err := dev.Read(context.Background(), names(some(rng, points)))
		for _, r := range readings {
			if n, ok := r.Value.Uint(); ok && r.Quality == drivers.Good {
				p := byName[r.Point]
				w.see(p.fn, p.addr, uint32(n), r.At)
			}
		}
		switch {
		case errors.Is(err, drivers.ErrLost):
			if err := dev.Close(); err != nil {
				return err
			}
			dev = nil
		case err != nil:
			later(time.Second) // the back-off of a unit that seems dead
		}
		later(time.Duration(rng.IntN(100)) * time.Millisecond)
	}
	if dev == nil {
		return nil
	}
	return dev.Close()
}

// askPairs reads a unit's registers as a client, whose requests all have one length.
func askPairs(c *modbus.Client, w *witness, seed uint64, done func() bool) {
	rng := rand.New(rand.NewPCG(seed, uint64(w.unit)))
	for more := moreRounds; !done() || w.right < enoughValues && more > 0; {
		if done() {
			more--
		}
		w.next()
		_ = askPair(c, w, modbus.ReadHoldingRegisters, uint16(rng.IntN(60))*2)
	}
}

// askPair reads two pairs of registers.
func askPair(c *modbus.Client, w *witness, fn modbus.Function, addr uint16) error {
	got, err := c.ReadRegisters(context.Background(), w.unit, fn, addr, 4)
	if err != nil {
		return err
	}
	for i := uint16(0); i < 4; i += 2 {
		w.see(fn, addr+i, uint32(got[i])<<16|uint32(got[i+1]), time.Now())
	}
	return nil
}

// faultLines are the transports whose frames do not tell to which request they belong.
var faultLines = map[string]string{
	"RTU":            "serial: {port: /dev/fake, baud: 9600}",
	"ASCII":          "serial: {port: /dev/fake, baud: 9600, mode: ascii}",
	"RTU over TCP":   "rtu_tcp: fake:4001",
	"ASCII over TCP": "ascii_tcp: fake:4001",
}

// faultTarget is what leads a client there.
func faultTarget(transport string, timeout time.Duration) modbus.Target {
	t := modbus.Target{Timeout: timeout}
	switch kind, address, _ := strings.Cut(transport, ": "); kind {
	case "tcp":
		t.TCP = address
	case "rtu_tcp":
		t.RTUTCP = address
	case "ascii_tcp":
		t.ASCIITCP = address
	default:
		t.Serial = modbus.SerialConfig{Port: "/dev/fake", Baud: 9600}
		if strings.Contains(transport, "ascii") {
			t.Serial.Mode, t.Serial.DataBits = "ascii", 7
		}
	}
	return t
}

// watch is a witness of a unit of a line.
func (l *fakeLine) watch(unit uint8) *witness {
	return &witness{unit: unit, change: func(g uint16) {
		l.with(unit, func(u *fakeUnit) { u.generation = g })
	}}
}

// tellFaults logs what went wrong. Perfect lies are rare, or the test tells little.
func (l *fakeLine) tellFaults(t *testing.T) {
	t.Helper()
	n := l.exchanges()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d exchanges, by fault %v; %d perfect lies did not arrive", n, l.counts, l.perfect)
	if l.perfect > 1+n/1000 {
		t.Errorf("%d frames of %d exchanges did not arrive, since they were perfect lies", l.perfect, n)
	}
}

func (l *fakeLine) exchanges() (n int) {
	for _, k := range l.faults() {
		n += k
	}
	return n
}

// Two devices and a client share a line on which a tenth, or nearly half, of the
// exchanges go wrong.
func TestFaultsOfALineGiveNoWrongValue(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, transport := range faultLines {
		for _, percent := range []int{10, 45} {
			t.Run(fmt.Sprintf("%s, %d %%", name, percent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					line := newFakeLine(uint64(percent), timeout, 1, 2, 3)
					line.ascii, line.percent, line.faulty = strings.Contains(transport, "ascii"), percent, true
					d := newDriver(t, modbus.Options{OpenSerial: line.open, Dial: line.dial})
					limit := faultExchanges(2500, 115_000)
					done := func() bool { return line.exchanges() >= limit }
					client := dial(t, d, faultTarget(transport, timeout))
					seen := []*witness{line.watch(1), line.watch(2), line.watch(3)}
					var all sync.WaitGroup
					for _, w := range seen[:2] {
						all.Go(func() {
							if err := pollPairs(d, config(t, pairFile(transport, w.unit, timeout)), w, 1, done); err != nil {
								t.Error(err)
							}
						})
					}
					all.Go(func() { askPairs(client, seen[2], 1, done) })
					all.Wait()
					line.tellFaults(t)
					for _, w := range seen {
						w.verdict(t, 3*timeout)
					}
					later(time.Minute) // what is under way arrives
				})
			})
		}
	}
}

// Over TCP a frame tells its request: a value is not even late.
func TestFaultsOfTCPGiveNoWrongValue(t *testing.T) {
	const timeout = 200 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(1, timeout)
		defer device.ended.Wait()
		device.faulty = true
		d := newDriver(t, modbus.Options{Dial: device.dial})
		limit := faultExchanges(2500, 115_000)
		w := device.watch()
		err := pollPairs(d, config(t, pairFile("tcp: 192.0.2.1", 1, timeout)), w, 1, func() bool { return device.asked() >= limit })
		if err != nil {
			t.Error(err)
		}
		t.Logf("%d exchanges, by fault %v", device.asked(), device.counts)
		w.verdict(t, 0)
		later(time.Minute)
	})
}

func (n *fakeNet) watch() *witness {
	return &witness{unit: 1, change: func(g uint16) {
		n.with(func(n *fakeNet) { n.unit.generation = g })
	}}
}

// resync makes a fault once, and counts the exchanges after that one which fail: none
// may. A fault that takes several exchanges is over when they are.
func resync(t *testing.T, c *modbus.Client, w *witness, name string, rounds int, strike func(), over func() bool) {
	t.Helper()
	failed, spoiled := 0, 0
	ask := func(addr int) bool {
		w.next()
		return askPair(c, w, modbus.ReadHoldingRegisters, uint16(addr%60)*2) == nil
	}
	for round := range rounds {
		strike()
		for i := 0; i == 0 || !over(); i++ {
			if !ask(round*7 + i) {
				spoiled++
			}
		}
		for i := range 3 {
			if !ask(round*7 + 3 + i) {
				failed++
			}
		}
	}
	if failed > 0 {
		t.Errorf("%s: %d exchanges failed after %d faults, beside the %d that were struck", name, failed, rounds, spoiled)
	}
}

func TestFaultOfALineIsOverWithTheNextRequest(t *testing.T) {
	const timeout = 300 * time.Millisecond
	rounds := faultExchanges(20, 400)
	for name, transport := range faultLines {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(9, timeout, 1)
				line.ascii = strings.Contains(transport, "ascii")
				d := newDriver(t, modbus.Options{OpenSerial: line.open, Dial: line.dial})
				c, w := dial(t, d, faultTarget(transport, timeout)), line.watch(1)
				for f := faultNone; f < faultCount; f++ {
					resync(t, c, w, fmt.Sprintf("fault %d", f), rounds, func() {
						line.mu.Lock()
						defer line.mu.Unlock()
						line.once = f
					}, func() bool {
						line.mu.Lock()
						defer line.mu.Unlock()
						return line.frozen == 0 && line.once == faultNone
					})
				}
				w.verdict(t, 3*timeout)
				later(time.Minute)
			})
		})
	}
}

func TestFaultOfTCPIsOverWithTheNextRequest(t *testing.T) {
	const timeout = 200 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		device := newFakeNet(9, timeout)
		defer device.ended.Wait()
		d := newDriver(t, modbus.Options{Dial: device.dial})
		c, err := d.Dial(faultTarget("tcp: 192.0.2.1", timeout))
		if err != nil {
			t.Fatal(err)
		}
		w := device.watch()
		for f := tcpNone; f < tcpFaultCount; f++ {
			if f == tcpRefusesDial {
				continue // nobody can ask while nobody is there
			}
			resync(t, c, w, fmt.Sprintf("fault %d", f), faultExchanges(20, 400), func() {
				device.with(func(n *fakeNet) { n.once = f })
			}, func() bool {
				over := false
				device.with(func(n *fakeNet) { over = n.frozen == 0 && n.once == tcpNone })
				return over
			})
		}
		w.verdict(t, 0)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		later(time.Minute)
	})
}

// naiveRead is how a client reads that takes the first frame of the right shape: unit,
// function, length and CRC are right.
func naiveRead(p modbus.Port, unit uint8, addr uint16, timeout time.Duration) ([]byte, error) {
	r := modbus.Request{Unit: unit, Fn: modbus.ReadHoldingRegisters, Addr: addr, Count: 4}
	if _, err := p.Write(r.Frame()); err != nil {
		return nil, err
	}
	var heard []byte
	if err := p.SetReadTimeout(timeout); err != nil {
		return nil, err
	}
	for len(heard) < 13 {
		var b [64]byte
		n, err := p.Read(b[:13-len(heard)])
		if err != nil || n == 0 {
			return nil, errors.Join(errors.New("no answer"), err)
		}
		heard = append(heard, b[:n]...)
	}
	verdict, data, hunted := r.Scan(heard, false)
	if verdict != "granted" || hunted {
		return nil, p.ResetInput()
	}
	return data, nil
}

// The witness finds what a client gives that does not guard itself.
func TestFaultsOfALineFoolANaiveClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 300 * time.Millisecond
		line := newFakeLine(1, timeout, 1)
		line.faulty, line.percent = true, 10
		port, err := line.open(t.Context(), modbus.SerialConfig{})
		if err != nil {
			t.Fatal(err)
		}
		w := line.watch(1)
		for i := range uint16(2000) {
			w.next()
			addr := i * 7 % 60 * 2
			data, err := naiveRead(port, 1, addr, timeout)
			if errors.Is(err, errUnplugged) {
				port, _ = line.open(t.Context(), modbus.SerialConfig{})
			}
			for k := 0; k+3 < len(data); k += 4 {
				got := uint32(data[k])<<24 | uint32(data[k+1])<<16 | uint32(data[k+2])<<8 | uint32(data[k+3])
				w.see(modbus.ReadHoldingRegisters, addr+uint16(k/2), got, time.Now())
			}
		}
		t.Logf("%d exchanges: %d values right, %d late, %d wrong", line.exchanges(), w.right, w.stale, len(w.wrong))
		if len(w.wrong) < 20 || w.right < 500 {
			t.Errorf("the witness found %d wrong values, %d right ones", len(w.wrong), w.right)
		}
		later(time.Minute)
	})
}

// Behind noise the answer is taken when nothing has followed it for a while: the reading
// is not younger than its answer for that.
func TestReadingHasTheTimeOfItsAnswer(t *testing.T) {
	for name, transport := range faultLines {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(3, 300*time.Millisecond, 1)
				line.ascii = strings.Contains(transport, "ascii")
				d := newDriver(t, modbus.Options{OpenSerial: line.open, Dial: line.dial})
				dev := open(t, d, pairFile(transport, 1, 300*time.Millisecond))
				for _, f := range []fault{faultNone, faultNoiseBefore} {
					line.mu.Lock()
					line.once = f
					line.mu.Unlock()
					readings, err := dev.Read(t.Context(), names(pairPoints()[:1]))
					if err != nil || len(readings) != 1 {
						t.Fatalf("got %v, %v", readings, err)
					}
					line.port.mu.Lock()
					if at := readings[0].At; !at.Equal(line.port.last) {
						t.Errorf("fault %d: the reading is of %v after its answer", f, at.Sub(line.port.last))
					}
					line.port.mu.Unlock()
				}
			})
		})
	}
}
