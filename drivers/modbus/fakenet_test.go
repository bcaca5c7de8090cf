package modbus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// tcpFault is what goes wrong with one exchange over TCP.
type tcpFault int

const (
	tcpNone tcpFault = iota
	tcpLost
	tcpLate
	tcpDuplicate
	tcpStaleFirst
	tcpWrongTransaction
	tcpWrongProtocol
	tcpWrongUnit
	tcpWrongFunction
	tcpWrongCount
	tcpHugeLength
	tcpTorn
	tcpTornThenClosed
	tcpPause
	tcpNoise
	tcpFrozen
	tcpClosed
	tcpRefusesDial
	tcpUnheard // the device did not get the request
	tcpAway    // the request was done, but a gateway says that nobody answered
	tcpFaultCount
)

// fakeNet is a Modbus TCP device in virtual time, with everything that goes wrong.
type fakeNet struct {
	timeout time.Duration
	unit    *fakeUnit

	mu     sync.Mutex
	rng    *rand.Rand
	faulty bool
	only   []tcpFault
	once   tcpFault // of the next request alone, faulty or not
	frozen int
	refuse int
	dials  int
	stale  [][]byte
	counts [tcpFaultCount]int
	ended  sync.WaitGroup
	conns  []net.Conn
}

func newFakeNet(seed uint64, timeout time.Duration) *fakeNet {
	return &fakeNet{
		timeout: timeout, unit: &fakeUnit{latency: 2 * time.Millisecond},
		rng: rand.New(rand.NewPCG(seed, 7)),
	}
}

func (n *fakeNet) setFaulty(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faulty = on
	if !on {
		n.frozen, n.refuse = 0, 0
	}
}

// with changes the device.
func (n *fakeNet) with(change func(n *fakeNet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// asked is how many requests it got.
func (n *fakeNet) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unit.asked
}

// dial is Options.Dial.
func (n *fakeNet) dial(context.Context, string, string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse > 0 {
		n.refuse--
		return nil, errors.New("connection refused")
	}
	n.dials++
	near, far := net.Pipe()
	n.conns = append(n.conns, far)
	n.ended.Go(func() { n.serve(far) })
	return near, nil
}

// hangUp closes what is open.
func (n *fakeNet) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// piece is what a device sends at once: a frame, perhaps with a pause in it, or torn,
// after which nothing comes any more.
type piece struct {
	bytes, rest []byte
	pause       time.Duration
	torn, close bool
}

// serve answers one connection. What is sent goes through a queue, since a pipe
// holds nothing.
func (n *fakeNet) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	out := make(chan piece, 256)
	var sender sync.WaitGroup
	done := make(chan struct{})
	sender.Go(func() {
		torn := false
		for {
			select {
			case p := <-out:
				if !torn && len(p.bytes) > 0 {
					_, _ = c.Write(p.bytes)
				}
				if torn = torn || p.torn; p.close {
					_ = c.Close()
				}
				if p.rest != nil && !torn {
					later(p.pause)
					_, _ = c.Write(p.rest)
				}
			case <-done:
				return
			}
		}
	})
	defer sender.Wait()
	defer close(done)
	buf := make([]byte, 0, 1024)
	for {
		k, err := c.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		for buf = buf[:len(buf)+k]; len(buf) >= 6; {
			size := 6 + int(binary.BigEndian.Uint16(buf[4:]))
			if len(buf) < size {
				break
			}
			n.request(slices.Clone(buf[:size]), out)
			buf = buf[:copy(buf, buf[size:])]
		}
	}
}

func (n *fakeNet) request(frame []byte, out chan<- piece) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unit.asked++
	f := tcpNone
	if n.faulty && n.rng.IntN(100) < 45 {
		if f = tcpFault(1 + n.rng.IntN(int(tcpFaultCount)-1)); n.only != nil {
			f = n.only[n.rng.IntN(len(n.only))]
		}
	}
	if n.frozen > 0 {
		n.frozen--
		f = tcpUnheard
	}
	if n.once != tcpNone {
		f, n.once = n.once, tcpNone
	}
	n.counts[f]++
	if f == tcpFrozen {
		n.frozen = 1 + n.rng.IntN(4)
	}
	if f == tcpFrozen || f == tcpUnheard {
		return
	}
	pdu := n.unit.answer(frame[6], frame[7:])
	answer := slices.Clone(frame[:7])
	binary.BigEndian.PutUint16(answer[4:], uint16(1+len(pdu)))
	answer = append(answer, pdu...)
	n.inject(f, answer, func(after time.Duration, b piece) {
		b.bytes = slices.Clone(b.bytes)
		time.AfterFunc(n.unit.latency+after, func() {
			select {
			case out <- b:
			default:
			}
		})
	})
	n.stale = append(n.stale, answer)
	if len(n.stale) > 20 {
		n.stale = n.stale[1:]
	}
}

func (n *fakeNet) inject(f tcpFault, answer []byte, send func(time.Duration, piece)) {
	long := time.Duration(n.rng.Int64N(int64(3 * n.timeout)))
	cut := 1 + n.rng.IntN(len(answer)-1)
	bad := slices.Clone(answer)
	switch f {
	case tcpNone:
		send(0, piece{bytes: answer})
	case tcpLost:
	case tcpLate:
		send(n.timeout+long, piece{bytes: answer})
	case tcpDuplicate:
		send(0, piece{bytes: answer})
		send(long, piece{bytes: answer})
	case tcpStaleFirst:
		if len(n.stale) > 0 {
			send(0, piece{bytes: n.stale[n.rng.IntN(len(n.stale))]})
		}
		send(time.Millisecond, piece{bytes: answer})
	case tcpWrongTransaction:
		bad[1] ^= 1 + byte(n.rng.IntN(255))
		send(0, piece{bytes: bad})
	case tcpWrongProtocol:
		bad[2+n.rng.IntN(2)] = 1
		send(0, piece{bytes: bad})
	case tcpWrongUnit:
		bad[6] ^= 1 + byte(n.rng.IntN(7))
		if len(bad) > 9 { // another unit has other values
			bad[len(bad)-1] ^= (bad[6] & 7) << 3
		}
		send(0, piece{bytes: bad})
	case tcpWrongFunction:
		bad[7] = bad[7]%4 + 1
		send(0, piece{bytes: bad})
	case tcpWrongCount:
		bad[8]++
		send(0, piece{bytes: bad})
	case tcpHugeLength:
		bad[4] = 0xFF
		send(0, piece{bytes: bad})
	case tcpTorn:
		send(0, piece{bytes: answer[:cut], torn: true})
	case tcpTornThenClosed:
		send(0, piece{bytes: answer[:cut], torn: true})
		send(time.Millisecond, piece{close: true})
	case tcpPause:
		send(0, piece{bytes: answer[:cut], rest: answer[cut:], pause: n.timeout / 4})
	case tcpNoise:
		for i := range bad {
			bad[i] = byte(n.rng.Uint32())
		}
		send(0, piece{bytes: bad})
	case tcpAway:
		bad = append(bad[:7], bad[7]|0x80, byte(modbus.GatewayNoResponse))
		bad[4], bad[5] = 0, 3
		send(0, piece{bytes: bad})
	case tcpClosed:
		send(0, piece{close: true})
	case tcpRefusesDial:
		n.refuse = 1 + n.rng.IntN(2)
		send(0, piece{close: true})
	default:
		panic("no such fault")
	}
}
