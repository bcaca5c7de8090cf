package disk

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// version is the format of segments that this program writes. It reads all from 1 on.
const version = 1

const (
	headerLen  = 64   // of the header of a segment
	headerCopy = 512  // where its copy is: in another sector
	dataStart  = 1024 // where the first record is
	footerLen  = 32
	pageLen    = 4096
	suffix     = ".log"
)

var (
	segmentMagic = [8]byte{'G', 'A', 'T', 'E', 'L', 'O', 'G', '\n'}
	footerMagic  = [4]byte{'H', 'I', 'N', 'T'}
)

// header is what a segment's file begins with, twice.
//
//	0  8  magic
//	8  4  version
//	12 4  CRC32C of the rest, and of magic and version
//	16 4  identifier: segments are read in this order
//	20 4  salt: identifier and salt seed the checksums of the segment
//	24 4  state: 1 in use, 2 free
//	28 8  size of the file
//	36 4  the log before this segment ends in this one,
//	40 8  at this offset
type header struct {
	id, salt uint32
	free     bool
	size     int64
	lastSeg  uint32
	lastEnd  int64
	version  uint32
}

func (h *header) seed() uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], h.id)
	binary.LittleEndian.PutUint32(b[4:], h.salt)
	return checksum(0, b[:])
}

// append writes the header and its copy, and zeros up to the first record.
func (h *header) append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, dataStart)...)
	p := b[at : at+headerLen]
	copy(p, segmentMagic[:])
	binary.LittleEndian.PutUint32(p[8:], version)
	binary.LittleEndian.PutUint32(p[16:], h.id)
	binary.LittleEndian.PutUint32(p[20:], h.salt)
	p[24] = 1
	if h.free {
		p[24] = 2
	}
	binary.LittleEndian.PutUint64(p[28:], uint64(h.size))
	binary.LittleEndian.PutUint32(p[36:], h.lastSeg)
	binary.LittleEndian.PutUint64(p[40:], uint64(h.lastEnd))
	binary.LittleEndian.PutUint32(p[12:], headerSum(p))
	copy(b[at+headerCopy:], p)
	return b
}

func headerSum(p []byte) uint32 {
	return checksum(checksum(0, p[:12]), p[16:headerLen])
}

// parseHeader reads the newer one of the two headers that b begins with, and reports
// whether there is one.
func parseHeader(b []byte) (h header, ok bool) {
	for _, at := range []int{0, headerCopy} {
		if len(b) < at+headerLen {
			break
		}
		p := b[at : at+headerLen]
		if [8]byte(p) != segmentMagic || binary.LittleEndian.Uint32(p[12:]) != headerSum(p) {
			continue
		}
		one := header{
			id: binary.LittleEndian.Uint32(p[16:]), salt: binary.LittleEndian.Uint32(p[20:]),
			free: p[24] == 2, size: int64(binary.LittleEndian.Uint64(p[28:])),
			lastSeg: binary.LittleEndian.Uint32(p[36:]), lastEnd: int64(binary.LittleEndian.Uint64(p[40:])),
			version: binary.LittleEndian.Uint32(p[8:]),
		}
		if !ok || one.id > h.id || one.id == h.id && one.free {
			h, ok = one, true
		}
	}
	return h, ok
}

// footer is what the file of a sealed segment ends with: where its hints are.
type footer struct {
	hintOff int64
	hintLen int
	end     int64 // of the records
	sum     uint32
}

// appendFooter writes it.
func (f *footer) append(b []byte, seed uint32) []byte {
	at := len(b)
	b = append(b, footerMagic[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.hintOff))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.hintLen))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.end))
	b = binary.LittleEndian.AppendUint32(b, f.sum)
	return binary.LittleEndian.AppendUint32(b, checksum(seed, b[at:]))
}

func parseFooter(b []byte, seed uint32, size int64) (f footer, ok bool) {
	if len(b) != footerLen || [4]byte(b) != footerMagic ||
		binary.LittleEndian.Uint32(b[28:]) != checksum(seed, b[:28]) {
		return f, false
	}
	f.hintOff = int64(binary.LittleEndian.Uint64(b[4:]))
	f.hintLen = int(binary.LittleEndian.Uint32(b[12:]))
	f.end = int64(binary.LittleEndian.Uint64(b[16:]))
	f.sum = binary.LittleEndian.Uint32(b[24:])
	ok = f.hintLen >= 0 && f.end >= dataStart && f.end <= f.hintOff && f.hintOff+int64(f.hintLen) == size-footerLen
	return f, ok
}

// segment is one file of the log.
type segment struct {
	header
	name   string
	number int // of the file's name
	key    uint32
	file   durable.File // while it is written, or waits for that
	off    int64        // where the next record goes; after sealing the end
	synced int64        // up to where it is on the medium
	sealed bool         // nothing is written to it any more
	hinted bool         // and it ends with hints
	hints  []byte       // of what is in it, while it is written
	gapAt  int64        // where the last record in hints ends

	live    int64            // bytes of records that count
	deletes map[uint32]int64 // bytes of records that delete, by their low
	suspect bool             // it was damaged, or a write failed: rewrite it
	stuck   bool             // that could not be done
	holed   bool             // the medium refuses to read some of it
	actual  int64            // length of the file when the store was opened
}

func segmentName(number int) string { return fmt.Sprintf("%06d%s", number, suffix) }

// segmentNumber is that of a file's name; ok is false for other files.
func segmentNumber(name string) (n int, ok bool) {
	text, ok := strings.CutSuffix(filepath.Base(name), suffix)
	if !ok || len(text) < 6 {
		return 0, false
	}
	_, err := fmt.Sscanf(text, "%d", &n)
	return n, err == nil && segmentName(n) == filepath.Base(name)
}

// room is how many bytes of records still fit, with their hints.
func (g *segment) room() int64 {
	return g.size - footerLen - g.off - int64(len(g.hints))
}

// noteDelete counts bytes that delete things from low on.
func (g *segment) noteDelete(low uint32, n int64) {
	if g.deletes == nil {
		g.deletes = make(map[uint32]int64)
	}
	if g.deletes[low] += n; g.deletes[low] == 0 {
		delete(g.deletes, low)
	}
}
