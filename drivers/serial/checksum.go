package serial

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// algorithm computes a checksum. A crc with width 0 is a sum.
type algorithm struct {
	size int // bytes
	crc  crc
	sum  func([]byte) uint64
}

// crc is a cyclic redundancy check in the words of the Rocksoft model.
type crc struct {
	width         int
	poly, init    uint64
	refin, refout bool
	xorout        uint64
}

// of computes it, bit by bit: frames are short.
func (c crc) of(b []byte) uint64 {
	top, mask := uint64(1)<<(c.width-1), ^uint64(0)>>(64-c.width)
	r := c.init
	for _, one := range b {
		if c.refin {
			one = bits.Reverse8(one)
		}
		for bit := 7; bit >= 0; bit-- {
			high := r&top != 0
			if one>>bit&1 == 1 {
				high = !high
			}
			if r <<= 1; high {
				r ^= c.poly
			}
		}
	}
	if r &= mask; c.refout {
		r = bits.Reverse64(r) >> (64 - c.width)
	}
	return r ^ c.xorout
}

func (a algorithm) of(b []byte) uint64 {
	if a.sum != nil {
		return a.sum(b)
	}
	return a.crc.of(b)
}

func sum(b []byte) (n uint64) {
	for _, one := range b {
		n += uint64(one)
	}
	return n
}

func xor(b []byte) (n uint64) {
	for _, one := range b {
		n ^= uint64(one)
	}
	return n
}

// algorithms are the words of the key "type" of a checksum. The CRCs are those of the
// catalogue of parametrised CRC algorithms, which calls crc16 ARC, crc16-ccitt-false
// IBM-3740 and crc16-x25 IBM-SDLC.
func algorithms() map[string]algorithm {
	all := map[string]algorithm{
		"xor":        {size: 1, sum: xor},
		"nmea":       {size: 1, sum: xor},
		"sum8":       {size: 1, sum: sum},
		"sum16":      {size: 2, sum: sum},
		"sum8-twos":  {size: 1, sum: func(b []byte) uint64 { return -sum(b) }},
		"sum16-twos": {size: 2, sum: func(b []byte) uint64 { return -sum(b) }},
		"lrc":        {size: 1, sum: func(b []byte) uint64 { return -sum(b) }},
	}
	for name, c := range map[string]crc{
		"crc8":              {8, 0x07, 0, false, false, 0},
		"crc8-maxim":        {8, 0x31, 0, true, true, 0},
		"crc8-sae-j1850":    {8, 0x1d, 0xff, false, false, 0xff},
		"crc16":             {16, 0x8005, 0, true, true, 0},
		"crc16-modbus":      {16, 0x8005, 0xffff, true, true, 0},
		"crc16-usb":         {16, 0x8005, 0xffff, true, true, 0xffff},
		"crc16-ccitt-false": {16, 0x1021, 0xffff, false, false, 0},
		"crc16-xmodem":      {16, 0x1021, 0, false, false, 0},
		"crc16-kermit":      {16, 0x1021, 0, true, true, 0},
		"crc16-x25":         {16, 0x1021, 0xffff, true, true, 0xffff},
		"crc16-dnp":         {16, 0x3d65, 0, true, true, 0xffff},
		"crc32":             {32, 0x04c11db7, 0xffffffff, true, true, 0xffffffff},
		"crc32c":            {32, 0x1edc6f41, 0xffffffff, true, true, 0xffffffff},
		"crc32-mpeg2":       {32, 0x04c11db7, 0xffffffff, false, false, 0},
	} {
		all[name] = algorithm{size: c.width / 8, crc: c}
	}
	all["crc16-arc"], all["crc16-ibm"] = all["crc16"], all["crc16"]
	return all
}

func checksumNames() string {
	return strings.Join(slices.Sorted(maps.Keys(algorithms())), ", ") + " or crc"
}

// checksum says where in a frame what checksum stands.
type checksum struct {
	algorithm
	order    binary.ByteOrder
	digits   bool // in hexadecimal digits
	star     bool // behind a "*", as in NMEA 0183
	optional bool // frames may have none, where a star tells
	inside   bool // before the last mark of a frame; else behind it
	at       *int // where it stands, from the frame's end if below 0; nil is at the end
	from     *int // the first byte that it covers; nil is after the first mark
	to       *int // the first byte that it does not cover; nil is the checksum
}

// length is how many bytes it takes in a frame.
func (c *checksum) length() int {
	n := c.size
	if c.digits {
		n *= 2
	}
	if c.star {
		n++
	}
	return n
}

// blank takes the place of the checksum.
func (c *checksum) blank() []byte {
	b := make([]byte, c.length())
	if c.star {
		b[0] = '*'
	}
	return b
}

// places says where the checksum stands and what it covers.
func (c *checksum) places(frame []byte, head, tail int) (at, from, to int, err error) {
	at = len(frame) - c.length()
	switch {
	case c.at != nil:
		at = index(*c.at, len(frame))
	case c.inside:
		at -= tail
	}
	from, to = head, at
	if c.from != nil {
		from = index(*c.from, len(frame))
	}
	if c.to != nil {
		to = index(*c.to, len(frame))
	}
	if at < 0 || at+c.length() > len(frame) || from < 0 || from > to || to > len(frame) || (to > at && from < at+c.length()) {
		return 0, 0, 0, wrongFrame(errBroken, "a frame of %d bytes has no room for its checksum", len(frame))
	}
	if c.star && c.from == nil && from < to && head == 0 && (frame[from] == '$' || frame[from] == '!') {
		from++
	}
	return at, from, to, nil
}

// index is a place in a frame of n bytes.
func index(i, n int) int {
	if i < 0 {
		return n + i
	}
	return i
}

// check returns what a frame says: what is between its marks, without a checksum at
// the end.
func (c *checksum) check(frame []byte, head, tail int) ([]byte, error) {
	at, from, to, err := c.places(frame, head, tail)
	if c.star && (err != nil || frame[at] != '*') {
		if c.optional && !slices.Contains(frame, '*') {
			return frame[head : len(frame)-tail], nil
		}
		return nil, wrongFrame(errChecksum, "a sentence has no checksum")
	}
	if err != nil {
		return nil, err
	}
	want := c.append(nil, c.of(frame[from:to]))
	if got := frame[at : at+c.length()]; !strings.EqualFold(string(got), string(want)) || (!c.digits && string(got) != string(want)) {
		return nil, wrongFrame(errChecksum, "a frame has the checksum %s, not %s", c.show(got), c.show(want))
	}
	switch {
	case c.at != nil:
		return frame[head : len(frame)-tail], nil
	case c.inside:
		return frame[head:at], nil
	}
	return frame[head : at-tail], nil
}

func (c *checksum) show(b []byte) string {
	if c.digits {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("% x", b)
}

// put writes the checksum of a frame into it.
func (c *checksum) put(frame []byte, head, tail int) error {
	at, from, to, err := c.places(frame, head, tail)
	if err != nil {
		return err
	}
	copy(frame[at:], c.append(nil, c.of(frame[from:to])))
	return nil
}

// append adds a checksum as it stands in a frame.
func (c *checksum) append(b []byte, n uint64) []byte {
	var all [8]byte
	c.order.PutUint64(all[:], n)
	part := all[:c.size]
	if c.order == binary.ByteOrder(binary.BigEndian) {
		part = all[8-c.size:]
	}
	if c.star {
		b = append(b, '*')
	}
	if c.digits {
		return append(b, strings.ToUpper(hex.EncodeToString(part))...)
	}
	return append(b, part...)
}
