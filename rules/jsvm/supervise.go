package jsvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// How long to wait before another worker is started.
const (
	firstPause = 20 * time.Millisecond
	longPause  = 5 * time.Second
	// A worker that lived so long did not die of its start.
	settled = 10 * time.Second
	// After so many that did nothing at all, what waits gets an error.
	hopeless = 3
)

// run keeps a worker while there is something to do, until close.
func (l *link) run() {
	defer close(l.done)
	var quick, useless int
	for l.awaitWork() {
		began := time.Now()
		worked, err := l.session()
		if l.isStopped() {
			break
		}
		quick++
		if time.Since(began) > settled {
			quick = 1
		}
		useless++
		if worked {
			useless = 0
		}
		pause := min(firstPause<<min(quick-1, 16), longPause)
		if quick == 1 && worked {
			pause = 0
		}
		if useless > 0 {
			l.options.Log.Error("script worker cannot be run", "error", err, "again", pause)
		}
		if useless >= hopeless {
			l.failAll(fmt.Errorf("the script worker cannot be run: %w", err))
		}
		l.rest(pause)
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.failAll(ErrClosed)
}

func (l *link) isStopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *link) rest(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-l.stop:
	case <-timer.C:
	}
}

// awaitWork waits for the first item; false means that the link is closed.
func (l *link) awaitWork() bool {
	for {
		l.mu.Lock()
		work := l.next() != nil
		l.mu.Unlock()
		if l.isStopped() {
			return false
		}
		if work {
			return true
		}
		select {
		case <-l.stop:
			return false
		case <-l.wake:
		}
	}
}

// failAll answers everything that waits with an error.
func (l *link) failAll(err error) {
	l.mu.Lock()
	all := slices.Concat(l.inflight, l.retry, l.before, l.after)
	l.inflight, l.retry, l.before, l.after = nil, nil, nil, nil
	l.mu.Unlock()
	for _, it := range all {
		it.fail(err)
	}
}

// session is the life of one worker. It reports whether that one did anything, and
// why it ended.
func (l *link) session() (worked bool, err error) {
	l.mu.Lock()
	l.generation++
	l.answers, l.unload = 0, nil
	l.mu.Unlock()
	p, err := startProcess(l.options)
	if err != nil {
		return false, err
	}
	dead := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.writeRequests(p, dead) })
	wg.Go(func() { l.guard(p, dead) })
	wg.Go(func() { l.endOnStop(p, dead) })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asks := &asks{link: l, to: p.told}
	hoard, readErr := l.readAnswers(ctx, p, asks)
	p.kill(false) // an answering end that is closed means the same
	close(dead)
	wg.Wait()
	cancel()
	asks.wg.Wait()
	l.asking.Store(false)
	d := p.bury(l.options.Deadline)
	if errors.Is(readErr, errMalformed) {
		d.why, d.foreign = "gave an answer that cannot be read", false
	}
	return l.mourn(d, hoard)
}

// endOnStop closes the worker's pipe when the link is closed, which ends it.
func (l *link) endOnStop(p *process, dead <-chan struct{}) {
	select {
	case <-dead:
		return
	case <-l.stop:
	}
	_ = p.requests.Close()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-dead:
	case <-timer.C:
		p.kill(false)
	}
}

// guard kills a worker whose event is long past its deadline: one that cannot even
// watch itself.
func (l *link) guard(p *process, dead <-chan struct{}) {
	for {
		select {
		case <-dead:
			return
		case <-l.busy:
		}
		if !l.guardBusy(p, dead) {
			return
		}
	}
}

// guardBusy looks at the worker from time to time while it has something to do.
func (l *link) guardBusy(p *process, dead <-chan struct{}) bool {
	ticker := time.NewTicker(l.options.Deadline)
	defer ticker.Stop()
	var last uint64
	since := time.Now()
	for {
		select {
		case <-dead:
			return false
		case <-ticker.C:
		}
		if l.idle() {
			return true
		}
		seq := p.shared.seq.Load()
		if seq != last || l.asking.Load() { // a plugin's time is not the event's
			last, since = seq, time.Now()
		}
		if time.Since(since) > l.patience(seq) {
			p.kill(true)
			return false
		}
	}
}

// patience is how long the worker may be at one thing. It ends an event itself much
// earlier.
func (l *link) patience(seq uint64) time.Duration {
	const slack = 500 * time.Millisecond
	switch {
	case seq == 0 && !l.hasAnswered(): // being read from an SD card, on a busy machine
		return 15 * time.Second
	case seq == 0: // collecting garbage, or looking for a hoarder
		return 3 * time.Second
	case l.isLoad(seq):
		return (starvedRegexp*loadFactor+starved+2*giveUp)*l.options.Deadline + slack
	default:
		return (starved+2*giveUp)*l.options.Deadline + slack
	}
}

// hasAnswered reports whether this worker has ever answered.
func (l *link) hasAnswered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers > 0
}

// mourn finds who is to blame for the worker's death. That event is answered with
// an error; all others that were on their way wait for the next worker.
func (l *link) mourn(d death, hoard *hoardRecord) (worked bool, err error) {
	blamed, again, forgotten := l.sortOut(d)
	if l.isStopped() && blamed == nil {
		return true, nil
	}
	l.mu.Lock()
	worked = l.answers > 0 || blamed != nil || hoard != nil
	var culprit *program
	if blamed != nil {
		culprit = blamed.prog
	} else if hoard != nil {
		culprit, d.why = l.programs[hoard.Script], hoard.reason()
	}
	l.mu.Unlock()
	name := ""
	if culprit != nil {
		name = culprit.src.Name
		l.strike(culprit, d.why)
	}
	l.options.Log.Warn("script worker died, starting another", "script", name, "reason", d.why, "again", again)
	for _, p := range forgotten {
		p.tellForgotten()
	}
	if blamed != nil && !blamed.reload {
		blamed.fail(blamed.prog.blame(blamed, d.why))
	}
	return worked, errors.New(d.why)
}

// sortOut takes everything out of flight. All but the event to blame waits for the
// next worker. An event that was met by a foreign hand gets a second chance. When
// the link is closed nobody is to blame: we ended the worker ourselves.
func (l *link) sortOut(d death) (blamed *item, again int, forgotten []*program) {
	stopped := l.isStopped()
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting []*item
	for _, it := range l.inflight {
		guilty := d.seq != 0 && it.seq == d.seq && !stopped
		if guilty && d.foreign && !it.spared {
			guilty, it.spared = false, true
		}
		switch {
		case guilty:
			blamed = it
		case !it.reload:
			waiting = append(waiting, it)
		}
	}
	l.inflight, l.retry = nil, append(waiting, l.retry...)
	return blamed, len(waiting), l.forgottenTimers()
}

func (h *hoardRecord) reason() string {
	switch {
	case h.Script == 0:
		return "used its memory up, though no script alone did"
	case h.Event:
		return fmt.Sprintf("took %d MiB in one event", h.Bytes>>20)
	default:
		return fmt.Sprintf("held %d MiB between its events", h.Bytes>>20)
	}
}

// forgottenTimers lists the programs whose handlers had timers pending.
func (l *link) forgottenTimers() []*program {
	var list []*program
	for _, p := range l.programs {
		if p.forgetTimers() {
			list = append(list, p)
		}
	}
	return list
}

// strike counts a worker's death against a program.
func (l *link) strike(p *program, why string) {
	l.mu.Lock()
	q := &p.quarantine
	times, begins := q.strike(l.now())
	if begins {
		often := "again"
		if times >= quarantineDeaths {
			often = fmt.Sprintf("%d times in a minute", times)
		}
		q.reason = p.errorAt(0, 0, fmt.Sprintf("not run before %s unless the file changes: it ended the script worker %s; the last time it %s",
			q.until.Format(time.TimeOnly), often, why))
	}
	pause := q.pause
	l.mu.Unlock()
	if begins {
		p.src.Log.Error("script is not run for a while, unless its file changes", "script", p.src.Name, "pause", pause, "reason", why)
	}
}

// reloadFailed counts a script that cannot be run again like a death.
func (l *link) reloadFailed(p *program, err error) {
	l.strike(p, "could not be run again: "+err.Error())
	p.src.Log.Error("script cannot be run again", "script", p.src.Name, "error", err)
}

// blame is the error of the item that the worker died of.
func (p *program) blame(it *item, why string) *rules.Error {
	switch {
	case it.call == nil:
		return p.errorAt(0, 0, "the top level of the script "+why)
	case it.call.Trigger == rules.OnTimer:
		return p.errorAt(0, 0, "a timer of the script "+why)
	default:
		msg := fmt.Sprintf("the script %s", why)
		if r := p.ruleOf(it.call); r != nil {
			msg = fmt.Sprintf("rule %q %s", r.Name, why)
		}
		return p.errorAt(p.ruleLine(it.call), 0, msg)
	}
}
