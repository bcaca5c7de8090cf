package modbus_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
	"pgregory.net/rapid"
)

const char = time.Second * 11 / 9600

// drawSpans draws the points of a unit.
func drawSpans(t *rapid.T, limit uint16) []modbus.Span {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) modbus.Span {
		s := modbus.Span{Fn: modbus.Function(rapid.IntRange(1, 4).Draw(t, "fn")), Count: 1}
		if s.Fn > 2 {
			s.Count = rapid.SampledFrom([]uint16{1, 2, 4}).Draw(t, "count")
		}
		s.Addr = rapid.Uint16Range(0, limit-s.Count+1).Draw(t, "addr")
		return s
	}), 1, 60).Draw(t, "spans")
}

func covers(b, s modbus.Span) bool {
	return b.Fn == s.Fn && b.Addr <= s.Addr && int(b.Addr)+int(b.Count) >= int(s.Addr)+int(s.Count)
}

func TestPlanCoversEachDuePointOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spans := drawSpans(t, rapid.SampledFrom([]uint16{300, 3000, 65535}).Draw(t, "limit"))
		var due []int
		for i := range spans {
			if rapid.Bool().Draw(t, "due") {
				due = append(due, i)
			}
		}
		var barred []modbus.Span
		if rapid.Bool().Draw(t, "with refusals") {
			barred = drawSpans(t, 3000)
		}
		request := time.Duration(rapid.IntRange(0, 200).Draw(t, "request")) * char
		blocks := modbus.Plan(spans, due, request, 2*char, barred)
		var seen []int
		for _, b := range blocks {
			if int(b.Count) > b.Limit() || int(b.Addr)+int(b.Count) > 1<<16 || b.Count == 0 {
				t.Fatalf("block %v is over the limits", b)
			}
			for _, i := range b.Points {
				if !covers(b.Span, spans[i]) {
					t.Fatalf("block %v does not cover point %v", b, spans[i])
				}
				seen = append(seen, i)
			}
			for _, r := range barred {
				if covers(b.Span, r) && !slices.Contains(spans, b.Span) {
					t.Fatalf("block %v covers %v, which was refused", b, r)
				}
			}
		}
		slices.Sort(seen)
		if !slices.Equal(seen, due) {
			t.Fatalf("the blocks have the points %v, due are %v", seen, due)
		}
	})
}

func TestPlanKeepsWithinTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := modbus.Limits{
			Registers: rapid.IntRange(4, 125).Draw(t, "registers"), Bits: rapid.IntRange(1, 2000).Draw(t, "bits"),
			HasGap: rapid.Bool().Draw(t, "has gap"), Gap: rapid.IntRange(0, 20).Draw(t, "gap"), Never: drawSpans(t, 300),
		}
		touches := func(s modbus.Span) bool {
			return slices.ContainsFunc(l.Never, func(n modbus.Span) bool {
				return n.Fn == s.Fn && int(n.Addr) < int(s.Addr)+int(s.Count) && int(s.Addr) < int(n.Addr)+int(n.Count)
			})
		}
		spans := slices.DeleteFunc(drawSpans(t, 300), touches)
		due := make([]int, len(spans))
		for i := range due {
			due[i] = i
		}
		seen := 0
		for _, b := range modbus.PlanWithin(l, spans, due, time.Hour, 2*char, nil) {
			limit := l.Registers
			if b.Fn <= 2 {
				limit = l.Bits
			}
			if int(b.Count) > limit || touches(b.Span) {
				t.Fatalf("block %v is over the limits", b)
			}
			read := make([]bool, b.Count)
			for _, i := range b.Points {
				for k := range spans[i].Count {
					read[spans[i].Addr-b.Addr+k] = true
				}
			}
			gap := 0
			for _, r := range read {
				if gap++; r {
					gap = 0
				}
				if l.HasGap && gap > l.Gap {
					t.Fatalf("block %v reads more than %d for nothing", b, l.Gap)
				}
			}
			seen += len(b.Points)
		}
		if seen != len(due) {
			t.Fatalf("%d points of %d are planned", seen, len(due))
		}
	})
}

func TestPlanWeighsAGapAgainstARequest(t *testing.T) {
	at := func(addrs ...uint16) (spans []modbus.Span, due []int) {
		for i, a := range addrs {
			spans, due = append(spans, modbus.Span{Fn: 3, Addr: a, Count: 1}), append(due, i)
		}
		return spans, due
	}
	for _, c := range []struct {
		name   string
		addrs  []uint16
		blocks int
	}{
		{"neighbours", []uint16{5, 6, 7}, 1},
		{"the same register twice", []uint16{5, 5}, 1},
		{"a gap cheaper than a request", []uint16{0, 11}, 1},
		{"a gap dearer than a request", []uint16{0, 12}, 2},
		{"as many as fit", []uint16{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 124}, 1},
		{"one more than fits", []uint16{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 125}, 2},
		{"the ends", []uint16{0, 65535}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			spans, due := at(c.addrs...)
			if blocks := modbus.Plan(spans, due, 20*char, 2*char, nil); len(blocks) != c.blocks {
				t.Errorf("%d blocks, want %d: %v", len(blocks), c.blocks, blocks)
			}
		})
	}
}

func TestPaddedSpansHaveLengthsOfTheirOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSpans(t, 65535)[0]
		if s.Fn < 3 {
			s.Count = min(rapid.Uint16Range(1, 2000).Draw(t, "bits"), uint16(1<<16-int(s.Addr)-1)+1)
		}
		lengths := map[int]int{}
		for _, p := range s.Padded() {
			if !covers(p, s) || int(p.Count) > p.Limit() || int(p.Addr)+int(p.Count) > 1<<16 {
				t.Fatalf("%v does not pad %v", p, s)
			}
			if lengths[p.Bytes()]++; lengths[p.Bytes()] > 2 {
				t.Fatalf("%v has %d ways to %d bytes", s, lengths[p.Bytes()], p.Bytes())
			}
		}
		if lengths[s.Bytes()] != 1 {
			t.Fatalf("%v itself is listed %d times", s, lengths[s.Bytes()])
		}
	})
}

// While an answer may be under way, no other block of the unit and function code
// has its length.
func TestLengthsAreNeverShared(t *testing.T) {
	const hold = 3 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		l := modbus.NewLengths()
		type use struct {
			unit uint8
			span modbus.Span
			end  time.Time // of the danger; zero while it is being read
		}
		now := time.Unix(0, 0)
		var uses []use
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms")) * time.Millisecond)
			unit := uint8(rapid.IntRange(1, 2).Draw(t, "unit"))
			s := modbus.Span{Fn: modbus.Function(rapid.IntRange(1, 4).Draw(t, "fn")), Addr: rapid.Uint16Range(0, 5).Draw(t, "addr"), Count: rapid.Uint16Range(1, 3).Draw(t, "count")}
			if rapid.Bool().Draw(t, "end one") && len(uses) > 0 && uses[0].end.IsZero() {
				uses[0].end = now.Add(hold)
				l.Release(uses[0].unit, uses[0].span, uses[0].end)
				uses = append(uses[1:], uses[0])
				continue
			}
			if !l.Claim(unit, s, now) {
				continue
			}
			for _, u := range uses {
				inUse := u.end.IsZero() || now.Before(u.end)
				if inUse && u.unit == unit && u.span.Fn == s.Fn && u.span.Bytes() == s.Bytes() && u.span != s {
					t.Fatalf("%v gets the length of %v", s, u.span)
				}
			}
			uses = append([]use{{unit: unit, span: s}}, uses...)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	var spans []modbus.Span
	var due []int
	for i := range 200 {
		spans = append(spans, modbus.Span{Fn: modbus.Function(1 + i%4), Addr: uint16(i * 37 % 1000), Count: 1})
		due = append(due, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		modbus.Plan(spans, due, 40*char, 2*char, nil)
	}
}
