package disk

import (
	"encoding/binary"
	"hash/crc32"
)

// kind is what a record is.
type kind uint8

// The kinds. Their numbers are in the files.
const (
	kindGroup   kind = iota + 1 // the start of what was written together
	kindMessage                 // a message in a queue
	kindDone                    // that one is out of its queue
	kindPut                     // a part, see part
	kindDelete                  // that one is gone
	kindDrop                    // a session is gone with all of its parts
	kinds
)

// Flags of a record.
const (
	flagFirst = 1 << iota // the first of an Apply
	flagLast              // the last of it
)

// A record is a header, a head that says what it is about, and a body; it is filled
// up to a multiple of 8 bytes.
//
//	0  4  CRC32C of all that follows, seeded by the segment
//	4  4  length of head and body
//	8  1  kind
//	9  1  flags
//	10 2  check of bytes 4 to 9, seeded by the segment
const recordHeader = 12

// maxRecord is above the length of every head and body: a message has at most 256 MiB.
const maxRecord = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(seed uint32, b []byte) uint32 { return crc32.Update(seed, castagnoli, b) }

// headerCheck tells headers from other bytes: nobody outside knows the seed.
func headerCheck(seed uint32, b []byte) uint16 {
	sum := checksum(^seed, b[4:10])
	return uint16(sum ^ sum>>16)
}

// padded is the length of a record with n bytes of head and body.
func padded(n int) int { return (recordHeader + n + align - 1) &^ (align - 1) }

// appendRecord writes a record with a head and body.
func appendRecord(b []byte, seed uint32, k kind, flags uint8, content []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHeader)...)
	b = append(b, content...)
	for len(b)-start < padded(len(content)) {
		b = append(b, 0)
	}
	finish(b[start:], seed, k, flags, len(content))
	return b
}

// finish writes the header of a record.
func finish(b []byte, seed uint32, k kind, flags uint8, n int) {
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	b[8], b[9] = byte(k), flags
	binary.LittleEndian.PutUint16(b[10:], headerCheck(seed, b))
	binary.LittleEndian.PutUint32(b, checksum(seed, b[4:recordHeader+n]))
}

// record is one that was read. Content shares the memory of what it was read from.
type record struct {
	kind    kind
	flags   uint8
	content []byte
}

// size of the record in its file.
func (r *record) size() int { return padded(len(r.content)) }

// headerOf looks at the header of a record, and reports whether it is one.
func headerOf(b []byte, seed uint32) (n int, ok bool) {
	if len(b) < recordHeader || b[8] == 0 || kind(b[8]) >= kinds ||
		binary.LittleEndian.Uint16(b[10:]) != headerCheck(seed, b) {
		return 0, false
	}
	size := binary.LittleEndian.Uint32(b[4:])
	return int(size), size < maxRecord
}

// parse reads the record that b begins with, and reports whether there is one.
func parse(b []byte, seed uint32) (r record, ok bool) {
	n, ok := headerOf(b, seed)
	if !ok || n > len(b)-recordHeader ||
		binary.LittleEndian.Uint32(b) != checksum(seed, b[4:recordHeader+n]) {
		return record{}, false
	}
	return record{kind(b[8]), b[9], b[recordHeader : recordHeader+n]}, true
}

// partKind is what a part is.
type partKind uint8

// The kinds of parts. Their numbers are in the files.
const (
	partRetained partKind = iota + 1 // of the store: name is the topic
	partRecord                       // of the store: name is bucket and key
	partSession                      // name is the client identifier
	partNext                         // n is the next position of the queue
	partSub                          // name is the filter
	partHeld                         // n is the packet identifier
	partState                        // n is the position; extra says what of
	partKinds
)

// part names one thing of a session, or of the store, that is put and deleted.
type part struct {
	kind partKind
	n    uint64
	name string
}

// head is what a record is about. Which fields it has follows from its kind.
type head struct {
	owner uint32 // number of the session, 0 is the store itself
	pos   uint64 // of a message
	size  uint32 // of a message: message.Size
	part  part
	extra uint32
	// low and high go with what deletes: something older may be in the segments
	// from low up to below high.
	low, high uint32
}

func (h *head) append(b []byte, k kind) []byte {
	b = binary.AppendUvarint(b, uint64(h.owner))
	switch k {
	case kindMessage:
		b = binary.AppendUvarint(b, h.pos)
		return binary.AppendUvarint(b, uint64(h.size))
	case kindDone:
		b = binary.AppendUvarint(b, h.pos)
	case kindPut, kindDelete:
		b = append(b, byte(h.part.kind))
		b = binary.AppendUvarint(b, h.part.n)
		b = appendText(b, h.part.name)
		if k == kindPut {
			return binary.AppendUvarint(b, uint64(h.extra))
		}
	default: // the owner says it all
	}
	b = binary.AppendUvarint(b, uint64(h.low))
	return binary.AppendUvarint(b, uint64(h.high))
}

// head reads one; the name shares the memory of what is read.
func (d *decoder) head(k kind) (h head) {
	h.owner = d.uint32()
	switch k {
	case kindMessage:
		h.pos, h.size = d.uvarint(), d.uint32()
		if h.owner == 0 {
			d.fail()
		}
		return h
	case kindDone:
		h.pos = d.uvarint()
	case kindPut, kindDelete:
		h.part = part{kind: partKind(d.byte()), n: d.uvarint(), name: d.text()}
		if h.part.kind == 0 || h.part.kind >= partKinds || (h.part.kind <= partRecord) != (h.owner == 0) {
			d.fail()
		}
		if k == kindPut {
			h.extra = d.uint32()
			return h
		}
	case kindDrop:
	default:
		d.fail()
	}
	h.low, h.high = d.uint32(), d.uint32()
	return h
}

// The extra of a state: the packet identifier, and whether the message was received.
const stateReceived = 1 << 16

func stateOf(id uint16, received bool) uint32 {
	if received {
		return uint32(id) | stateReceived
	}
	return uint32(id)
}

// recordName is the name of the part that a keyed record is.
func recordName(bucket, key string) string {
	return string(appendText(nil, bucket)) + key
}

func splitName(name string) (bucket, key string, ok bool) {
	d := decoder{b: []byte(name)}
	bucket = d.text()
	return bucket, string(d.b), !d.bad
}

// appendHint notes a record for the hints of its segment: what came before it ended
// at gap bytes before.
func appendHint(b []byte, k kind, flags uint8, gap int64, n int, h []byte) []byte {
	b = append(b, byte(k)|flags<<4)
	b = binary.AppendUvarint(b, uint64(gap/align))
	b = binary.AppendUvarint(b, uint64(n))
	return append(b, h...)
}

// hint is one record as the hints of its segment tell it.
type hint struct {
	kind  kind
	flags uint8
	off   int64
	n     int // length of head and body
	head  head
	size  int // of the head
}

// hint reads the next one; end is where the record before it ended.
func (d *decoder) hint(end int64) (v hint) {
	c := d.byte()
	v.kind, v.flags = kind(c&15), c>>4
	gap, n := d.uvarint(), d.uvarint()
	if gap > 1<<20 || n >= maxRecord {
		d.fail()
		return v
	}
	v.off, v.n = end+int64(gap)*align, int(n)
	left := len(d.b)
	v.head = d.head(v.kind)
	v.size = left - len(d.b)
	return v
}
