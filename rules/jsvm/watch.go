package jsvm

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/dop251/goja"
	"golang.org/x/sys/unix"
)

// How an event that overruns is ended, in multiples of its limit. Wall time alone
// would blame a script for a busy machine, so that the processor time must bear it
// out, up to starved. What does not heed the interrupt (a builtin that is one long
// native loop) ends with the worker.
const (
	loadFactor = 20 // parsing may take so many deadlines
	starved    = 20
	// A regular expression that backtracks is ended by the wall clock of its
	// library, which then says that nothing matched. An event must have been
	// interrupted by then, so that the answer is never used.
	starvedRegexp = 3
	giveUp        = 3
	giveUpSlack   = 100 * time.Millisecond
)

// Exit codes of a worker that ends itself.
const (
	exitOverrun = 3
	exitHoard   = 4
)

// watch ends events that run too long. The worker calls begin and end around each;
// the goroutine of run sleeps while nothing is in progress.
type watch struct {
	deadline time.Duration
	wake     chan struct{}

	mu      sync.Mutex
	rt      *goja.Runtime // to interrupt; nil while parsing
	busy    bool
	asleep  bool
	next    time.Time // when the goroutine looks again, unless asleep
	fired   bool
	firedAt time.Time
	started time.Time
	limit   time.Duration
	most    time.Duration // of wall time
	cpu     time.Duration // the process's, shortly before the event
}

func newWatch(deadline time.Duration) *watch {
	return &watch{deadline: deadline, wake: make(chan struct{}, 1)}
}

// note takes the processor time down. It is called before the events of a frame, and
// after those that took long.
func (w *watch) note() {
	cpu := processTime()
	w.mu.Lock()
	w.cpu = cpu
	w.mu.Unlock()
}

// begin starts an event: factor times the deadline of processor time, most times of
// wall time.
func (w *watch) begin(rt *goja.Runtime, factor, most int) {
	now := time.Now()
	w.mu.Lock()
	w.rt, w.busy, w.fired = rt, true, false
	w.started, w.limit = now, w.deadline*time.Duration(factor)
	w.most = w.limit * time.Duration(most)
	wake := w.asleep || now.Add(w.limit).Before(w.next)
	w.asleep = false
	w.mu.Unlock()
	if wake {
		signal(w.wake)
	}
}

// settle makes the runtime usable again if the event was interrupted, which it
// reports; after it the event is not watched any more.
func (w *watch) settle() (interrupted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fired && w.rt != nil {
		w.rt.ClearInterrupt()
	}
	w.busy, w.rt = false, nil
	return w.fired
}

// end is the end of the event; the runtime can be used again.
func (w *watch) end() { w.settle() }

// overran reports whether the event in progress was interrupted, or should have been: on
// a busy machine the interrupt may be late, and a regular expression may have been given
// up meanwhile, whose answer must not be used.
func (w *watch) overran() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired || time.Since(w.started) >= w.most
}

func (w *watch) deadlineText() string {
	return fmt.Sprintf("did not return within %v", w.deadline)
}

// run watches until the process ends.
func (w *watch) run() {
	timer := time.NewTimer(time.Hour)
	for {
		wait, idle := w.check(time.Now())
		if idle {
			<-w.wake
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// check ends what is over its time and says when to look again.
func (w *watch) check(now time.Time) (wait time.Duration, idle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.busy {
		w.asleep = true
		return 0, true
	}
	wait = w.judge(now)
	w.next = now.Add(wait)
	return wait, false
}

func (w *watch) judge(now time.Time) (wait time.Duration) {
	spent := now.Sub(w.started)
	heed := giveUp*w.limit + giveUpSlack // to come back after the interrupt
	switch {
	case w.fired && now.Sub(w.firedAt) >= heed:
		os.Exit(exitOverrun)
	case w.fired:
		return heed - now.Sub(w.firedAt)
	case spent < w.limit:
		return w.limit - spent
	case spent < w.most && processTime()-w.cpu < w.limit/2:
		return w.limit / 4
	case w.rt == nil: // the parser cannot be interrupted
		os.Exit(exitOverrun)
	}
	w.fired, w.firedAt = true, now
	w.rt.Interrupt(errDeadline)
	return heed
}

// processTime is the processor time that the process took so far; 0 if the kernel
// does not say.
func processTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
