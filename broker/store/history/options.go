package history

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// FlushEvery is how long points may wait before they are on disk.
const FlushEvery = 10 * time.Minute

// Options say what is kept. Store is required.
type Options struct {
	Store store.Store
	// Topics are the topic filters whose messages are kept. Without any nothing is
	// added, but what there is can be read.
	Topics []string
	// Age is how long a point is kept; 0 is 30 days. At least an hour.
	Age time.Duration
	// Bytes is how much of the store all chunks may take; 0 is 64 MiB. At least
	// 64 KiB. The oldest go first.
	Bytes int64
	// Series is how many series there may be; 0 is 1,000. The numbers of further ones
	// are not kept, and counted.
	Series int
	// Now tells the time by the wall clock, and whether that is plausible: while it is
	// not nothing is kept, and nothing is too old. Nil is the machine's clock from
	// 2024 on.
	Now func() (now time.Time, plausible bool)
	Log *slog.Logger // nil is slog.Default
}

const (
	defaultAge    = 30 * 24 * time.Hour
	minAge        = time.Hour
	defaultBytes  = 64 << 20
	minBytes      = 64 << 10
	defaultSeries = 1000
)

func (o *Options) complete() error {
	if o.Store == nil {
		return errors.New("cannot keep history: no store")
	}
	for _, f := range o.Topics {
		if !topic.ValidFilter(f) {
			return fmt.Errorf("cannot keep history: topic filter %q is not valid", f)
		}
	}
	if o.Age == 0 {
		o.Age = defaultAge
	}
	if o.Bytes == 0 {
		o.Bytes = defaultBytes
	}
	if o.Series == 0 {
		o.Series = defaultSeries
	}
	switch {
	case o.Age < minAge:
		return fmt.Errorf("cannot keep history: an age of %v is less than %v", o.Age, minAge)
	case o.Bytes < minBytes:
		return fmt.Errorf("cannot keep history: %d bytes are less than %d", o.Bytes, minBytes)
	case o.Series < 1:
		return fmt.Errorf("cannot keep history: %d series", o.Series)
	}
	if o.Now == nil {
		o.Now = func() (time.Time, bool) {
			now := time.Now()
			return now, now.Year() >= 2024
		}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return nil
}
