package serial

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// tapQueue is how many pieces of traffic wait for who watches; further ones are lost.
const tapQueue = 256

// tap sees what goes over a line.
type tap struct {
	traffic chan drivers.Traffic // closed when the tap is off the line
	lost    int                  // pieces since the last one; guarded by line.mu
}

// tell tells the taps. The caller holds l.mu.
func (l *line) tell(sent bool, b []byte, at time.Time) {
	for _, t := range l.taps {
		select {
		case t.traffic <- drivers.Traffic{At: at, Sent: sent, Data: slices.Clone(b), Lost: t.lost}:
			t.lost = 0
		default:
			t.lost++
		}
	}
}

// Tap implements drivers.Wired.
func (d *device) Tap() (<-chan drivers.Traffic, func()) {
	l := d.line
	t := &tap{traffic: make(chan drivers.Traffic, tapQueue)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		close(t.traffic)
		return t.traffic, func() {}
	}
	l.taps = append(l.taps, t)
	return t.traffic, sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if i := slices.Index(l.taps, t); i >= 0 { // else the line has ended, and closed it
			l.taps = slices.Delete(l.taps, i, i+1)
			close(t.traffic)
		}
	})
}

// Send implements drivers.Wired.
func (d *device) Send(ctx context.Context, b []byte) error {
	l := d.line
	if err := l.turn.take(ctx, true); err != nil {
		return err
	}
	defer l.turn.give()
	if err := l.send(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastAt = time.Now()
	l.waryTill = l.lastAt.Add(warySilence) // what it answers is no answer to a request
	return nil
}
