package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// part is one running piece of the gateway.
type part struct {
	name  string
	run   func(context.Context) error // blocks until its context ends
	ready <-chan struct{}             // closed when the next part may start; nil is at once
}

// stopTime is how long a part may take to stop before it is named in the log and
// the next one is stopped.
const stopTime = 5 * time.Second

// pluginStopTime is how long a plugin may take to stop: it is named and killed before
// all plugins together are late.
const pluginStopTime = stopTime - time.Second

type running struct {
	part
	stop context.CancelFunc
	done chan struct{}
	err  error // valid once done is closed
}

// runParts starts the parts in order, calls up when all are ready, and stops them
// in reverse when ctx ends or one of them does. It returns the error of the part
// that ended by itself.
func runParts(ctx context.Context, log *slog.Logger, parts []part, up func()) error {
	var started []*running
	ended := make(chan *running, len(parts))
	err := func() error {
		for _, p := range parts {
			r := start(ctx, p, ended)
			started = append(started, r)
			if p.ready == nil {
				continue
			}
			select {
			case <-p.ready:
			case r := <-ended:
				return r.failure()
			case <-ctx.Done():
				return nil
			}
		}
		up()
		select {
		case r := <-ended:
			return r.failure()
		case <-ctx.Done():
			return nil
		}
	}()
	for i := len(started) - 1; i >= 0; i-- {
		err = errors.Join(err, started[i].end(log))
	}
	return err
}

func start(ctx context.Context, p part, ended chan<- *running) *running {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{part: p, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			if own.Err() == nil {
				ended <- r
			}
		}()
		r.err = p.run(own)
	}()
	return r
}

// failure is the error of a part that ended before it was told to.
func (r *running) failure() error {
	<-r.done
	if r.err == nil {
		return fmt.Errorf("%s ended by itself", r.name)
	}
	return fmt.Errorf("%s: %w", r.name, r.err)
}

// end stops the part and waits for it, within limits. Its error is returned if it
// came from stopping.
func (r *running) end(log *slog.Logger) error {
	select {
	case <-r.done: // ended by itself: already told
		r.stop()
		return nil
	default:
	}
	r.stop()
	began := time.Now()
	select {
	case <-r.done:
		log.Debug("part stopped", "part", r.name, "after", time.Since(began))
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			return fmt.Errorf("stopping %s: %w", r.name, r.err)
		}
	case <-time.After(stopTime):
		log.Error("part does not stop", "part", r.name, "after", stopTime)
	}
	return nil
}
