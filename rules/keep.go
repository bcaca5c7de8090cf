package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Record is one piece of what rules keep. Kind, File and Key together name it.
type Record struct {
	// Kind says what the record is: "state" is one key of a file's [State], "memory" of
	// what its program saves, "timer" and "request" one that stands, and "due" when a
	// rule is next due by one of its schedules.
	Kind string
	// File is the rule file that it belongs to.
	File string
	// Key names it within the file.
	Key string
	// Value is JSON; nil removes the record.
	Value []byte
}

// The kinds of records.
const (
	recordState   = "state"
	recordMemory  = "memory"
	recordTimer   = "timer"
	recordRequest = "request"
	recordDue     = "due"
)

// Keeper is where rules keep what must outlive the process. Its methods are called
// by several goroutines.
type Keeper interface {
	// Load returns what is kept. It is called once, by the first Load of the
	// engine.
	Load(ctx context.Context) ([]Record, error)
	// Commit keeps the records and publishes the messages as one change, of which nobody
	// hears before it is safe. A message that is refused costs only itself: the error
	// then joins a [message.RefusedError] for each. With any other error nothing is done.
	// A ctx that comes from that of a [message.Handler] has its batch acknowledged in the
	// same change.
	Commit(ctx context.Context, records []Record, msgs []message.Message) error
	// Keep keeps the records, after those of every earlier call, and does not wait until
	// they are safe: wait does.
	Keep(ctx context.Context, records []Record) (wait func(context.Context) error, err error)
}

// keeping is what is kept of one file, beside its State, by its lane.
type keeping struct {
	memory *State            // what its programs have saved
	due    map[string]string // of its schedules: the values of the records
	// parked are its named timers while no version is in force.
	parked   []*timer
	requests map[string]*request
}

// past is what a former process has kept of a file.
type past struct {
	memory   map[string][]byte
	due      map[string]string
	timers   map[string][]byte // the values of the records, by key
	requests map[string][]byte
}

// recall takes what the Keeper holds, once.
func (e *Engine) recall(ctx context.Context) error {
	if e.recalled {
		return nil
	}
	states, pasts := make(map[string]map[string][]byte), make(map[string]*past)
	if e.opts.Keeper != nil {
		records, err := e.opts.Keeper.Load(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			if r := &records[i]; r.Value != nil {
				sortOut(r, states, pasts)
			}
		}
	}
	for file, v := range states {
		e.stateOf(file).fill(v)
	}
	e.calendar = calendarOf(e.opts.Keeper)
	e.mu.Lock()
	e.pasts = pasts
	e.mu.Unlock()
	e.recalled = true
	return nil
}

func sortOut(r *Record, states map[string]map[string][]byte, pasts map[string]*past) {
	if r.Kind == recordState {
		put(states, r.File, r.Key, r.Value)
		return
	}
	p := pasts[r.File]
	if p == nil {
		p = &past{
			memory: make(map[string][]byte), due: make(map[string]string),
			timers: make(map[string][]byte), requests: make(map[string][]byte),
		}
		pasts[r.File] = p
	}
	switch r.Kind {
	case recordMemory:
		p.memory[r.Key] = r.Value
	case recordDue:
		p.due[r.Key] = string(r.Value)
	case recordTimer:
		p.timers[r.Key] = r.Value
	case recordRequest:
		p.requests[r.Key] = r.Value
	}
}

func put(all map[string]map[string][]byte, file, key string, value []byte) {
	if all[file] == nil {
		all[file] = make(map[string][]byte)
	}
	all[file][key] = value
}

// pastOf gives what a former process has kept of a file, once; nil if nothing.
func (e *Engine) pastOf(file string) *past {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pasts[file]
	delete(e.pasts, file)
	return p
}

// keptOf is what programs of a file have saved in a former process, until its lane takes
// that over.
func (e *Engine) keptOf(file string) map[string][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.pasts[file]; p != nil {
		return p.memory
	}
	return nil
}

// stateOf is the state of a file, kept from version to version and while the file
// is away.
func (e *Engine) stateOf(file string) *State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.states[file]
	if s == nil {
		s = NewState(nil)
		e.states[file] = s
	}
	return s
}

// keepingOf is what the lane keeps of a file.
func (l *lane) keepingOf(file string, now time.Time) *keeping {
	k := l.files[file]
	if k != nil {
		return k
	}
	k = &keeping{memory: newMemory(nil), due: make(map[string]string), requests: make(map[string]*request)}
	l.files[file] = k
	p := l.engine.pastOf(file)
	if p == nil {
		return k
	}
	k.memory, k.due = newMemory(p.memory), p.due
	for id, value := range p.timers {
		t, err := readTimer(id, value, now, l.engine.calendar)
		if err != nil {
			l.lost(recordTimer, file, id, err)
			continue
		}
		k.parked = append(k.parked, t)
	}
	sortTimers(k.parked)
	for id, value := range p.requests {
		r, err := readRequest(value)
		if err != nil {
			l.lost(recordRequest, file, id, err)
			continue
		}
		k.requests[id] = r
	}
	return k
}

// lost drops a record that cannot be read.
func (l *lane) lost(kind, file, key string, err error) {
	l.engine.log.Error("what was kept for a rule cannot be read and is dropped", "file", file, "kind", kind, "key", abridged(key), "error", err)
	l.out.keep(kind, file, key, nil)
}

// saveAsked keeps what outcomes have asked to be kept with them: once for all of a batch.
func (l *lane) saveAsked() {
	for _, u := range l.saves {
		l.save(u, l.keepingOf(u.file, l.engine.clock.Now()), true)
	}
	clear(l.saves)
	l.saves = l.saves[:0]
}

// save keeps what the program has to give: all, or what was asked for.
func (l *lane) save(u *unit, k *keeping, asked bool) {
	if u.torn {
		return
	}
	var refused error
	put := func(key string, value []byte) (err error) {
		if len(key) > maxMemoryKey {
			err = fmt.Errorf("a key of %d bytes is longer than %d", len(key), maxMemoryKey)
		} else {
			err = k.memory.Apply([]StateChange{{Key: key, Value: value}})
		}
		if refused = cmp.Or(refused, err); err == nil {
			l.out.keep(recordMemory, u.file, key, value)
		}
		return err
	}
	err := guarded(context.Background(), func(context.Context) error { return u.prog.Save(asked, put) })
	if refused = cmp.Or(err, refused); refused != nil {
		u.own.failed(l.engine.clock.Now(), refused.Error())
		l.engine.complain(u.own, l.engine.clock.Now(), RanFailed, fmt.Errorf("what it remembers is not kept: %w", refused))
	}
}

const maxMemoryKey = 1024

// Times of what is kept.
const (
	// saveEvery is how often programs are asked what they have to keep.
	saveEvery = 10 * time.Second
	// settleEvery is how long a change of state may wait that a message at QoS 0 made.
	settleEvery = time.Second
)

// outbox is what a lane has to keep. Of each record the latest value is kept.
type outbox struct {
	on      bool // there is a Keeper
	pending map[recordName][]byte
	urgent  bool // it is not to wait
	flushed time.Time
	wait    func(context.Context) error // for what was kept last
	sent    map[recordName][]byte       // what that was, but for what has been kept anew since
	undo    []undone                    // what was put since mark
}

type recordName struct{ kind, file, key string }

// undone is what was pending of a record before.
type undone struct {
	recordName
	value []byte
	had   bool
}

func (o *outbox) keep(kind, file, key string, value []byte) {
	if !o.on {
		return
	}
	if o.pending == nil {
		o.pending = make(map[recordName][]byte)
	}
	name := recordName{kind, file, key}
	old, had := o.pending[name]
	o.undo = append(o.undo, undone{name, old, had})
	o.pending[name] = value
}

// mark says that what is pending stays, whatever becomes of the run that comes.
func (o *outbox) mark() {
	clear(o.undo)
	o.undo = o.undo[:0]
}

// rollBack takes back what was put since mark.
func (o *outbox) rollBack() {
	for i := len(o.undo) - 1; i >= 0; i-- {
		if was := &o.undo[i]; was.had {
			o.pending[was.recordName] = was.value
		} else {
			delete(o.pending, was.recordName)
		}
	}
	o.mark()
}

// take empties the outbox.
func (o *outbox) take() []Record {
	records := make([]Record, 0, len(o.pending))
	for n, value := range o.pending {
		records = append(records, Record{Kind: n.kind, File: n.file, Key: n.key, Value: value})
		delete(o.sent, n)
	}
	clear(o.pending)
	o.urgent = false
	return records
}

// restore puts back what was not kept, unless there is something newer.
func (o *outbox) restore(records []Record) {
	for _, r := range records {
		name := recordName{r.Kind, r.File, r.Key}
		if _, newer := o.pending[name]; !newer {
			o.pending[name] = r.Value
		}
	}
}

// resend puts back what was kept last, since that did not come to be.
func (o *outbox) resend() {
	for name, value := range o.sent {
		if _, newer := o.pending[name]; !newer {
			o.pending[name] = value
		}
	}
	o.sent = nil
}

// due is when what waits is to be kept, or to be asked for.
func (o *outbox) due() (at time.Time, ok bool) {
	return o.flushed.Add(settleEvery), len(o.pending) > 0 || o.wait != nil
}

// settle keeps what waits without waiting for it, if it has waited long enough.
func (l *lane) settle(ctx context.Context, now time.Time) {
	if at, ok := l.out.due(); !ok || now.Before(at) && !l.out.urgent {
		return
	}
	if l.out.wait != nil && !l.wasKept(ctx, now) {
		return
	}
	if len(l.out.pending) == 0 {
		return
	}
	records := l.out.take()
	l.out.flushed = now
	wait, err := l.engine.opts.Keeper.Keep(ctx, records)
	if err != nil {
		l.out.restore(records)
		l.notKept(err)
		return
	}
	l.out.wait, l.out.sent = wait, make(map[recordName][]byte, len(records))
	for _, r := range records {
		l.out.sent[recordName{r.Kind, r.File, r.Key}] = r.Value
	}
}

// wasKept reports whether what was kept last is on disk, or never will be, in which case
// it waits again: a disk that hangs is not given more, and does not hold the rules up for
// long.
func (l *lane) wasKept(ctx context.Context, now time.Time) bool {
	const patience = 50 * time.Millisecond
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := l.out.wait(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		l.out.flushed = now
		l.notKept(err)
		return false
	}
	if err != nil {
		l.out.resend()
		l.notKept(err)
	}
	l.out.wait, l.out.sent = nil, nil
	return true
}

// notKept tells, once a period, that records are not kept.
func (l *lane) notKept(err error) {
	if now := l.engine.clock.Now(); l.complained.IsZero() || now.Sub(l.complained) >= l.engine.opts.LogPeriod {
		l.complained = now
		l.engine.log.Error("what rules keep is not on disk", "lane", l.name, "error", err)
	}
}

// commit is the one way of records and messages out of the lane. A Keeper that keeps
// nothing does not keep rules from publishing. It reports false if ctx has ended, which
// may have cut the run short: then nothing of it is done, and what is kept of it is made
// again in the next process.
func (l *lane) commit(ctx context.Context) bool {
	msgs, owners := l.messages()
	defer l.forgetMessages()
	l.saveAsked()
	if err := ctx.Err(); err != nil {
		l.out.rollBack()
		l.engine.failedCommit(owners, err)
		return false
	}
	defer l.out.mark()
	now := l.engine.clock.Now()
	if len(l.out.pending)+len(msgs) == 0 {
		l.out.urgent = false
		return true
	}
	if !l.out.urgent {
		l.engine.publish(ctx, msgs, owners)
		l.settle(ctx, now)
		return true
	}
	l.msgs, l.owners = nil, nil // a Keeper that gives up may still hold them
	lasting, end := outlast(ctx, commitPatience)
	defer end()
	records := l.out.take()
	err := l.engine.opts.Keeper.Commit(lasting, records, msgs)
	l.out.flushed = now
	refused, other := refusals(err)
	switch {
	case other != nil && ctx.Err() != nil: // what of it is not on disk is made again in the next process
		l.engine.failedCommit(owners, other)
		return false
	case other != nil:
		l.out.restore(records)
		l.notKept(other)
		l.engine.publish(ctx, msgs, owners)
	default:
		for i, j := range owners {
			if why := refused[i]; why != nil {
				l.engine.failedPublish(j, why)
			} else {
				j.count(func(c *Counters) { c.Published++ })
			}
		}
	}
	return true
}

// commitPatience is how long a commit that has begun may go on when all ends.
const commitPatience = 3 * time.Second

// outlast is a context that ends so long after ctx.
func outlast(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })
	return lasting, func() {
		stop()
		cancel()
	}
}

// refusals sorts an error of a Commit into those of single messages, by their index,
// and any other.
func refusals(err error) (refused map[int]error, other error) {
	if err == nil {
		return nil, nil
	}
	all := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	refused = make(map[int]error, len(all))
	for _, one := range all {
		var r *message.RefusedError
		if !errors.As(one, &r) {
			return nil, err
		}
		refused[r.Index] = r.Err
	}
	return refused, nil
}
