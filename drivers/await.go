package drivers

import (
	"context"
	"time"
)

// Awaiter is a Driver that can tell when equipment comes back, which is then opened
// at once, however long the pause between two tries has become.
type Awaiter interface {
	Driver
	// Await waits until there is a reason to open the equipment of cfg again, which
	// could not be opened or was lost because of why, and returns nil: its port was
	// plugged in, say. That the equipment is merely there is no reason. It returns
	// an error when it can see none, or ctx has ended. Any goroutine may call it.
	Await(ctx context.Context, cfg Config, why error) error
}

// rest refuses commands for so long, or until the device that was lost because of
// why has come back, or somebody asks for it, which it reports.
func (s *slot) rest(ctx context.Context, e *entry, d time.Duration, why error) (came, asked bool) {
	a, ok := e.driver.(Awaiter)
	if !ok {
		return false, s.idle(ctx, d)
	}
	ctx, cancel := context.WithCancel(ctx)
	back := make(chan bool, 1)
	go func() {
		came := false
		defer func() {
			if p := recover(); p != nil {
				_ = s.panicked(p) // the pause is as long as without it
			}
			back <- came
			if came {
				cancel()
			}
		}()
		came = a.Await(ctx, e.cfg, why) == nil
	}()
	asked = s.idle(ctx, d)
	cancel()
	return <-back, asked
}
