package modbus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// groupFile has neighbors (a, b and the two registers of c), a part of a register, a point
// that is written by function 6 only, and one that stands apart.
const groupFile = "driver: modbus\nserial: {port: /dev/fake}\npoints:\n" +
	"  a: {holding: 200, writable: true}\n  b: {holding: 201, writable: true}\n  c: {holding: 202, type: uint32, writable: true}\n" +
	"  part: {holding: 204, bits: 0..3, writable: true}\n  single: {holding: 205, writable: true, write: single}\n" +
	"  again: {holding: 200, writable: true}\n  far: {holding: 300, writable: true}\n  near: {holding: 302, writable: true, write: multiple}\n  between: {holding: 301, writable: true}\n" +
	"  zero: {holding: 0, writable: true}\n  last: {holding: 65535, writable: true}\n  two: {holding: 2, writable: true}\n"

// inGroups writes points as the Host does, "a=1 b=2", until one fails.
func inGroups(t *testing.T, dev drivers.Device, points string) error {
	t.Helper()
	var writes []drivers.PointWrite
	for _, w := range strings.Fields(points) {
		name, value, _ := strings.Cut(w, "=")
		v, err := drivers.ParseValue([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, drivers.PointWrite{Point: name, Value: v})
	}
	for len(writes) > 0 {
		n, err := dev.(drivers.GroupWriter).WriteGroup(t.Context(), writes)
		if err != nil {
			return err
		}
		writes = writes[n:]
	}
	return nil
}

func TestNeighborsAreWrittenAtOnce(t *testing.T) {
	for _, c := range []struct {
		name, points string
		first        string // written before
		want         []modbus.Function
		holds        map[uint16]uint16
	}{
		{name: "beside a point of two registers", points: "a=1 b=2 c=196612", want: []modbus.Function{16}, holds: map[uint16]uint16{200: 1, 201: 2, 202: 3, 203: 4}},
		{name: "not against the order of the registers", points: "c=196612 b=2 a=1", want: []modbus.Function{16, 6, 6}, holds: map[uint16]uint16{200: 1, 201: 2, 202: 3, 203: 4}},
		{name: "beside one with write: multiple", points: "far=1 between=2 near=3", want: []modbus.Function{16}, holds: map[uint16]uint16{300: 1, 301: 2, 302: 3}},
		{name: "not where function 16 is not known to be", points: "a=1 b=2", want: []modbus.Function{6, 6}, holds: map[uint16]uint16{200: 1, 201: 2}},
		{name: "where it is known", first: "c=1", points: "a=1 b=2", want: []modbus.Function{16}, holds: map[uint16]uint16{200: 1, 201: 2}},
		{name: "not over a gap", points: "far=1 near=3", want: []modbus.Function{6, 16}, holds: map[uint16]uint16{300: 1, 301: 0, 302: 3}},
		{name: "not from one end of the table to the other", first: "c=1", points: "zero=1 last=2 two=3", want: []modbus.Function{6, 6, 6}, holds: map[uint16]uint16{0: 1, 65535: 2, 2: 3}},
		{name: "not a register twice", first: "c=1", points: "a=1 b=2 again=5", want: []modbus.Function{16, 6}, holds: map[uint16]uint16{200: 5, 201: 2}},
		{name: "not a part of one, nor what is written singly", points: "c=196612 part=5 single=6", want: []modbus.Function{16, 22, 6}, holds: map[uint16]uint16{203: 4, 204: 5, 205: 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, time.Second, 1)
				line.units[1].memory = newMemory()
				dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), groupFile)
				if err := inGroups(t, dev, c.first); err != nil {
					t.Fatal(err)
				}
				line.with(1, func(u *fakeUnit) { u.written = nil })
				if err := inGroups(t, dev, c.points); err != nil {
					t.Fatal(err)
				}
				line.with(1, func(u *fakeUnit) {
					if diff := cmp.Diff(c.want, u.written); diff != "" {
						t.Errorf("functions (-want +got):\n%s", diff)
					}
					for addr, want := range c.holds {
						if got, _ := u.memory.get(modbus.ReadHoldingRegisters, addr); got != want {
							t.Errorf("register %d holds %d, want %d", addr, got, want)
						}
					}
				})
			})
		})
	}
}

// functions are those of what a unit was asked to write since the last call.
func (l *fakeLine) functions(unit uint8) (written []modbus.Function) {
	l.with(unit, func(u *fakeUnit) { written, u.written = u.written, nil })
	return written
}

// A unit that refuses a block for a value in it gets the parts, until the point that it
// refuses; the block itself is not to blame. Without an answer nothing is sent again.
func TestBlockThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		line.units[1].memory = newMemory()
		dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), groupFile)
		const wrong = "a=1 b=3 c=238" // 238 is refusedByte
		for range 2 {
			var e modbus.Exception
			if err := inGroups(t, dev, wrong); !errors.As(err, &e) || !strings.Contains(err.Error(), `point "c"`) {
				t.Errorf("want the point named that is refused, got %v", err)
			}
			if diff := cmp.Diff([]modbus.Function{16, 6, 16, 6, 16}, line.functions(1)); diff != "" {
				t.Errorf("functions (-want +got):\n%s", diff)
			}
		}
		if err := inGroups(t, dev, "a=1 b=3 c=239"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]modbus.Function{16}, line.functions(1)); diff != "" {
			t.Errorf("functions with a value that is granted (-want +got):\n%s", diff)
		}
		if err := inGroups(t, dev, "far=1 between=70000 near=3"); err == nil || !strings.Contains(err.Error(), `point "between"`) {
			t.Errorf("want the point named whose value does not fit, got %v", err)
		}
		line.with(1, func(u *fakeUnit) {
			if len(u.written) > 0 {
				t.Errorf("functions %v though one value does not fit", u.written)
			}
			u.written, u.asked = nil, 0
		})
		line.strike(faultUnheard)
		if err := inGroups(t, dev, "far=1 between=2 near=3"); !errors.Is(err, drivers.ErrUncertain) || !strings.Contains(err.Error(), `points "far", "between", "near"`) {
			t.Errorf("want it uncertain, got %v", err)
		}
		if n := line.asked(1); n != 1 {
			t.Errorf("want one request, got %d", n)
		}
	})
}

// A unit that takes fewer registers in one request than the standard says gets as many as
// it takes, and is tried with more after a while; one that does not know function 16 for
// several points is not asked again for a while.
func TestBlockThatIsTooLong(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit       func(m *memory)
		first, then []modbus.Function
	}{
		{
			"for its registers", func(m *memory) { m.most = 4 },
			// 12 at 400 are halved to 3, the 9 behind to 4, the 5 behind those to 2 and 3.
			[]modbus.Function{16, 16, 16, 16, 16, 16, 16, 16},
			[]modbus.Function{16, 16, 16, 16},
		},
		{
			"for the function", func(m *memory) { m.refuse = modbus.IllegalFunction },
			// Not in parts; the first point has write: multiple.
			[]modbus.Function{16, 16},
			[]modbus.Function{16},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := newFakeLine(1, time.Second, 1)
				memory := newMemory()
				line.units[1].memory = memory
				file, all := "driver: modbus\nserial: {port: /dev/fake}\npoints:\n", ""
				for i := range 12 {
					file += fmt.Sprintf("  p%02d: {holding: %d, writable: true}\n", i, 400+i)
					all += fmt.Sprintf(" p%02d=%d", i, i)
				}
				file = strings.Replace(file, "400, ", "400, write: multiple, ", 1)
				dev := open(t, newDriver(t, modbus.Options{OpenSerial: line.open}), file)
				if err := inGroups(t, dev, "p00=0"); err != nil {
					t.Fatal(err)
				}
				line.functions(1)
				line.with(1, func(*fakeUnit) { c.limit(memory) })
				for _, want := range [][]modbus.Function{c.first, c.then, c.then} {
					err := inGroups(t, dev, all)
					if diff := cmp.Diff(want, line.functions(1)); diff != "" || err != nil && memory.refuse == 0 {
						t.Errorf("%v; functions (-want +got):\n%s", err, diff)
					}
				}
				line.with(1, func(*fakeUnit) { memory.most, memory.refuse = 0, 0 })
				later(11 * time.Minute)
				if err := inGroups(t, dev, all); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff([]modbus.Function{16}, line.functions(1)); diff != "" {
					t.Errorf("functions after a while (-want +got):\n%s", diff)
				}
				for i := range uint16(12) {
					if got, _ := memory.get(modbus.ReadHoldingRegisters, 400+i); got != i {
						t.Errorf("register %d holds %d", 400+i, got)
					}
				}
			})
		})
	}
}
