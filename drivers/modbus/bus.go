package modbus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// maxQueue is how many requests may wait for one bus; a device has one at most.
	// A further one is refused.
	maxQueue = 1024
	// writesInARow is after how many writes a read that waits has its turn.
	writesInARow = 8
	// firstRedial and lastRedial bound the pause between two attempts to connect.
	firstRedial = 250 * time.Millisecond
	lastRedial  = 5 * time.Second
)

// errQueueFull says that too much waits for a bus.
var errQueueFull = errors.New("too much waits for the line already")

// bus owns the wire to all units behind one address. Its jobs are done one at a time,
// each by the goroutine that has it: who finds the wire free takes it, the others are
// handed it in turn. A goroutine of its own would cost every request two switches.
type bus struct {
	name    string // "tcp 192.168.1.20:502"
	line    transport
	connect func(context.Context) (link, error)
	log     *slog.Logger
	lengths lengths
	rtu     bool
	wire    wire

	mu      sync.Mutex // guards what follows
	refs    int
	taken   bool // somebody has the wire
	inARow  int  // writes
	writes  []*job
	reads   []*job
	units   [256]health
	oddness time.Time // when something came that was not asked for
	load    load
	ended   [256]time.Time     // when the last exchange with a unit did
	delays  [256]time.Duration // the pauses between two exchanges that units ask for
	acks    acks

	// Of who has the wire alone.
	link     link
	redial   time.Duration
	redialAt time.Time
	refusal  error // of the last attempt to connect
}

// job is a request that waits for the bus.
type job struct {
	ctx    context.Context
	req    request
	timing timing
	// steps, if there are any, are done in place of req, without another job in between;
	// req is the first of them.
	steps func(ask func(request) (reply, error)) error
	turn  chan struct{} // closed when the job has the wire; nil if it never waited
	say   []byte        // is sent as it is, if there is any, in place of req
	early bool          // it was let through before the back-off of its unit had ended
	reply reply
	err   error
}

func newBus(name string, log *slog.Logger, connect func(context.Context) (link, error)) *bus {
	return &bus{
		name: name, connect: connect, log: log,
		lengths: lengths{used: map[slot]*use{}}, acks: acks{},
	}
}

// acquire is for one who begins to use the bus.
func (b *bus) acquire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refs++
}

// release is for one who ends; behind the last one the link is closed.
func (b *bus) release() {
	b.mu.Lock()
	if b.refs > 1 {
		b.refs--
		b.mu.Unlock()
		return
	}
	last := &job{ctx: context.Background()}
	b.join(last, true)
	b.mu.Unlock()
	if last.turn != nil {
		<-last.turn
	}
	defer b.pass()
	b.mu.Lock()
	b.refs-- // now, so that nobody changed the line of a link that is open
	idle := b.refs == 0
	b.mu.Unlock()
	if idle {
		b.unlink()
	}
}

// join takes the wire for a job, or a place in the queue; mu is held.
func (b *bus) join(j *job, ahead bool) {
	switch {
	case !b.taken:
		b.taken, b.inARow = true, 0
	case ahead:
		j.turn = make(chan struct{})
		b.writes = append(b.writes, j)
	default:
		j.turn = make(chan struct{})
		b.reads = append(b.reads, j)
	}
}

// pass hands the wire to the next job: writes first, but not for ever.
func (b *bus) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := &b.writes
	if len(*queue) == 0 || (b.inARow >= writesInARow && len(b.reads) > 0) {
		queue, b.inARow = &b.reads, 0
	} else {
		b.inARow++
	}
	if len(*queue) == 0 {
		b.taken = false
		return
	}
	j := (*queue)[0]
	*queue = append((*queue)[:0], (*queue)[1:]...)
	close(j.turn)
}

// do queues a request and waits for its end. One that has begun ends soon after ctx.
func (b *bus) do(ctx context.Context, r request, t timing) (reply, error) {
	return b.queue(&job{ctx: ctx, req: r, timing: t})
}

// inOneTurn does several requests to a unit, of which first is the first, without a
// request of somebody else in between.
func (b *bus) inOneTurn(ctx context.Context, first request, t timing, steps func(ask func(request) (reply, error)) error) error {
	_, err := b.queue(&job{ctx: ctx, req: first, timing: t, steps: steps})
	return err
}

// queue does a job in its turn.
func (b *bus) queue(j *job) (reply, error) {
	ctx, r := j.ctx, j.req
	if err := b.rest(ctx, r.unit); err != nil {
		return reply{}, err
	}
	b.mu.Lock()
	if len(b.reads)+len(b.writes) >= maxQueue {
		b.mu.Unlock()
		return reply{}, fmt.Errorf("%s: %w: %d requests", b.name, errQueueFull, maxQueue)
	}
	b.join(j, !r.fn.reads() || j.steps != nil)
	b.mu.Unlock()
	if j.turn != nil {
		select {
		case <-j.turn:
		case <-ctx.Done():
			if b.withdraw(j) {
				return reply{}, ctx.Err()
			}
			<-j.turn
		}
	}
	defer b.pass()
	b.serve(j)
	return j.reply, j.err
}

// setDelay sets the pause between two exchanges that a unit asks for.
func (b *bus) setDelay(unit uint8, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delays[unit] = d
}

// rest waits until a unit may be asked again; others are asked meanwhile.
func (b *bus) rest(ctx context.Context, unit uint8) error {
	b.mu.Lock()
	d := b.delays[unit]
	if d > 0 {
		d -= time.Since(b.ended[unit])
	}
	b.mu.Unlock()
	if d <= 0 {
		return nil
	}
	return pause(ctx, d)
}

// withdraw takes a job out of the queue, if it has not begun.
func (b *bus) withdraw(j *job) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, queue := range []*[]*job{&b.reads, &b.writes} {
		for i, other := range *queue {
			if other == j {
				*queue = append((*queue)[:i], (*queue)[i+1:]...)
				return true
			}
		}
	}
	return false
}

// serve does one job. A panic, of a port's driver for instance, is the end of the
// link only.
func (b *bus) serve(j *job) {
	defer b.busy(time.Now())
	defer func() {
		if p := recover(); p != nil {
			b.log.Error("modbus bus panicked", "bus", b.name, "panic", p, "stack", string(debug.Stack()))
			b.unlink()
			j.err = errLost("the bus broke", fmt.Errorf("panic: %v", p))
		}
	}()
	if j.say != nil {
		j.err = b.say(j)
		return
	}
	if j.steps == nil {
		j.reply, j.err = b.perform(j)
		return
	}
	step := *j
	j.err = j.steps(func(r request) (reply, error) {
		step.req = r
		got, err := b.perform(&step)
		step.timing.calm = false // only before the first: who has written must read back
		return got, err
	})
}

// perform does one job: on a connection that the device closed meanwhile it begins
// again, once, if that cannot do anything twice.
func (b *bus) perform(j *job) (reply, error) {
	if err := j.ctx.Err(); err != nil {
		return reply{}, err
	}
	if err := b.mayAsk(j); err != nil {
		return reply{}, err
	}
	c := b.condition(j.req.unit, j.timing.timeout)
	stale, doubtful := b.doubtful(j, c)
	if j.timing.calm && c.calm.After(stale) {
		stale = c.calm
	}
	if time.Now().Before(stale) {
		return reply{}, wary{stale}
	}
	if doubtful && c.troubled { // what came first may be an echo
		j.timing.confirm = max(j.timing.confirm, min(c.confirm, j.timing.timeout))
	}
	for again := false; ; again = true {
		if err := b.relink(j.ctx); err != nil {
			return reply{}, err
		}
		began, out, in := time.Now(), b.wire.out, b.wire.in
		got, err := b.link.exchange(j.ctx, j.req, j.timing)
		b.wire.flush()
		j.timing.counters.exchange(got, err, time.Since(began), b.wire.out-out, b.wire.in-in)
		got.data = append([]byte(nil), got.data...)
		b.learn(j, got, err)
		b.end(j.req.unit)
		if errors.Is(err, drivers.ErrLost) {
			b.unlink()
		}
		retry := errors.Is(err, errIdleClosed) || (errors.Is(err, errNoReply) && j.req.fn.reads())
		if retry && !again {
			j.timing.counters.retry()
			continue
		}
		if err != nil && j.req.fn.writes() && !isUndone(err) && !errors.Is(err, errIdleClosed) {
			err = fmt.Errorf("%w: %w", drivers.ErrUncertain, err) // it was sent
		}
		return got, err
	}
}

// end notes when a unit was asked last.
func (b *bus) end(unit uint8) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.delays[unit] > 0 {
		b.ended[unit] = time.Now()
	}
}

// relink connects if need be.
func (b *bus) relink(ctx context.Context) error {
	if b.link != nil {
		return nil
	}
	if time.Now().Before(b.redialAt) {
		return fmt.Errorf("%w: %w", drivers.ErrLost, b.refusal) // the same words: a status that is retained says them
	}
	l, err := b.connect(ctx)
	if err == nil {
		b.link, b.redial, b.redialAt = l, 0, time.Time{}
		return nil
	}
	if ctx.Err() == nil {
		b.redial = min(max(2*b.redial, firstRedial), lastRedial)
		if b.transport().kind == kindSerial && errors.Is(err, fs.ErrNotExist) { // to look for a port costs nothing
			b.redial = 0
		}
		b.redialAt, b.refusal = time.Now().Add(b.redial), err
	}
	return fmt.Errorf("%w: %w", drivers.ErrLost, err)
}

func (b *bus) unlink() {
	if b.link == nil {
		return
	}
	if err := b.link.close(); err != nil {
		b.log.Debug("modbus link closed badly", "bus", b.name, "err", err)
	}
	b.link = nil
}
