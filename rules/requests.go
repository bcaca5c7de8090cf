package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of requests.
const (
	maxRequests       = 100       // on their way, of one file
	maxRequest        = 256 << 10 // bytes of one as it is kept
	maxReply          = 1 << 20   // bytes of the body of a reply
	requestTime       = 10 * time.Second
	longestRequest    = time.Minute
	mostRetries       = 10
	requestsAtOnce    = 8
	shortestPause     = time.Second
	longestRetryPause = time.Minute
)

// Fetcher makes HTTP requests for rules, one try a call. It has the say about what may
// be reached. It returns when the reply is there, or ctx ends; an error that wraps
// [ErrForbidden] is not tried again. Its methods are called by several goroutines.
type Fetcher interface {
	Fetch(ctx context.Context, r *Request) (*Reply, error)
}

// ErrForbidden is what a [Fetcher] gives for what rules may not reach.
var ErrForbidden = errors.New("not allowed")

// request is one that is on its way.
type request struct {
	Request
	Hops uint8
	stop context.CancelFunc // nil while it has not left
}

// flown is a request that has come back.
type flown struct {
	file  string
	r     *request
	reply *Reply
}

// flights are the goroutines of a lane's requests.
type flights struct {
	group sync.WaitGroup
	slots chan struct{}
	next  []departure

	mu      sync.Mutex
	changes uint64                 // of up
	up      map[*request]time.Time // that are not back: until when one pauses, or zero
	landed  chan struct{}          // capacity 1: one is back, or pauses
}

// note notes that a request is up, and pauses until a time, if it is not zero.
func (f *flights) note(r *request, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.up == nil {
		f.up = make(map[*request]time.Time)
	}
	f.up[r] = until
	f.changes++
	signal(f.landed)
}

func (f *flights) down(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.up, r)
	f.changes++
	signal(f.landed)
}

func (f *flights) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// busy reports whether a request is up that does not wait for the clock.
func (f *flights) busy(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, until := range f.up {
		if !until.After(now) {
			return true
		}
	}
	return false
}

// departure is one that is to leave when what goes with it is kept.
type departure struct {
	file string
	r    *request
}

// request notes one that a rule asks for.
func (l *lane) request(j *judge, asked *Request, hops uint8, now time.Time) {
	if j.Shadow {
		return
	}
	k := l.keepingOf(j.unit.file, now)
	r := &request{Request: *asked, Hops: hops}
	r.Retries = min(max(r.Retries, 0), mostRetries)
	value, err := json.Marshal(r)
	switch {
	case err != nil:
		err = fmt.Errorf("request %q: its data is not JSON: %w", abridged(r.ID), err)
	case len(value) > maxRequest:
		err = fmt.Errorf("request to %q has %d bytes, more than %d", abridged(r.URL), len(value), maxRequest)
	case k.requests[r.ID] != nil:
		err = fmt.Errorf("request %q is on its way already", abridged(r.ID))
	case len(k.requests) >= maxRequests:
		err = fmt.Errorf("request to %q is not made: %d are on their way", abridged(r.URL), len(k.requests))
	}
	if err != nil {
		j.failed(now, err.Error())
		l.engine.complain(j, now, RanFailed, err)
		if k.requests[r.ID] == nil { // else there is a reply to come
			l.refuse(j.unit, r, err.Error())
		}
		return
	}
	k.requests[r.ID] = r
	l.out.keep(recordRequest, j.unit.file, r.ID, value)
	l.out.urgent = l.out.on
	l.flights.next = append(l.flights.next, departure{j.unit.file, r})
}

// refusedRequest is one that was not made, whose rule waits for a reply all the same.
type refusedRequest struct {
	unit  *unit
	r     *request
	reply *Reply
}

// refuse has a rule told soon that a request is not made.
func (l *lane) refuse(u *unit, r *request, why string) {
	l.refused = append(l.refused, refusedRequest{u, r, &Reply{Err: abridged(why)}})
	signal(l.kick)
}

// tellRefused gives the rules whose requests were not made the reason.
func (l *lane) tellRefused(ctx context.Context, s *ruleSet) {
	refused := l.refused
	l.refused = nil
	for _, f := range refused {
		if ctx.Err() != nil {
			return
		}
		if s.holds(f.unit) {
			l.out.mark()
			l.answer(ctx, f.unit, f.r, f.reply)
		}
	}
}

// answer gives a program the reply to a request.
func (l *lane) answer(ctx context.Context, u *unit, r *request, reply *Reply) {
	call := Call{Trigger: OnReply, Timer: r.ID, Name: r.Name, Data: r.Data, Reply: reply, Now: l.engine.clock.Now()}
	l.runOwn(ctx, u, []Call{call}, []uint8{r.Hops})
}

func readRequest(value []byte) (*request, error) {
	r := &request{}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, err
	}
	return r, nil
}

// adoptRequests has those that the program does not handle stopped, and those that a
// former process has left made again.
func (l *lane) adoptRequests(u *unit, k *keeping) (standing []Standing) {
	for id, r := range k.requests {
		if !u.prog.Handles(r.Name) {
			if r.stop != nil {
				r.stop()
			}
			delete(k.requests, id)
			l.out.keep(recordRequest, u.file, id, nil)
			continue
		}
		if r.stop == nil {
			l.flights.next = append(l.flights.next, departure{u.file, r})
		}
		standing = append(standing, Standing{ID: id, Name: r.Name, Data: r.Data})
	}
	return standing
}

// launch makes the requests that were asked for, each in a goroutine of its own, which
// ends with ctx. What they ask for is kept by now, or there is no telling.
func (l *lane) launch(ctx context.Context) {
	for _, f := range l.flights.next {
		flight, stop := context.WithCancel(ctx)
		f.r.stop = stop
		l.flights.note(f.r, time.Time{})
		l.flights.group.Go(func() {
			defer stop()
			defer l.flights.down(f.r)
			reply := l.fly(flight, f.r)
			select {
			case l.replies <- flown{f.file, f.r, reply}:
			case <-flight.Done():
			}
		})
	}
	clear(l.flights.next)
	l.flights.next = l.flights.next[:0]
}

// fly makes a request, again if that may help.
func (l *lane) fly(ctx context.Context, r *request) *Reply {
	if l.engine.opts.Fetcher == nil {
		return &Reply{Err: "requests are not allowed here"}
	}
	pause := shortestPause
	for try := 0; ; try++ {
		reply, err := l.try(ctx, &r.Request)
		final := err == nil && reply.Status < 500 && reply.Status != 429 || errors.Is(err, ErrForbidden)
		if final || try >= r.Retries || ctx.Err() != nil {
			if err != nil {
				return &Reply{Err: abridged(err.Error())}
			}
			return reply
		}
		over := l.engine.clock.After(pause)
		l.flights.note(r, l.engine.clock.Now().Add(pause))
		select {
		case <-ctx.Done():
		case <-over:
		}
		l.flights.note(r, time.Time{})
		pause = min(2*pause, longestRetryPause)
	}
}

func (l *lane) try(ctx context.Context, r *Request) (reply *Reply, err error) {
	defer recovered(&err)
	select {
	case l.flights.slots <- struct{}{}:
		defer func() { <-l.flights.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = requestTime
	}
	bounded, cancel := context.WithTimeout(ctx, min(timeout, longestRequest))
	defer cancel()
	reply, err = l.engine.opts.Fetcher.Fetch(bounded, r)
	if err == nil && len(reply.Body) > maxReply {
		return nil, fmt.Errorf("the reply has more than %d bytes", maxReply)
	}
	return reply, err
}

// reply gives a reply to the version that is in force, if that handles it.
func (l *lane) reply(ctx context.Context, f flown) {
	s := l.engine.acquire()
	defer l.engine.release(s)
	l.catchUp(ctx, s)
	now := l.engine.clock.Now()
	k := l.keepingOf(f.file, now)
	if k.requests[f.r.ID] != f.r {
		return // a version that does not want it came in between
	}
	delete(k.requests, f.r.ID)
	l.out.mark()
	l.out.keep(recordRequest, f.file, f.r.ID, nil)
	l.out.urgent = l.out.on
	for _, u := range s.units {
		if u.lane == l.index && u.file == f.file {
			l.answer(ctx, u, f.r, f.reply)
			return
		}
	}
	l.commit(ctx)
}
