package history

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

type raw struct {
	ms    int64
	value uint64
}

// encode makes one chunk of up to sixty points.
func encode(points []raw) []byte {
	var c chunk
	for _, p := range points {
		c.add(p.ms, math.Float64frombits(p.value))
	}
	return c.append(nil)
}

func decode(data []byte) (points []raw, err error) {
	err = readChunk(data, func(ms int64, value float64) { points = append(points, raw{ms, math.Float64bits(value)}) })
	return points, err
}

func TestChunkGivesBackWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, chunkPoints).Draw(t, "n")
		points := make([]raw, n)
		ms := rapid.Int64Range(0, 1<<60).Draw(t, "first")
		value := rapid.Float64().Draw(t, "value")
		for i := range points {
			points[i] = raw{ms, math.Float64bits(value)}
			ms += rapid.OneOf(rapid.Just(int64(1000)), rapid.Int64Range(0, 1<<13), rapid.Int64Range(0, 1<<40)).Draw(t, "distance")
			if rapid.Bool().Draw(t, "change") {
				value = rapid.OneOf(rapid.Float64(), rapid.Custom(func(t *rapid.T) float64 {
					return float64(rapid.IntRange(-400, 400).Draw(t, "tenths")) / 10
				})).Draw(t, "value")
			}
		}
		data := encode(points)
		got, err := decode(data)
		if err != nil || len(got) != n {
			t.Fatalf("%d points, %v", len(got), err)
		}
		for i := range got {
			if got[i] != points[i] {
				t.Fatalf("point %d: got %v, want %v", i, got[i], points[i])
			}
		}
		if _, err := decode(data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a chunk that is cut is read")
		}
	})
}

// A thermometer that is read every ten seconds or so, in tenths of a degree.
func TestChunkIsSmall(t *testing.T) {
	var points []raw
	ms, tenths := int64(1_790_000_000_000), 215
	for i := range chunkPoints {
		points = append(points, raw{ms, math.Float64bits(float64(tenths) / 10)})
		ms += 10_000 + int64(i*7919%13) - 6
		tenths += i*104729%3 - 1
	}
	data := encode(points)
	t.Logf("%.1f bytes a point", float64(len(data))/chunkPoints)
	if len(data) > 9*chunkPoints {
		t.Errorf("%d bytes", len(data))
	}
}

func FuzzChunk(f *testing.F) {
	f.Add(encode([]raw{{1_790_000_000_000, 0}}))
	f.Add(encode([]raw{{0, 1}, {1, 1}, {1 << 50, 1 << 63}, {1<<50 + 1, 12345}}))
	f.Add([]byte{chunkFormat, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		points, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(encode(points))
		if err != nil || len(again) != len(points) {
			t.Fatalf("%d points become %d, %v", len(points), len(again), err)
		}
		for i := range again {
			if again[i] != points[i] {
				t.Fatalf("point %d: %v becomes %v", i, points[i], again[i])
			}
		}
	})
}
