package history

import (
	"context"
	"strconv"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
)

const (
	// leap is how far the wall clock may be from where it is expected without a doubt: a
	// gateway may have been off for so long.
	leap = 366 * 24 * time.Hour
	// settled is after how long one that leaped further is believed.
	settled = 24 * time.Hour
)

// trust says whether the wall clock may judge what is too old. One that leaps, for an hour
// or for good, is first seen to stay there: what is gone does not come back when it is set
// right. The zero value has not seen it yet.
type trust struct {
	wall  time.Time // what it said when it was last believed, or what is known of an earlier run
	at    time.Time // when that was, by the monotonic clock
	leapt time.Time // when it was first seen to be elsewhere; zero if it is not
}

// believes says so of a wall clock when it is now by the monotonic one.
func (c *trust) believes(wall, now time.Time) bool {
	wall = wall.Round(0)
	switch apart := wall.Sub(c.wall.Add(now.Sub(c.at))); {
	case c.wall.IsZero() || apart.Abs() <= leap:
	case c.leapt.IsZero():
		c.leapt = now
		return false
	case now.Sub(c.leapt) < settled:
		return false
	}
	c.wall, c.at, c.leapt = wall, now, time.Time{}
	return true
}

// believedBucket has, under believedKey, what the wall clock said when it was last
// believed, in Unix milliseconds.
const (
	believedBucket = "history/clock"
	believedKey    = "believed"
)

// record is what is kept of it.
func (c *trust) record() store.Change {
	return store.Change{Op: store.Put, Bucket: believedBucket, Key: believedKey, Value: strconv.AppendInt(nil, c.wall.UnixMilli(), 10)}
}

// recall takes over what an earlier run has kept.
func (c *trust) recall(ctx context.Context, s store.Store) error {
	records, err := s.Records(ctx, store.Range{Bucket: believedBucket, Limit: 1})
	if err != nil || len(records) == 0 {
		return err
	}
	if ms, err := strconv.ParseInt(string(records[0].Value), 10, 64); err == nil { // else as if there were none
		c.wall, c.at = time.UnixMilli(ms), time.Now()
	}
	return nil
}
