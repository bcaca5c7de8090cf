package modbus

import (
	"bytes"
	"encoding/binary"
)

// The lengths of RTU frames (Modbus over Serial Line V1.02 §2.5.1): unit, PDU, CRC.
const (
	rtuOverhead  = 3
	maxRTUFrame  = 256
	rtuException = 5 // unit, function, code, CRC
	rtuFixed     = 8 // unit, function, address, quantity, CRC
)

// crc16 is the checksum of an RTU frame (Modbus over Serial Line V1.02, appendix B).
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc = crc>>8 ^ crcTable[byte(crc)^c]
	}
	return crc
}

var crcTable = makeCRCTable()

func makeCRCTable() (t [256]uint16) {
	for i := range t {
		crc := uint16(i)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
		t[i] = crc
	}
	return t
}

// appendCRC adds the checksum of frame, its low byte first.
func appendCRC(frame []byte) []byte {
	return binary.LittleEndian.AppendUint16(frame, crc16(frame))
}

// sealed reports whether the first n bytes of b are there and end with their CRC.
func sealed(b []byte, n int) bool {
	return n >= 4 && len(b) >= n && crc16(b[:n-2]) == binary.LittleEndian.Uint16(b[n-2:])
}

// frameLen finds the well-formed frame that b begins with, a response or a request
// of any unit; 0 is none (yet).
func frameLen(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	var lens [2]int // of a response, of a request
	switch fn := Function(b[1]); {
	case b[1]&exceptionBit != 0:
		lens[0] = rtuException
	case fn.reads():
		lens[0], lens[1] = 5+int(b[2]), rtuFixed
	case fn == WriteMultipleCoils || fn == WriteMultipleRegisters:
		lens[0] = rtuFixed
		if len(b) > 6 {
			lens[1] = 9 + int(b[6])
		}
	case fn == WriteSingleCoil || fn == WriteSingleRegister:
		lens[0] = rtuFixed
	case fn == MaskWriteRegister:
		lens[0] = rtuFixed + 2
	case fn == ReadWriteRegisters:
		lens[0] = 5 + int(b[2])
		if len(b) > 10 {
			lens[1] = 13 + int(b[10])
		}
	case fn == EncapsulatedInterface:
		lens[0], lens[1] = rtuOverhead+identificationLen(b[1:]), rtuFixed-1
	default:
		return 0
	}
	for _, n := range lens {
		if n <= maxRTUFrame && sealed(b, n) {
			return n
		}
	}
	return 0
}

// find is what scanRTU found.
type find struct {
	verdict verdict
	data    []byte // of a granted read
	code    Code   // of a refusal
	used    int    // bytes up to the end of the frame, or of what can be forgotten
	// hunted says that the frame did not begin where a frame must: it counts only
	// if nothing follows it.
	hunted bool
	odd    bool // there was something that is not ours
	echo   bool // the request itself was heard
	need   int  // at least so many bytes are missing
	noise       // before the answer
}

// scanRTU is the scan of the RTU mode.
func scanRTU(r request, sent, b []byte, echoed bool) find {
	var f find
	// The answer to some writes looks like their echo: the first one is an echo only
	// on a line that is known to repeat. A request to read bits whose address begins
	// with 3 looks like an answer of 3 bytes.
	likeAnswer := r.repeats() && !echoed
	pos := 0
	for {
		rest := b[pos:]
		n := frameLen(rest)
		isEcho := !f.echo && bytes.HasPrefix(rest, sent)
		if n > 0 && rest[0] == r.unit && (!isEcho || likeAnswer) {
			if f.verdict, f.data, f.code = r.judge(rest[1 : n-2]); f.verdict != foreign {
				f.used = pos + n
				return f
			}
		}
		switch {
		case isEcho && !likeAnswer:
			f.echo = true
			pos += len(sent)
		case n > 0:
			f.odd = true
			f.strays++
			pos += n
		default:
			f.used = pos
			if likeAnswer {
				sent = nil
			}
			return hunt(r, sent, b, f)
		}
	}
}

// hunt looks for the answer behind bytes that begin no frame: noise, or the rest of
// a frame. They begin at f.used. Sent is what is not the answer the first time that it
// is heard; nil is nothing.
func hunt(r request, sent, b []byte, f find) find {
	full, start := r.mostLen()+rtuOverhead, f.used
	for pos := start; pos < len(b); pos++ {
		rest := b[pos:]
		if rest[0] != r.unit {
			continue
		}
		if !f.echo && sent != nil && bytes.HasPrefix(rest, sent) {
			f.echo, f.odd = true, true
			pos += len(sent) - 1
			continue
		}
		for _, n := range [2]int{r.answerEnd(rest), rtuException} {
			if !sealed(rest, n) {
				continue
			}
			v, data, code := r.judge(rest[1 : n-2])
			if v == foreign {
				continue
			}
			f.verdict, f.data, f.code = v, data, code
			f.used, f.hunted, f.odd = pos+n, true, f.odd || !r.raw || pos > start
			if pos > start {
				f.broken++
			}
			return f
		}
	}
	f.need = 1
	if !r.whole() {
		f.need = max(1, full-(len(b)-start))
	}
	if rest := b[start:]; len(rest) > 1 && rest[1] == byte(r.fn)|exceptionBit {
		f.need = max(1, rtuException-len(rest))
	}
	return f
}

// answerEnd is where the frame ends that begins b, if it is the answer; 0 is that it
// is not told yet.
func (r request) answerEnd(b []byte) int {
	switch n := r.answerLen(); {
	case n > 0:
		return n + rtuOverhead
	case r.raw:
		return min(len(b), maxRTUFrame)
	default:
		return identificationLen(b[1:]) + rtuOverhead
	}
}
