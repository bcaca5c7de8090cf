package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// maxWireBytes is how much may be sent on a wire at once.
const maxWireBytes = 64 << 10

// Wire is what goes over the wires of devices. Errors say which device has none.
type Wire interface {
	// Tap hands what goes over a device's wire to write until ctx ends, the wire is
	// gone or write returns an error.
	Tap(ctx context.Context, device string, write func(Traffic) error) error
	// Record hands the lines of a recording of the wire to write, beginning with its
	// head, until ctx ends, there is no such device any more or write returns an error.
	Record(ctx context.Context, device string, write func(line []byte) error) error
	// Send writes bytes on it.
	Send(ctx context.Context, device string, b []byte) error
}

// Traffic is one line of GET /api/v1/devices/{name}/wire.
type Traffic struct {
	At   time.Time `json:"at"`
	Sent bool      `json:"sent"` // by the gateway
	Hex  string    `json:"hex"`
	Text string    `json:"text"`           // what of it is ASCII; the rest are dots
	Lost int       `json:"lost,omitempty"` // pieces before this one that were not taken in time
}

// NewTraffic shows bytes.
func NewTraffic(at time.Time, sent bool, b []byte, lost int) Traffic {
	text := make([]byte, len(b))
	for i, c := range b {
		if text[i] = c; c < ' ' || c > '~' {
			text[i] = '.'
		}
	}
	return Traffic{At: at, Sent: sent, Hex: hex.EncodeToString(b), Text: string(text), Lost: lost}
}

// tapWire streams what goes over a device's wire, a line of JSON a piece, until the client
// or the wire goes. The status is sent at once, so that who sends next sees the answer.
func (c *Console) tapWire(w http.ResponseWriter, r *http.Request) {
	c.stream(w, r, http.StatusConflict, func(ctx context.Context, write func([]byte) error) error {
		return c.opt.Wire.Tap(ctx, r.PathValue("name"), func(t Traffic) error {
			if t.At.IsZero() { // it stands
				return write(nil)
			}
			line, err := json.Marshal(t)
			if err != nil {
				return err
			}
			return write(append(line, '\n'))
		})
	})
}

// recordWire streams a recording of a device's wire until the client goes.
func (c *Console) recordWire(w http.ResponseWriter, r *http.Request) {
	c.stream(w, r, http.StatusConflict, func(ctx context.Context, write func([]byte) error) error {
		return c.opt.Wire.Record(ctx, r.PathValue("name"), write)
	})
}

// sendWire writes the body on a device's wire, as it is.
func (c *Console) sendWire(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWireBytes))
	switch {
	case err != nil:
		http.Error(w, "the body cannot be read, or is over 64 KiB", http.StatusRequestEntityTooLarge)
		return
	case len(b) == 0:
		http.Error(w, "the body is empty: it is what is sent", http.StatusUnprocessableEntity)
		return
	}
	if err := c.opt.Wire.Send(r.Context(), r.PathValue("name"), b); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
