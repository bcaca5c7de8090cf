package drivers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrLost says that a device is gone and must be opened again: the port was
// unplugged, the connection closed. Read, Write and Pushed.Err wrap it; any other
// error of theirs leaves the device open.
var ErrLost = errors.New("device lost")

// ErrConfig marks what is wrong with the device file: opening again is no use
// before it changes.
var ErrConfig = errors.New("device file")

// ErrUncertain says that a write was sent and no answer told what became of it: the
// equipment may have taken it. Write wraps it, perhaps beside [ErrLost]. The Host takes
// [context.DeadlineExceeded] for the same.
var ErrUncertain = errors.New("unknown: may have been written")

// Driver is a kind of equipment. Its methods may be called by any goroutine.
type Driver interface {
	// Check decodes the device file strictly, without touching the equipment,
	// and returns the points that Open would. Errors are of *ConfigError.
	Check(cfg Config) ([]Point, error)
	// Open opens one piece of equipment. It returns once the device can be used
	// or is known not to answer; ctx bounds it.
	Open(ctx context.Context, cfg Config) (Device, error)
}

// Device is one open piece of equipment. One goroutine calls it.
type Device interface {
	// Points are the device's points; they never change while it is open.
	Points() []Point
	// Read reads the points that are due, by name, and returns a reading for each
	// that it could judge: one that the device refused has Quality Bad and an
	// Err. An error means that the device did not answer at all. It is called
	// with the point that was just written, too, even if that is not polled. It
	// does not keep the slice; the readings are the device's again with the next
	// call, so that it may use their memory anew.
	Read(ctx context.Context, points []string) ([]Reading, error)
	// Write writes one point. A refusal by the device is an error, too; one that
	// leaves open whether it was written wraps ErrUncertain.
	Write(ctx context.Context, point string, v Value) error
	// Close gives the equipment back. It waits for what the device started.
	Close() error
}

// Insister is a Device that leaves equipment alone for a while which does not answer.
type Insister interface {
	Device
	// Insist has the next Read ask it nevertheless, once, and without making the pause
	// longer if that is in vain.
	Insist()
}

// GroupWriter is a Device that can write several points in one request.
type GroupWriter interface {
	Device
	// WriteGroup writes as many of the points, from the first on, as one request can, and
	// says how many those are, at least one. The error is that of Write, and is about
	// all of these: who refuses one of them has written none.
	WriteGroup(ctx context.Context, writes []PointWrite) (n int, err error)
}

// PointWrite is a value to write to a point.
type PointWrite struct {
	Point string
	Value Value
}

// Pusher is a Device that also speaks without being asked.
type Pusher interface {
	Device
	// Pushed delivers readings as they come. The channel is closed by Close, or
	// after an Err of ErrLost.
	Pushed() <-chan Pushed
}

// Pushed is what a device said by itself: readings, or why its words could not be
// understood (which is counted and shown), or that it is lost.
type Pushed struct {
	Readings []Reading
	Err      error
}

// Quality says how far a reading can be trusted.
type Quality uint8

// The qualities. The zero value is [Good].
const (
	Good  Quality = iota
	Stale         // it was good once; the device has not answered since
	Bad           // the device answered, and not with a value
)

// String gives "good", "stale" or "bad".
func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case Stale:
		return "stale"
	case Bad:
		return "bad"
	}
	return fmt.Sprintf("Quality(%d)", uint8(q))
}

// MarshalText gives what String does.
func (q Quality) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (q *Quality) UnmarshalText(b []byte) error {
	for _, known := range []Quality{Good, Stale, Bad} {
		if string(b) == known.String() {
			*q = known
			return nil
		}
	}
	return fmt.Errorf("%q is not a quality", b)
}

// Reading is what a point was at a moment.
type Reading struct {
	Point   string
	Value   Value // Null unless Quality is Good or Stale
	Quality Quality
	At      time.Time
	Err     error // why it is Bad; nil otherwise
}

// Codec compiles a script that reads and makes what a device says. cmd hands it to
// drivers (from rules/jsvm). Device and file are for the log and for errors: an error says
// what is wrong in the source, with file, line and column there.
//
// The script is JavaScript with a function decode(bytes), which gets a Uint8Array and
// returns an object of points and values, or null for nothing; and, if something is
// writable, a function encode(point, value), which returns the bytes to send as an
// array of numbers, a Uint8Array, or text.
type Codec func(device, file, source string) (Coder, error)

// Coder is a compiled script. It is called by one goroutine.
type Coder interface {
	// Decode reads one frame. The values are those of the names that the script
	// returned, whether they are points or not; none is not an error.
	Decode(ctx context.Context, frame []byte) (map[string]Value, error)
	// Encode makes what is sent to write a point; a script without the function
	// encode is an error.
	Encode(ctx context.Context, point string, v Value) ([]byte, error)
	// Close gives back what the script took. It is called once, by the goroutine that
	// called the others.
	Close() error
}

// Formula compiles an expression into a function of the values of named variables.
// cmd hands it to drivers that calculate (from rules/exprlang). The function is
// called by one goroutine; its result is nil, bool, int, int64, float64 or string.
type Formula func(source string) (func(vars map[string]any) (any, error), error)
