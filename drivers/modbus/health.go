package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// firstBackOff and lastBackOff bound the pause between two requests to a unit
	// that does not answer; beside others it is longer where requests take long.
	firstBackOff = time.Second
	lastBackOff  = 30 * time.Second
	// Strikes: a request without a word counts two, one with a garbled answer one;
	// so many in a row and the unit counts as dead.
	silenceStrikes = 2
	garbledStrikes = 1
	deadStrikes    = 4
	// troubleTime is how long a line with an anomaly is not trusted to be free of
	// stale answers.
	troubleTime = time.Minute
	// shortestConfirm is how long at least a second answer is waited for.
	shortestConfirm = 20 * time.Millisecond
)

// errDead says that a unit does not answer and is left alone until its back-off ends.
var errDead = errors.New("the unit does not answer")

// health is what a bus knows of a unit.
type health struct {
	strikes   int
	backOff   time.Duration
	until     time.Time     // not asked before; zero unless dead
	why       error         // of the last strike
	troubled  time.Time     // last time that an answer of it may be under way
	answers   int           // whose latency is known, up to sureAnswers
	latency   time.Duration // smoothed
	variation time.Duration // of the latency, smoothed
	longest   time.Duration // latency, decaying slowly
	revivals  int           // how often it was dead, and answered again
}

// mayAsk refuses a request to a dead unit before its back-off has ended, unless somebody
// wants it asked nevertheless.
func (b *bus) mayAsk(j *job) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &b.units[j.req.unit]
	if !time.Now().Before(h.until) || j.timing.insist {
		return nil
	}
	if j.early = j.timing.early; j.early {
		return nil
	}
	return deadError{h.why}
}

// deadError is an errDead in the words of the failure before it: the reason of a device
// that stays offline does not change with each time that it is not asked.
type deadError struct{ why error }

// Error implements error.
func (e deadError) Error() string { return e.why.Error() }

// Is makes it an errDead, and nothing that why is.
func (e deadError) Is(target error) bool { return target == errDead }

// unheard is what it means that a gateway did not reach the unit.
func unheard(err error) error { return fmt.Errorf("%w: %w", errSilent, err) }

// learn draws the lesson of an exchange.
func (b *bus) learn(j *job, got reply, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if got.odd {
		b.oddness = now
	}
	if b.rtu && j.req.fn.writes() && !errors.Is(err, errIdleClosed) {
		b.acks.note(j.req, now, now.Add(waryTimeouts*j.timing.timeout), err)
	}
	h := &b.units[j.req.unit]
	var exception Exception
	wasAway := h.strikes > deadStrikes && b.clear(now) // probed in vain: that is no single address
	switch {
	case err == nil:
		h.answered(wasAway)
		h.learnLatency(got.latency)
		return
	case errors.As(err, &exception) && !exception.unreached():
		h.answered(wasAway)
		return
	case errors.Is(err, errMisfit): // it is there
	case errors.Is(err, errGarbled):
		b.strike(j, garbledStrikes, err)
	case errors.As(err, &exception):
		b.strike(j, silenceStrikes, unheard(err))
	case errors.Is(err, errSilent):
		b.strike(j, silenceStrikes, err)
	case errors.Is(err, drivers.ErrLost), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	}
	h.troubled = now
}

// strike counts a failure against a unit; mu is held.
func (b *bus) strike(j *job, n int, why error) {
	h := &b.units[j.req.unit]
	h.why = why
	if !j.early { // else a person asked: that is no reason to wait longer
		h.strike(n, time.Now(), b.leastBackOff(j))
	}
}

// leastBackOff is what a probe in vain is worth to the others on the line; mu is held.
func (b *bus) leastBackOff(j *job) time.Duration {
	if b.refs < 2 {
		return 0
	}
	return min(probeShare*j.timing.timeout, longestShare)
}

// clear reports whether nothing odd was heard on the line in the last minute; mu is held.
func (b *bus) clear(now time.Time) bool { return now.Sub(b.oddness) >= troubleTime }

// answered is for an answer of whatever kind.
func (h *health) answered(wasAway bool) {
	if wasAway {
		h.revivals++
	}
	h.strikes, h.backOff, h.until, h.why = 0, 0, time.Time{}, nil
}

// strike counts a failure; enough of them and the unit is left alone for longer and
// longer, for least at least.
func (h *health) strike(n int, now time.Time, least time.Duration) {
	if h.strikes += n; h.strikes < deadStrikes {
		return
	}
	h.backOff = max(min(max(2*h.backOff, firstBackOff), lastBackOff), least)
	h.until = now.Add(h.backOff)
}

// condition is what a device plans with.
type condition struct {
	latency  time.Duration // measured
	timeout  time.Duration // learnt from that; the one given at most
	revivals int           // how often the unit came back from the dead
	confirm  time.Duration // within which a second answer would have come
	troubled bool          // stale answers were under way in the last minute
	calm     time.Time     // from then on none is, for all that is known; see waryTimeouts
}

// condition is of a unit whose time-out is given.
func (b *bus) condition(unit uint8, timeout time.Duration) condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &b.units[unit]
	trouble := h.troubled
	if b.oddness.After(trouble) {
		trouble = b.oddness
	}
	patience := timeout // while late answers are under way, nobody should be hasty
	if b.clear(time.Now()) {
		neighbours := time.Duration(0)
		if h.answers == 0 {
			neighbours = b.neighbours()
		}
		patience = h.timeout(timeout, neighbours)
	}
	return condition{
		latency:  h.latency,
		timeout:  patience,
		revivals: h.revivals,
		confirm:  max(4*h.longest, shortestConfirm),
		troubled: time.Since(trouble) < troubleTime,
		calm:     trouble.Add(waryTimeouts * timeout),
	}
}
