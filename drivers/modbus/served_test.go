package modbus_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// servedSide is a place that foreign clients reach.
type servedSide struct {
	name    string
	address string
	request []byte // that reads holding register 0 of unit 1
	answer  []byte
}

// servedSides are a server and a gateway to it, in all kinds of frames.
func servedSides(t testing.TB, clients int) (all []servedSide) {
	d := newDriver(t, modbus.Options{})
	_, target := simulator(t, d, "  x: {holding: 0, writable: true, initial: 258}\n")
	read := modbus.Request{Unit: 1, Fn: modbus.ReadHoldingRegisters, Count: 1}
	pdu := []byte{3, 2, 1, 2}
	for _, frames := range []string{"tcp", "rtu", "ascii"} {
		request, answer := read.Frame(), modbus.AppendCRC(append([]byte{1}, pdu...))
		switch frames {
		case "tcp":
			request, answer = modbus.AppendADU(nil, 7, 1, read.PDU()), modbus.AppendADU(nil, 7, 1, pdu)
		case "ascii":
			request, answer = read.FrameASCII(), modbus.AppendASCII(nil, 1, pdu)
		}
		listen := fmt.Sprintf("listen: {address: 127.0.0.1:0, frames: %s, clients: %d}\n", frames, clients)
		server := open(t, d.Server(), "driver: modbus-server\n"+listen+"points:\n  x: {holding: 0, topic: a}\n")
		feed(t, server, "x", "258")
		gate := open(t, d.Gateway(), "driver: modbus-gateway\ntimeout: 100ms\nunits: [0, 1]\n"+listen+"tcp: "+target+"\n")
		all = append(all,
			servedSide{"server, " + frames, "127.0.0.1:" + serverPort(server), request, answer},
			servedSide{"gateway, " + frames, "127.0.0.1:" + serverPort(gate), request, answer})
	}
	return all
}

func feed(t testing.TB, server drivers.Device, point, value string) {
	t.Helper()
	v, err := drivers.ParseValue([]byte(value))
	if err == nil {
		err = server.(drivers.Server).Feed(t.Context(), []drivers.Reading{{Point: point, Value: v, At: time.Now()}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects a client.
func (s servedSide) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(5 * time.Minute))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// ask asks what is always answered.
func (s servedSide) ask(c net.Conn) error {
	if _, err := c.Write(s.request); err != nil {
		return err
	}
	got := make([]byte, len(s.answer))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, s.answer) {
		return fmt.Errorf("% x was answered, not % x", got, s.answer)
	}
	return nil
}

// FuzzServed: whatever a client sends, in two pieces, it is served to its end, and others
// are.
func FuzzServed(f *testing.F) {
	sides := servedSides(f, 16)
	good := make([]net.Conn, len(sides))
	for i, s := range sides {
		good[i] = s.dial(f)
		f.Add(uint8(i), s.request, uint16(4))
		f.Add(uint8(i), slices.Concat(s.request, s.request, []byte{0, 0xFF, ':'}), uint16(9))
	}
	f.Add(uint8(0), unhex(f, "00 01 00 00 FF FF 01 03 00 00 00 01"), uint16(0))
	f.Add(uint8(1), unhex(f, "00 01 00 00 00 06 01 10 00 00 FF FF"), uint16(6))
	f.Fuzz(func(t *testing.T, which uint8, sent []byte, cut uint16) {
		i := int(which) % len(sides)
		c := sides[i].dial(t)
		at := min(int(cut), len(sent))
		for _, piece := range [][]byte{sent[:at], sent[at:]} {
			_, _ = c.Write(piece) // it may have been closed because of the first
		}
		_ = c.CloseWrite()
		if n, err := io.Copy(io.Discard, c); n > int64(len(sent)+1)*300 || isTimeout(err) {
			t.Errorf("%d bytes in answer to %d: %v", n, len(sent), err)
		}
		if err := sides[i].ask(good[i]); err != nil {
			t.Fatalf("%s: another client: %v", sides[i].name, err)
		}
	})
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Clients that send half of a frame and wait, that ask and never read, that are a thousand:
// who was there goes on, and what they took is given back.
func TestServedSidesBearTheirClients(t *testing.T) {
	const memory = 48 << 20
	for _, s := range servedSides(t, 8) {
		t.Run(s.name, func(t *testing.T) {
			good := s.dial(t)
			if err := s.ask(good); err != nil {
				t.Fatal(err)
			}
			before, heap := runtime.NumGoroutine(), heapInUse()
			var bad []net.Conn
			for range 3 {
				half := s.dial(t)
				_, _ = half.Write(s.request[:len(s.request)-3])
				deaf := s.dial(t)
				_ = deaf.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				for many := bytes.Repeat(s.request, 1000); ; {
					if _, err := deaf.Write(many); err != nil {
						break
					}
				}
				bad = append(bad, half, deaf)
			}
			for range 1000 {
				c, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Fatal(err)
				}
				bad = append(bad, c)
			}
			for range 5 {
				if err := s.ask(good); err != nil {
					t.Fatalf("a client beside them: %v", err)
				}
			}
			if n := runtime.NumGoroutine() - before; n > 50 {
				t.Errorf("%d goroutines more", n)
			}
			if now := heapInUse(); now > heap+memory {
				t.Errorf("%d bytes more", now-heap)
			}
			for _, c := range bad {
				_ = c.Close()
			}
			for wait := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+2; later(10 * time.Millisecond) {
				if time.Now().After(wait) {
					t.Fatalf("%d goroutines are left of them", runtime.NumGoroutine()-before)
				}
			}
			for wait := time.Now().Add(time.Minute); ; later(10 * time.Millisecond) { // its place may not be free yet
				err := s.ask(s.dial(t))
				if err == nil {
					break
				}
				if time.Now().After(wait) {
					t.Fatalf("a new client: %v", err)
				}
			}
		})
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
