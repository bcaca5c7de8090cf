package modbus

import (
	"bytes"
	"encoding/hex"
)

// mode is a transmission mode: how PDUs become frames on a line (Modbus over Serial
// Line V1.02 §2.5).
type mode interface {
	// append adds the frame of a PDU to b.
	append(b []byte, unit uint8, pdu []byte) []byte
	// scan looks in heard, which is what came since the request was sent, for the
	// answer to r; sent is the request's frame. Frames of others are skipped whole, so
	// that nothing inside them can pass for ours. Echoed says that the line is known
	// to repeat what is sent.
	scan(r request, sent, heard []byte, echoed bool) find
	// chars is how many characters the frame of a PDU of n bytes takes.
	chars(n int) int
}

// rtuMode is the RTU mode (§2.5.1).
type rtuMode struct{}

func (rtuMode) append(b []byte, unit uint8, pdu []byte) []byte {
	start := len(b)
	b = append(append(b, unit), pdu...)
	crc := crc16(b[start:])
	return append(b, byte(crc), byte(crc>>8))
}

func (rtuMode) scan(r request, sent, heard []byte, echoed bool) find {
	return scanRTU(r, sent, heard, echoed)
}

func (rtuMode) chars(n int) int { return n + rtuOverhead }

// asciiMode is the ASCII mode (§2.5.2): a colon, unit, PDU and LRC as hexadecimal
// digits, CR, LF.
type asciiMode struct{}

// lrc is the checksum of an ASCII frame (appendix B): what makes the sum of all bytes 0.
func lrc(b []byte) byte {
	sum := byte(0)
	for _, c := range b {
		sum += c
	}
	return -sum
}

func (asciiMode) append(b []byte, unit uint8, pdu []byte) []byte {
	const digits = "0123456789ABCDEF"
	var plain [maxPDU + 4]byte
	adu := append(append(plain[:0], unit), pdu...)
	adu = append(adu, lrc(adu))
	b = append(b, ':')
	for _, c := range adu {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return append(b, '\r', '\n')
}

func (asciiMode) chars(n int) int { return 2*n + 7 }

// cutASCII takes the frame that b begins with, from its colon to its line feed. N is 0
// if it is not all there; ok is that it is one: unit and PDU are adu.
func cutASCII(b []byte) (adu []byte, n int, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if again := bytes.IndexByte(b[1:], ':'); again >= 0 && (end < 0 || again+1 < end) {
		return nil, again + 1, false // torn: the next one begins
	}
	if end < 0 {
		if len(b) > (asciiMode{}).chars(maxPDU) {
			return nil, len(b), false
		}
		return nil, 0, false
	}
	text := bytes.TrimSuffix(b[1:end], []byte("\r"))
	adu = make([]byte, len(text)/2)
	if _, err := hex.Decode(adu, text); err != nil || len(adu) < 3 || lrc(adu) != 0 {
		return nil, end + 1, false
	}
	return adu[:len(adu)-1], end + 1, true
}

func (m asciiMode) scan(r request, sent, heard []byte, echoed bool) find {
	var f find
	likeAnswer := r.repeats() && !echoed
	for {
		rest := heard[f.used:]
		colon := bytes.IndexByte(rest, ':')
		if colon != 0 && len(rest) > 0 {
			f.odd = true // between frames there is nothing
			f.broken++
		}
		if colon < 0 {
			f.used, f.need = len(heard), m.chars(1)
			return f
		}
		rest, f.used = rest[colon:], f.used+colon
		if !f.echo && !likeAnswer && bytes.HasPrefix(rest, sent) {
			f.echo = true
			f.used += len(sent)
			continue
		}
		adu, n, ok := cutASCII(rest)
		if n == 0 {
			f.need = max(1, m.chars(r.mostLen())-len(rest))
			if r.whole() || len(rest) > 4 && rest[3] >= '8' { // an exception is shorter
				f.need = 1
			}
			return f
		}
		f.used += n
		if ok && adu[0] == r.unit {
			if f.verdict, f.data, f.code = r.judge(adu[1:]); f.verdict != foreign {
				return f
			}
		}
		if f.odd = true; ok {
			f.strays++
		} else {
			f.broken++
		}
	}
}
