package modbus_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// shortServer has ten holding registers, which are their addresses, and answers for more
// with what it has, as some servers do instead of an exception.
type shortServer struct {
	address string // over TCP

	mu     sync.Mutex
	asked  [][2]int // address and count
	spoilt bool     // it answers with nothing
}

// startShortServer serves over TCP until the end of the test.
func startShortServer(t *testing.T) *shortServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shortServer{address: ln.Addr().String()}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(served.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	return s
}

// spoil lets it answer with nothing, or with what it has again.
func (s *shortServer) spoil(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoilt = on
}

// take is what was asked since the last time.
func (s *shortServer) take() [][2]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// answer is the answer to a request of a unit, from its unit identifier on, without what
// ends a frame.
func (s *shortServer) answer(request []byte) []byte {
	addr, count := int(binary.BigEndian.Uint16(request[2:])), int(binary.BigEndian.Uint16(request[4:]))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, [2]int{addr, count})
	answer := []byte{request[0], request[1], 0}
	for at := addr; at < min(addr+count, 10) && !s.spoilt; at++ {
		answer = binary.BigEndian.AppendUint16(answer, uint16(at))
	}
	answer[2] = byte(len(answer) - 3)
	return answer
}

// serve answers over TCP.
func (s *shortServer) serve(c net.Conn) {
	head := make([]byte, 12)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		answer := s.answer(head[6:])
		if _, err := c.Write(append(append(head[:4:4], 0, byte(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// serveLine answers on a line.
func (s *shortServer) serveLine(line io.ReadWriter) {
	request := make([]byte, 8)
	for {
		if _, err := io.ReadFull(line, request); err != nil {
			return
		}
		if _, err := line.Write(modbus.AppendCRC(s.answer(request))); err != nil {
			return
		}
	}
}

// A register that is not there does not keep those beside it from being read, also where
// the device answers with less than was asked, and is asked for alone from then on.
func TestShortAnswerSplitsABlock(t *testing.T) {
	s := startShortServer(t)
	dev := open(t, newDriver(t, modbus.Options{}), "driver: modbus\ntcp: "+s.address+
		"\npoints: {a: {holding: 7}, b: {holding: 8}, c: {holding: 9}, missing: {holding: 10}}")
	want := map[string]string{
		"a": "7", "b": "8", "c": "9",
		"missing": "bad: no valid answer: its 2 bytes do not fit function 3 (read holding registers) of 1",
	}
	s.take()
	read(t, dev, "a", "b", "c", "missing") // once could be an accident
	if asked := s.take(); asked[0] != [2]int{7, 4} {
		t.Errorf("want all asked for at once first, got %v", asked)
	}
	for range 3 {
		wantRead(t, dev, want)
	}
	for _, asked := range s.take() {
		if asked[0]+asked[1] > 10 && asked != [2]int{10, 1} {
			t.Errorf("want what is not there asked for alone, got %v", asked)
		}
	}
}

// A device whose first and last points are not there is there, as one is that refuses
// them; so it is where the only point that is due is not.
func TestShortAnswerIsAnAnswer(t *testing.T) {
	s := startShortServer(t)
	dev := open(t, newDriver(t, modbus.Options{}), "driver: modbus\ntcp: "+s.address+
		"\npoints: {a: {holding: 10}, b: {holding: 7}, c: {holding: 11}}")
	for _, point := range []string{"a", "b", "c"} {
		if _, err := dev.Read(t.Context(), []string{point}); err != nil {
			t.Errorf("%s: %v", point, err)
		}
	}
	read(t, dev, "a", "b", "c")
	wantRead(t, dev, map[string]string{
		"b": "7",
		"a": "bad: no valid answer: its 2 bytes do not fit function 3 (read holding registers) of 1",
		"c": "bad: no valid answer: its 2 bytes do not fit function 3 (read holding registers) of 1",
	})
}

// Two short answers with a good one between them are two accidents.
func TestShortAnswerTwiceInARow(t *testing.T) {
	s := startShortServer(t)
	dev := open(t, newDriver(t, modbus.Options{}), "driver: modbus\ntcp: "+s.address+"\npoints: {a: {holding: 7}}")
	bad := func(spoilt bool) bool {
		s.spoil(spoilt)
		readings, err := dev.Read(t.Context(), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		return len(readings) > 0 && readings[0].Quality != drivers.Good
	}
	for i, spoilt := range []bool{false, true, false, false, true} {
		if bad(spoilt) {
			t.Errorf("read %d is bad", i)
		}
	}
	if !bad(true) {
		t.Error("the second in a row is not bad")
	}
	if bad(false) {
		t.Error("what is there again is bad")
	}
}

// A longer answer than asked for is none of a device that has less, and says nothing of
// the point.
func TestLongerAnswerIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(7, 500*time.Millisecond, 1)
		points := []string{"a", "b", "c", "d", "e", "f"}
		dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\nunit: 1\ntimeout: 500ms\npoints:\n"+
			"  a: {holding: 0}\n  b: {holding: 1}\n  c: {holding: 100, type: uint32}\n  d: {holding: 103}\n  e: {input: 0}\n  f: {input: 300, type: uint64}\n")
		line.only, line.percent = []fault{faultWrongLength}, 20
		line.setFaulty(true)
		good := 0
		for start := time.Now(); time.Since(start) < 2*time.Hour; later(5 * time.Second) {
			readings, _ := dev.Read(t.Context(), points) // an error is that some gave none
			for _, r := range readings {
				if good++; r.Quality != drivers.Good {
					t.Fatalf("after %v %s is %v: %v", time.Since(start), r.Point, r.Quality, r.Err)
				}
			}
		}
		if good < 1000 {
			t.Errorf("%d readings are good", good)
		}
	})
}

// On a line, too, where each costs a time-out: what is not there is not asked for again
// for a while.
func TestShortAnswerSplitsABlockOnALine(t *testing.T) {
	s := &shortServer{}
	near, far := ptyPair(t)
	line, err := os.OpenFile(far, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { s.serveLine(line) })
	t.Cleanup(served.Wait)
	t.Cleanup(func() { _ = near.Close() })
	d := newDriver(t, modbus.Options{OpenSerial: func(context.Context, modbus.SerialConfig) (modbus.Port, error) {
		return &filePort{File: near}, nil
	}})
	dev := open(t, d, "driver: modbus\nserial: {port: "+near.Name()+", baud: 115200}\nunit: 1\ntimeout: 200ms\npoints: {first: {holding: 0}, a: {holding: 7}, missing: {holding: 10}}")
	for range 2 { // once could be an accident
		read(t, dev, "first", "a", "missing")
	}
	wantRead(t, dev, map[string]string{"first": "0", "a": "7"})
	s.take()
	wantRead(t, dev, map[string]string{"first": "0", "a": "7", "missing": ""})
	if asked := s.take(); len(asked) > 2 {
		t.Errorf("want only what is there asked for, got %v", asked)
	}
}
