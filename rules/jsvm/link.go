package jsvm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of the queue before the worker. An After call is one of at most one Run at
// a time for each script, so that its bound is met only by a mistake.
const (
	batchItems = 32      // in a frame
	batchBytes = 1 << 20 // in a frame, about; one item may be larger
	window     = 64      // items sent and not answered
	maxItem    = maxPayload + 256<<10
	maxBefore  = 4096  // filter calls that wait; beyond it they fail at once
	maxAfter   = 65536 // the same for all others
)

var (
	errQueueFull = errors.New("too many calls wait for the script worker")
	errTooLarge  = fmt.Errorf("the message is over the %d bytes that a script can take", maxPayload)
)

// link is the way to the worker: it keeps what waits and what is on its way, starts
// the worker when there is something to do, and starts another when it dies.
type link struct {
	options Options
	now     func() time.Time
	wake    chan struct{} // something to send
	busy    chan struct{} // something was sent
	stop    chan struct{}
	stopped sync.Once
	done    chan struct{} // run returned
	asking  atomic.Bool   // the worker waits for a function of a plugin

	mu         sync.Mutex
	closed     bool
	programs   map[uint32]*program
	versions   map[*rules.State][]*program // of one file, which share its state
	retry      []*item                     // was on its way to a worker that died; goes first
	before     []*item
	after      []*item
	inflight   []*item // in the order of seq, which is that of the answers
	unload     []uint32
	seq        uint64
	generation uint64 // of the worker; counts from 1
	answers    int    // of this worker
}

func newLink(o Options) *link {
	return &link{
		options: o, now: time.Now,
		wake: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
		programs: make(map[uint32]*program),
		versions: make(map[*rules.State][]*program),
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close ends the worker and waits for run.
func (l *link) close() {
	l.stopped.Do(func() { close(l.stop) })
	<-l.done
}

// submit queues items, all or none.
func (l *link) submit(items []*item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if len(items) == 0 {
		return nil
	}
	if len(l.before)+len(items) > maxBefore && items[0].before || len(l.after)+len(items) > maxAfter {
		return errQueueFull
	}
	for _, it := range items {
		if it.before {
			l.before = append(l.before, it)
		} else {
			l.after = append(l.after, it)
		}
		l.know(it.prog)
	}
	signal(l.wake)
	return nil
}

func (l *link) know(p *program) {
	if l.programs[p.id] == nil {
		l.programs[p.id] = p
		l.versions[p.src.State] = append(l.versions[p.src.State], p)
	}
}

// forget lets the worker drop a program.
func (l *link) forget(p *program) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.programs, p.id)
	rest := slices.DeleteFunc(l.versions[p.src.State], func(q *program) bool { return q == p })
	if len(rest) == 0 {
		delete(l.versions, p.src.State)
	} else {
		l.versions[p.src.State] = rest
	}
	if p.generation == l.generation && p.generation != 0 {
		l.unload = append(l.unload, p.id)
		signal(l.wake)
	}
}

// begun notes that a program is in force.
func (l *link) begun(p *program) {
	l.mu.Lock()
	p.started = true
	l.mu.Unlock()
}

func (l *link) markStale(p *program) {
	l.mu.Lock()
	p.stale = true
	l.mu.Unlock()
}

// refusal is an item that is not sent, and why.
type refusal struct {
	it  *item
	err error
}

// take moves what goes into the next frame from the queues to inflight.
func (l *link) take() (batch []*item, refused []refusal, unload []uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unload, l.unload = l.unload, nil
	for size := 0; len(batch) < batchItems && len(l.inflight) < window; {
		queue := l.next()
		if queue == nil {
			break
		}
		it := (*queue)[0]
		weight := l.weight(it)
		if it.status.Load() == pending && size > 0 && size+weight > batchBytes {
			break
		}
		if l.needsQuiet(it) {
			break
		}
		*queue = (*queue)[1:]
		switch {
		case it.status.Load() != pending: // abandoned before it was sent
		case it.prog.quarantine.holds(l.now()):
			refused = append(refused, refusal{it, it.prog.quarantine.reason})
		case it.size > maxItem:
			refused = append(refused, refusal{it, errTooLarge})
		default:
			size += weight
			batch = append(batch, l.send(it)...)
		}
	}
	return batch, refused, unload
}

// next is the queue whose turn it is, nil when all are empty.
func (l *link) next() *[]*item {
	for _, q := range []*[]*item{&l.retry, &l.before, &l.after} {
		if len(*q) > 0 {
			return q
		}
		*q = nil // so that the array behind it does not grow for ever
	}
	return nil
}

// weight is about what an item takes in a frame, together with what send puts before
// it; a state counts as if it were full.
func (l *link) weight(it *item) int {
	p := it.prog
	switch {
	case it.call == nil:
		return it.size + rules.MaxStateBytes + p.kept.size()
	case p.generation != l.generation:
		return it.size + p.size + rules.MaxStateBytes + p.kept.size()
	case p.stale:
		return it.size + rules.MaxStateBytes + p.kept.size()
	default:
		return it.size
	}
}

// needsQuiet holds a call back whose program's state has to be sent again, or will
// have to be once a call of another version of the file, or one from before the
// program's last load, is answered: it could change the state.
func (l *link) needsQuiet(it *item) bool {
	p := it.prog
	if it.call == nil || len(l.inflight) == 0 {
		return false
	}
	if p.stale && p.generation == l.generation {
		return true
	}
	if len(l.versions[p.src.State]) < 2 && p.loaded <= l.inflight[0].seq {
		return false
	}
	return slices.ContainsFunc(l.inflight, func(other *item) bool {
		return other.call != nil && other.prog.src.State == p.src.State && (other.prog != p || other.seq < p.loaded)
	})
}

// stateChanged is told that the state of p changed by what the worker was asked for
// as seq. The worker's copies that lack the change are sent again before they are
// used: those of other versions of the file, and that of p itself if it was loaded
// in the meantime.
func (l *link) stateChanged(p *program, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.versions[p.src.State] {
		q.stale = q.stale || q != p || seq < q.loaded
	}
}

// send puts an item in flight, and before it what the worker must know first.
func (l *link) send(it *item) []*item {
	p := it.prog
	it.resync = false
	out := make([]*item, 0, 2)
	switch {
	case it.call == nil:
		p.generation, p.stale = l.generation, false
	case p.generation != l.generation:
		p.generation, p.stale = l.generation, false
		reload := &item{prog: p, reload: true, now: it.call.Now}
		l.fly(reload)
		out = append(out, reload)
	case p.stale:
		p.stale, it.resync = false, true
	}
	if it.call != nil && len(p.uses) > 0 {
		out = l.sendPeers(it, out)
	}
	l.fly(it)
	return append(out, it)
}

// sendPeers puts what a call reads of others in flight before it.
func (l *link) sendPeers(it *item, out []*item) []*item {
	it.peers = l.peers(it.prog)
	for _, id := range it.peers {
		q := l.programs[id]
		if q == nil || q.generation == l.generation {
			continue
		}
		q.generation, q.stale = l.generation, false
		reload := &item{prog: q, reload: true, now: it.call.Now}
		l.fly(reload)
		out = append(out, reload)
	}
	return out
}

func (l *link) fly(it *item) {
	l.seq++
	it.seq = l.seq
	if it.call == nil {
		it.prog.loaded = l.seq
	}
	l.inflight = append(l.inflight, it)
}

// approach is the first item in flight, which an answer with seq is for.
func (l *link) approach(seq uint64, load bool) (*item, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.inflight) == 0 || l.inflight[0].seq != seq || (l.inflight[0].call == nil) != load {
		return nil, fmt.Errorf("%w: an answer that was not asked for", errMalformed)
	}
	return l.inflight[0], nil
}

// land takes the first item from inflight, now that its answer has had its effects:
// until then no state may be sent.
func (l *link) land() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inflight = l.inflight[1:]
	l.answers++
	if len(l.inflight) == 0 {
		l.inflight = nil
	}
}

// writeRequests sends batches until the worker is dead.
func (l *link) writeRequests(p *process, dead <-chan struct{}) {
	var frame []byte
	for {
		batch, refused, unload := l.take()
		for _, r := range refused {
			r.it.fail(r.err)
		}
		if len(batch)+len(unload) == 0 {
			select {
			case <-dead:
				return
			case <-l.wake:
			}
			continue
		}
		frame = beginFrame(frame)
		for _, id := range unload {
			frame = appendRecord(frame, &unloadRecord{Script: id})
		}
		for _, it := range batch {
			frame = it.append(frame)
		}
		signal(l.busy)
		if err := finishFrame(frame); err != nil {
			l.options.Log.Error("request to the script worker is too long", "error", err)
			p.kill(false)
			return
		}
		if _, err := p.requests.Write(frame); err != nil {
			p.kill(false) // whoever reads its answers goes on from here
			return
		}
		if cap(frame) > batchBytes {
			frame = nil
		}
	}
}

// readAnswers settles items until the worker's end of the pipe is closed.
func (l *link) readAnswers(ctx context.Context, p *process, asks *asks) (hoard *hoardRecord, err error) {
	defer func() {
		if r := recover(); r != nil {
			l.options.Log.Error("cannot take an answer of the script worker", "panic", r, "stack", string(debug.Stack()))
			err = errMalformed
		}
	}()
	in := bufio.NewReaderSize(p.answers, 64<<10)
	for {
		body, err := readFrame(in)
		if err != nil {
			return hoard, err
		}
		for len(body) > 0 {
			rec, rest, err := decodeRecord(body)
			if err != nil {
				return hoard, err
			}
			body = rest
			if h, ok := rec.(*hoardRecord); ok {
				hoard = h
				continue
			}
			if q, ok := rec.(*askRecord); ok {
				err = asks.serve(ctx, q)
			} else {
				err = l.settle(rec)
			}
			if err != nil {
				return hoard, err
			}
		}
		signal(l.wake) // there is room for more
	}
}

func (l *link) settle(rec record) error {
	switch rec := rec.(type) {
	case *loadedRecord:
		it, err := l.approach(rec.Seq, true)
		if err != nil {
			return err
		}
		l.settleLoad(it, rec)
		l.land()
	case *resultRecord:
		it, err := l.approach(rec.Seq, false)
		if err != nil {
			return err
		}
		l.settleCall(it, rec)
		l.land()
	default:
		return fmt.Errorf("%w: a %T from the worker", errMalformed, rec)
	}
	return nil
}

func (l *link) settleLoad(it *item, rec *loadedRecord) {
	var err error
	if f := rec.Result.Fault; f != nil {
		err = it.prog.faultError(f, 0)
	}
	if it.reload {
		if err != nil {
			l.reloadFailed(it.prog, err)
		}
		return
	}
	if !it.settle() {
		return
	}
	it.loaded, it.err = rec, err
	it.tell()
}

func (l *link) settleCall(it *item, rec *resultRecord) {
	p := it.prog
	if rec.Lost != notLost {
		l.runtimeLost(it, rec.Lost)
		if rec.Lost == lostBefore {
			return
		}
	}
	if !it.settle() {
		if len(rec.Result.State)+len(rec.Result.Adds)+len(rec.Result.Paced) > 0 || p.watched(it.call) != nil {
			l.markStale(p)
		}
		return
	}
	out := p.outcome(it.call, &rec.Result)
	err := p.applyState(&out)
	if err != nil {
		out = p.failed(it.call, err)
	}
	it.outcome = out
	if len(out.State) > 0 {
		l.stateChanged(p, it.seq)
	}
	noted := out.Err == nil && p.kept.note(&rec.Result, p.watched(it.call), it.call.Promised)
	l.mu.Lock()
	p.stale = p.stale || err != nil || noted && it.seq < p.loaded
	p.trackTimers(it.call, &out)
	l.mu.Unlock()
	it.tell()
}

// runtimeLost has the script loaded again before its next call, unless it was since the
// item was sent. A call that was not made waits for that.
func (l *link) runtimeLost(it *item, when byte) {
	p := it.prog
	forgot := false
	l.mu.Lock()
	if p.generation == l.generation && it.seq > p.loaded {
		p.generation = 0
		forgot = p.forgetTimers()
	}
	if when == lostBefore {
		l.retry = append(l.retry, it)
	}
	l.mu.Unlock()
	if forgot {
		p.tellForgotten()
	}
}

// idle reports whether nothing is on its way.
func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inflight) == 0
}

// isLoad reports whether the item in flight with seq is a load.
func (l *link) isLoad(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.inflight, func(it *item) bool { return it.seq == seq && it.call == nil })
}
