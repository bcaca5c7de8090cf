package history

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Point is what a series was at a time, by the wall clock, to the millisecond.
type Point struct {
	At    time.Time
	Value float64
}

// chunkPoints is how many points make a chunk.
const chunkPoints = 60

// chunkFormat is the first byte of a chunk. The rest: the number of points; the first
// time in milliseconds of the Unix epoch; the first value as it is; then for each
// point the change of the distance to the one before, and the bits of the value that
// changed (T. Pelkonen and others, Gorilla, 2015, sections 4.1.1 and 4.1.2).
const chunkFormat = 1

// What a distance costs, by how much it has changed: as many 1 bits as there are
// smaller classes, a 0 bit unless it is the last, and the number.
var distances = [...]uint{0, 7, 9, 12, 64}

var errChunk = errors.New("a chunk of history is damaged")

// chunk is points that are being added. The zero value is empty.
type chunk struct {
	n        int
	first    int64 // in milliseconds
	last     int64
	distance int64
	value    uint64
	start    uint64 // the first value
	window   window
	w        bitWriter
}

func (c *chunk) full() bool { return c.n >= chunkPoints }

// add appends a point. The chunk is not full.
func (c *chunk) add(ms int64, value float64) {
	v := math.Float64bits(value)
	if c.n == 0 {
		*c = chunk{n: 1, first: ms, last: ms, value: v, start: v, w: bitWriter{b: c.w.b[:0]}}
		return
	}
	distance := ms - c.last
	c.addDistance(distance - c.distance)
	c.addValue(v ^ c.value)
	c.n++
	c.last, c.distance, c.value = ms, distance, v
}

func (c *chunk) addDistance(change int64) {
	class := 0
	for class < len(distances)-1 && !fits(change, distances[class]) {
		class++
	}
	for range class {
		c.w.write(1, 1)
	}
	if class < len(distances)-1 {
		c.w.write(0, 1)
	}
	c.w.write(uint64(change), distances[class])
}

func (c *chunk) addValue(x uint64) {
	if x == 0 {
		c.w.write(0, 1)
		return
	}
	now := windowOf(x)
	if c.window.holds(now) {
		c.w.write(0b10, 2)
	} else {
		c.window = now
		c.w.write(0b11, 2)
		c.w.write(uint64(now.lead), 5)
		c.w.write(uint64(now.n-1), 6)
	}
	c.w.write(x>>c.window.trail(), c.window.n)
}

// append appends the chunk's bytes to b.
func (c *chunk) append(b []byte) []byte {
	b = append(b, chunkFormat)
	b = binary.AppendUvarint(b, uint64(c.n))
	b = binary.AppendVarint(b, c.first)
	b = binary.BigEndian.AppendUint64(b, c.start)
	return append(b, c.w.b...)
}

// readChunk calls f with the points of a chunk, in the order in which they came.
func readChunk(b []byte, f func(ms int64, value float64)) error {
	if len(b) == 0 || b[0] != chunkFormat {
		return errChunk
	}
	b = b[1:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n == 0 || n > chunkPoints {
		return errChunk
	}
	b = b[k:]
	ms, k := binary.Varint(b)
	if k <= 0 || len(b) < k+8 {
		return errChunk
	}
	v := binary.BigEndian.Uint64(b[k:])
	r := bitReader{b: b[k+8:]}
	f(ms, math.Float64frombits(v))
	var distance int64
	var w window
	for range n - 1 {
		bits := distances[r.ones(len(distances)-1)]
		if bits > 0 {
			distance += extend(r.read(bits), bits)
		}
		ms += distance
		switch r.ones(2) {
		case 0:
		case 2:
			w.lead = uint(r.read(5))
			w.n = uint(r.read(6)) + 1
			fallthrough
		default:
			if w.lead+w.n > 64 || w.n == 0 {
				return errChunk
			}
			v ^= r.read(w.n) << w.trail()
		}
		if r.short {
			return errChunk
		}
		f(ms, math.Float64frombits(v))
	}
	return nil
}
