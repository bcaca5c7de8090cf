package modbus_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// shortServer has ten holding registers, which are their addresses, and answers for more
// with what it has, as some servers do instead of an exception.
type shortServer struct {
	mu    sync.Mutex
	asked [][2]int // address and count
}

// take is what was asked since the last time.
func (s *shortServer) take() [][2]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *shortServer) serve(c net.Conn) {
	head := make([]byte, 12)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		addr, count := int(binary.BigEndian.Uint16(head[8:])), int(binary.BigEndian.Uint16(head[10:]))
		s.mu.Lock()
		s.asked = append(s.asked, [2]int{addr, count})
		s.mu.Unlock()
		var words []byte
		for at := addr; at < min(addr+count, 10); at++ {
			words = binary.BigEndian.AppendUint16(words, uint16(at))
		}
		answer := append(head[:4:4], 0, byte(3+len(words)), head[6], head[7], byte(len(words)))
		if _, err := c.Write(append(answer, words...)); err != nil {
			return
		}
	}
}

// A register that is not there does not keep those beside it from being read, also where
// the device answers with less than was asked, and is asked for alone from then on.
func TestShortAnswerSplitsABlock(t *testing.T) {
	s := &shortServer{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	dev := open(t, newDriver(t, modbus.Options{}), "driver: modbus\ntcp: "+ln.Addr().String()+
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
