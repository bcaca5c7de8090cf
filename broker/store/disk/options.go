package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// Sizes in bytes.
const (
	DefaultSegment = 4 << 20
	MinSegment     = 16 << 10
	DefaultBallast = 8 << 20
	DefaultBudget  = 1 << 20
)

// Durability says when an Apply is done.
type Durability struct {
	// Mode is [Commit] by default.
	Mode Mode
	// Every is how long what is done may be unsafe, at least 1 ms. [Interval] reads it.
	Every time.Duration
}

// Mode is a kind of durability.
type Mode uint8

// The modes: what it means that an Apply is done. With [Interval] and [Off] the
// operating system gets it milliseconds later, which is what a kill may cost.
const (
	Commit   Mode = iota // it is on the medium
	Interval             // it will be, after [Durability.Every] at most
	Off                  // it will be when the operating system likes
)

// String is the durability as the configuration says it.
func (d Durability) String() string {
	switch d.Mode {
	case Interval:
		return "interval " + d.Every.String()
	case Off:
		return "off"
	default:
		return "commit"
	}
}

// Options say how a store is kept. Only Folder is required.
type Options struct {
	// Folder holds the files of the store and nothing else. It is made if it is not
	// there and FS is nil.
	Folder string
	// FS is what files are written through; nil is the machine's, and then one process
	// at a time may have the store open.
	FS durable.FS
	// Durability is that of everything that Relaxed does not relax.
	Durability Durability
	// Relaxed reports whether a message needs less, and what; nil is none need less.
	// It is called by many goroutines, for each message.
	Relaxed func(m *message.Message) (Durability, bool)
	// SegmentSize is the size of a segment's file, in bytes, a multiple of 4096 from
	// [MinSegment] to [DefaultSegment]; 0 is [DefaultSegment].
	SegmentSize int64
	// Ballast is how many bytes are kept for when the disk is full; 0 is
	// [DefaultBallast] or two segments, whichever is more, below 0 none.
	Ballast int64
	// Budget is how many bytes a second are rewritten, to give back the room of what
	// is gone; 0 is [DefaultBudget]. Nothing holds it back when the disk is full.
	Budget int64
	// Log hears of damage, failures and a full disk; nil is nowhere.
	Log *slog.Logger
}

func (o *Options) check() error {
	if o.Folder == "" {
		return errors.New("store: a folder is needed")
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegment
	}
	if o.SegmentSize < MinSegment || o.SegmentSize > DefaultSegment || o.SegmentSize%pageLen != 0 {
		return fmt.Errorf("store: a segment of %d bytes: it has from %d to %d, in steps of %d", o.SegmentSize, MinSegment, DefaultSegment, pageLen)
	}
	if o.Ballast == 0 {
		o.Ballast = max(DefaultBallast, 2*o.SegmentSize)
		if o.SegmentSize < DefaultSegment {
			o.Ballast = 2 * o.SegmentSize
		}
	}
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if d := o.Durability; d.Mode > Off || d.Mode == Interval && d.Every < time.Millisecond {
		return fmt.Errorf("store: durability %q is not possible: an interval is at least 1ms", d)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
