package jsvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxFrame is the longest body of a frame in bytes.
const maxFrame = 16 << 20

const headerSize = 4

// errMalformed is what decodeRecord and readFrame return (wrapped) for bytes that are not
// a record or a frame.
var errMalformed = errors.New("malformed frame")

// beginFrame starts a frame in b, which may be a buffer to reuse; records are appended
// to what it returns, and finishFrame ends it.
func beginFrame(b []byte) []byte { return append(b[:0], 0, 0, 0, 0) }

// finishFrame writes the length into a frame that began with beginFrame. It fails when the
// body is over maxFrame.
func finishFrame(frame []byte) error {
	n := len(frame) - headerSize
	if n > maxFrame {
		return fmt.Errorf("frame of %d bytes is over the limit of %d", n, maxFrame)
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
	return nil
}

// readFrame takes the next frame from r and returns its body, newly allocated. At the
// end of the stream it returns io.EOF.
func readFrame(r io.Reader) ([]byte, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: stream ends within a length", errMalformed)
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: length %d", errMalformed, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%w: stream ends within a frame of %d bytes", errMalformed, n)
	}
	return body, nil
}
