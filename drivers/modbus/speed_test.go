package modbus_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// memoryConn is a Modbus TCP device without a network: what is written is answered at
// once, and nothing is allocated. Register i holds i, or what i is masked with.
type memoryConn struct {
	net.Conn        // nil: what it is not asked for
	mask     uint16 // of 0 changes nothing
	out      []byte
	at       int
}

func (c *memoryConn) Write(b []byte) (int, error) {
	addr, count := binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
	c.out, c.at = append(c.out[:0], b[:8]...), 0
	binary.BigEndian.PutUint16(c.out[4:], 3+2*count)
	c.out = append(c.out, byte(2*count))
	for i := range count {
		register := addr + i
		if c.mask != 0 {
			register &= c.mask
		}
		c.out = binary.BigEndian.AppendUint16(c.out, register)
	}
	return len(b), nil
}

func (c *memoryConn) Read(b []byte) (int, error) {
	if c.at == len(c.out) {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, c.out[c.at:])
	c.at += n
	return n, nil
}

func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// tags is a device file of n points in registers that follow one another.
func tags(address string, n int, keys string) (file string, names []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "driver: modbus\ntcp: %s\npoints:\n", address)
	for i := range n {
		fmt.Fprintf(&b, "  p%d: {holding: %d%s}\n", i, i, keys)
		names = append(names, fmt.Sprintf("p%d", i))
	}
	return b.String(), names
}

func memoryDevice(t testing.TB, n int, keys string) (drivers.Device, []string) {
	d := newDriver(t, modbus.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return &memoryConn{}, nil }})
	file, names := tags("plc", n, keys)
	return open(t, d, file), names
}

// BenchmarkReadUnchanged reads 1000 points whose values do not change.
func BenchmarkReadUnchanged(b *testing.B) {
	for _, keys := range []string{"", ", type: int16, scale: 0.1", ", type: float16"} {
		b.Run("tags=1000"+strings.ReplaceAll(keys, ", ", "/"), func(b *testing.B) {
			dev, names := memoryDevice(b, 1000, keys)
			b.ReportAllocs()
			for b.Loop() {
				if readings, err := dev.Read(b.Context(), names); err != nil || len(readings) != len(names) {
					b.Fatal(len(readings), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(names)), "ns/tag")
		})
	}
}

// BenchmarkReadScaled reads 1000 points, each scaled by a register of its own.
func BenchmarkReadScaled(b *testing.B) {
	const tags = 1000
	d := newDriver(b, modbus.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return &memoryConn{mask: 7}, nil }})
	var file strings.Builder
	file.WriteString("driver: modbus\ntcp: plc\npoints:\n")
	names := make([]string, tags)
	for i := range names {
		names[i] = fmt.Sprintf("p%d", i)
		fmt.Fprintf(&file, "  p%d: {holding: %d, scale_from: %d}\n", i, i, tags+i)
	}
	dev := open(b, d, file.String())
	b.ReportAllocs()
	for b.Loop() {
		if readings, err := dev.Read(b.Context(), names); err != nil || len(readings) != tags {
			b.Fatal(len(readings), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tags), "ns/tag")
}

// BenchmarkReadTagsOverTCP reads the simulator over loopback, in requests of 125 registers: the
// processor time is that of both sides.
func BenchmarkReadTagsOverTCP(b *testing.B) {
	d := newDriver(b, modbus.Options{})
	var points strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&points, "  p%d: {holding: %d, initial: %d}\n", i, i, i)
	}
	_, addr := simulator(b, d, points.String())
	file, names := tags(addr, 1000, "")
	dev := open(b, d, file)
	before := cpuTime(b)
	b.ReportAllocs()
	for b.Loop() {
		if readings, err := dev.Read(b.Context(), names); err != nil || len(readings) != len(names) {
			b.Fatal(len(readings), err)
		}
	}
	used := cpuTime(b) - before
	b.ReportMetric(float64(b.N*len(names))/b.Elapsed().Seconds(), "tags/s")
	b.ReportMetric(float64(b.N*len(names))/used.Seconds(), "tags/cpu-s")
}

// A request costs a few allocations; a point that has not changed costs none.
func TestReadAllocatesNothingForAPoint(t *testing.T) {
	spare := 2.0
	if raceEnabled { // its pools lose things, and what took their room grows anew
		spare = 20
	}
	for _, keys := range []string{"", ", type: int16, scale: 0.1, offset: -40", ", type: float16", ", length: 1", ", scale_from: 0", ", bit: 3"} {
		dev, names := memoryDevice(t, 120, keys)
		count := func(names []string) float64 {
			return testing.AllocsPerRun(50, func() {
				if readings, err := dev.Read(t.Context(), names); err != nil || len(readings) != len(names) {
					t.Fatal(len(readings), err)
				}
			})
		}
		if few, many := count(names[60:65]), count(names); many > few+spare {
			t.Errorf("points with%s: %v allocations for 5, %v for 120", keys, few, many)
		}
	}
}
