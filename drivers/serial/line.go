package serial

import "bytes"

// framer cuts what comes into lines.
type framer struct {
	delimiter []byte
	most      int // bytes a line
	buf       []byte
	skipping  bool // what comes belongs to a line that was given up
}

// skip passes over the line that is coming.
func (f *framer) skip() { f.skipping, f.buf = true, f.buf[:0] }

// feed takes bytes and calls line for each line that they end; tooLong comes
// instead of one that is longer than it may be. The line is good until line returns.
func (f *framer) feed(b []byte, line func([]byte), tooLong func()) {
	f.buf = append(f.buf, b...)
	rest := f.buf
	for {
		i := bytes.Index(rest, f.delimiter)
		if i < 0 {
			break
		}
		one := bytes.Trim(rest[:i], "\r")
		rest = rest[i+len(f.delimiter):]
		switch {
		case f.skipping:
			f.skipping = false
		case len(one) > f.most:
			tooLong()
		case len(one) > 0:
			line(one)
		}
	}
	if !f.skipping && len(rest) > f.most+len(f.delimiter) {
		tooLong()
		f.skipping = true
	}
	if f.skipping && len(rest) > len(f.delimiter) {
		rest = rest[len(rest)-len(f.delimiter):] // the delimiter may have begun
	}
	f.buf = append(f.buf[:0], rest...)
}
