package linetest_test

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus/linetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openEnds(t *testing.T, line *linetest.Line) (a, b *os.File) {
	t.Helper()
	t.Cleanup(func() {
		if err := line.Close(); err != nil {
			t.Error(err)
		}
	})
	ends := make([]*os.File, 2)
	for i, path := range []string{line.A, line.B} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		ends[i] = f
	}
	return ends[0], ends[1]
}

// A frame takes no less than its characters do, both ways at once; and it comes whole.
func TestLineKeepsTime(t *testing.T) {
	line, err := linetest.New(2400, 10)
	if err != nil {
		t.Fatal(err)
	}
	a, b := openEnds(t, line)
	frame := bytes.Repeat([]byte("0123456789"), 5)
	start := time.Now()
	got := make(chan []byte, 2)
	for _, way := range [][2]*os.File{{a, b}, {b, a}} {
		go func() {
			heard := make([]byte, len(frame))
			_, err := io.ReadFull(way[1], heard)
			if took := time.Since(start); err != nil || took < 50*line.Char() {
				t.Errorf("50 characters took %v, not %v (%v)", took, 50*line.Char(), err)
			}
			got <- heard
		}()
		if _, err := way[0].Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if heard := <-got; !bytes.Equal(heard, frame) {
			t.Errorf("%q came, %q was sent", heard, frame)
		}
	}
}

func TestTapDecidesWhatGoesOnTheLine(t *testing.T) {
	line, err := linetest.NewTapped(115200, 10, func(fromA bool, written []byte) []linetest.Chunk {
		if !fromA {
			return nil
		}
		return []linetest.Chunk{{Bytes: []byte("x")}, {Bytes: written, After: 30 * time.Millisecond}}
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := openEnds(t, line)
	if _, err := b.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := a.Write([]byte("frame")); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, 6)
	if _, err := io.ReadFull(b, heard); err != nil || string(heard) != "xframe" || time.Since(start) < 30*time.Millisecond {
		t.Errorf("%q came after %v (%v)", heard, time.Since(start), err)
	}
}
