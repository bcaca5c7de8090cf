package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Port is an open serial port.
type Port interface {
	// Read waits for the read time-out at most; nothing then is (0, nil). Close
	// unblocks it.
	io.ReadWriteCloser
	// SetReadTimeout is for the next calls of Read; 0 is that they give what is there.
	SetReadTimeout(time.Duration) error
	// ResetInput forgets what came and was not read.
	ResetInput() error
}

// sleeper is a Port that can wait better than a timer does, without being woken by what
// comes; the goroutine that reads calls it.
type sleeper interface {
	Sleep(ctx context.Context, d time.Duration) error
}

// SerialConfig says how to open a serial port.
type SerialConfig struct {
	Port     string // "/dev/ttyUSB0"
	Baud     int
	Parity   string // "none", "even" or "odd"
	DataBits int    // 8; 7 or 8 in ASCII mode
	StopBits int    // 1 or 2
	Mode     string // transmission mode: "rtu" (also if empty) or "ascii"
	drivers.Wiring
}

// The transmission modes (Modbus over Serial Line V1.02 §2.5).
const (
	modeRTU   = "rtu"
	modeASCII = "ascii"
)

// char is how long one character takes on the line.
func (c SerialConfig) char() time.Duration {
	n := 1 + c.DataBits + c.StopBits
	if c.Parity != "none" {
		n++
	}
	return time.Duration(n) * time.Second / time.Duration(c.Baud)
}

// silence is the pause between two frames (Modbus over Serial Line V1.02 §2.5.1.1).
func (c SerialConfig) silence() time.Duration {
	if c.Baud > 19200 {
		return 1750 * time.Microsecond
	}
	return c.char() * 7 / 2
}

const (
	// waryTimeouts is for how many time-outs an anomaly makes a line wary.
	waryTimeouts = 3
	// huntSilence is how long nothing may follow an answer that noise came before:
	// more than the pauses that USB adapters put into a frame, or a network into a
	// stream.
	huntSilence       = 20 * time.Millisecond
	huntSilenceStream = 200 * time.Millisecond
	// streamChar is how long a character takes on the line behind a stream, at most, but
	// for slow ones: many device servers pass a frame on when it has ended.
	streamChar = 1200 * time.Microsecond
	// turnaround is how long units may take to do what is broadcast (Modbus over
	// Serial Line V1.02 §2.4.1).
	turnaround = 150 * time.Millisecond
	// readSlice is how long one Read may take, so that a context's end is noticed.
	readSlice = 100 * time.Millisecond
	// longAnswer is how long an answer takes at least that is slept out from the end of the
	// request on, its first byte waking nobody, and then but for the last part of what is
	// missing; shortSleep is what is not worth a sleep: the next byte is waited for.
	longAnswer = 5 * time.Millisecond
	shortSleep = 250 * time.Microsecond
	// refusalLen is the length of an exception's PDU.
	refusalLen = 2
	// maxHeard is how much is kept of what came on the line in one exchange.
	maxHeard = 2048
)

// errSilent says that nothing came; errGarbled that what came was no valid answer;
// errMisfit, which is one, that the unit gave a whole answer that is none to what it was
// asked: over TCP any to this very request, by its transaction; on a line one with less
// than was asked, which may be late.
var (
	errSilent  = errors.New("no answer")
	errGarbled = errors.New("no valid answer")
	errMisfit  = fmt.Errorf("%w", errGarbled)
)

// errLost wraps the cause of a link's end.
func errLost(doing string, cause error) error {
	return fmt.Errorf("%w: %s: %w", drivers.ErrLost, doing, cause)
}

// deadLink is that nothing has come for so long that the connection must be dead: an
// errSilent and a drivers.ErrLost in the words of any other silence, so that the reason of
// a device that accepts and never answers stays the same.
type deadLink struct{ timeout time.Duration }

// Error implements error.
func (d deadLink) Error() string { return fmt.Sprintf("%v within %v", errSilent, d.timeout) }

// Unwrap gives what it is.
func (deadLink) Unwrap() []error { return []error{drivers.ErrLost, errSilent} }

// reply is what a link gives back.
type reply struct {
	data    []byte        // of a read; it belongs to the link until the next exchange
	at      time.Time     // of a read: when its last byte came; a line may have been listened to since
	latency time.Duration // from the end of the request to the first byte of the answer
	odd     bool          // something came that was not asked for; set beside an error, too
	noise
}

// noise is how much of what came was no answer; it is counted beside an error, too.
type noise struct {
	strays uint64 // frames that were not asked for
	broken uint64 // pieces whose checksum is wrong, or that are no frame
}

// timing is how long to wait for one exchange.
type timing struct {
	timeout time.Duration // from the end of transmission to the answer
	confirm time.Duration // listen so long after the answer: nothing may follow
	// configured is the time-out of the device file, if timeout is one that was learnt.
	configured time.Duration
	calm       bool // not while a stale answer may be under way: wary
	insist     bool // though the unit counts as dead, as often as that may be
	early      bool // though it does, once: that counts for nothing if it is in vain
	counters   *counters
}

// link is an open connection to one or more units. One goroutine at a time uses it: who has the bus.
type link interface {
	// exchange sends a request and waits for its answer. The error is an Exception,
	// or wraps errSilent, errGarbled, a context's error, or drivers.ErrLost, after
	// which the link can only be closed.
	exchange(ctx context.Context, r request, t timing) (reply, error)
	// say sends bytes as they are, and listens until the time-out or until something
	// came, which is nobody's answer. Errors are those of exchange.
	say(ctx context.Context, b []byte, timeout time.Duration) error
	close() error
}

// lineLink is a line on which frames carry nothing that tells which request they
// belong to: RTU or ASCII, on a serial port or through a TCP stream. It is a plain
// state machine but for the port's waiting.
type lineLink struct {
	port    watchedPort
	mode    mode
	char    time.Duration // 0 for a stream, which tells nothing of the line behind it
	lead    time.Duration // from a Write to its first character on the line
	silence time.Duration
	hunt    time.Duration // see huntSilence
	stream  bool          // it may be dead without a word
	learns  bool          // finds out by itself whether the line echoes

	waryUntil time.Time      // whatever is asked
	lateUntil [256]time.Time // by unit: its answer to a request that got none may still come
	anyLate   time.Time      // the latest of those
	busyUntil time.Time      // when the last character that is known of ended; zero at first
	echoes    bool           // the line repeats what is sent
	silent    int            // requests in a row that got not a byte
	noise     noise          // in this exchange
	refuses   [256]bool      // by unit: its last answer was an exception
	timeout   time.Duration  // as the port has it
	heard     []byte         // since the request was sent
	frame     []byte         // the request
}

func newLineLink(p watchedPort, t transport) *lineLink {
	l := &lineLink{
		port: p, mode: rtuMode{}, char: t.serial.char(), lead: t.serial.RS485.DelayBefore, silence: t.gap(), hunt: huntSilence,
		learns: t.echo == echoLearnt, echoes: t.echo == echoYes, timeout: -1, heard: make([]byte, 0, maxHeard),
	}
	if t.ascii() {
		l.mode = asciiMode{}
	}
	if t.kind != kindSerial {
		l.char, l.hunt, l.stream = 0, huntSilenceStream, true
	}
	return l
}

func (l *lineLink) close() error { return l.port.Close() }

// exchange implements link.
func (l *lineLink) exchange(ctx context.Context, r request, t timing) (reply, error) {
	l.noise = noise{}
	got, err := l.converse(ctx, r, t)
	got.noise = l.noise
	return got, err
}

func (l *lineLink) converse(ctx context.Context, r request, t timing) (reply, error) {
	odd, err := l.settle(ctx, r, t)
	if err != nil {
		return reply{odd: odd}, err
	}
	sent, err := l.send(r)
	if err != nil {
		return reply{odd: odd}, err
	}
	if r.unit == broadcast {
		return reply{odd: odd}, pause(ctx, turnaround+time.Until(sent))
	}
	f, first, err := l.receive(ctx, r, sent, t)
	l.noise.strays += f.strays
	if l.noise.broken += f.broken; f.used < len(l.heard) {
		l.noise.broken++
	}
	latency, at := l.latency(sent, first, f), l.busyUntil
	if err == nil && t.confirm > 0 {
		err = l.confirm(ctx, &f, t.confirm)
	}
	switch {
	case errors.Is(err, errSilent):
		l.expect(r.unit, t.latest())
	case err != nil || f.odd:
		l.alarm(t.latest())
	}
	odd = odd || f.odd || errors.Is(err, errGarbled)
	if err != nil {
		return reply{odd: odd}, err
	}
	if l.learns && !r.repeats() && (f.echo || !f.odd) { // an echo may have been spoiled
		l.echoes = f.echo
	}
	if l.refuses[r.unit] = f.verdict == refused; l.refuses[r.unit] {
		return reply{odd: odd}, Exception{Function: r.fn, Code: f.code}
	}
	return reply{data: f.data, at: at, latency: latency, odd: odd}, nil
}

// send writes the request and says when its last character is on the line.
func (l *lineLink) send(r request) (sent time.Time, err error) {
	var pdu [maxPDU + 1]byte
	l.frame = l.mode.append(l.frame[:0], r.unit, r.appendPDU(pdu[:0]))
	start := time.Now()
	n, err := l.port.Write(l.frame)
	if err == nil && n != len(l.frame) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return start, errLost("cannot write to the port", err)
	}
	// The port may take the request faster than the line does.
	sent = start.Add(l.lead + time.Duration(len(l.frame))*l.char)
	if now := time.Now(); now.After(sent) {
		sent = now
	}
	l.busyUntil = sent
	return sent, nil
}

// wary reports whether what comes late may disturb a request. Where nothing at all has
// come, only the unit that was asked may still answer, and its answer is no other unit's:
// listening longer before each read of the others would save them little, and cost much
// beside a unit that is dead. A write is not tried again, and a raw answer ends anywhere.
func (l *lineLink) wary(now time.Time, r request) bool {
	late := l.anyLate
	if r.fn.reads() && !r.raw {
		late = l.lateUntil[r.unit]
	}
	return now.Before(l.waryUntil) || now.Before(late)
}

// expect makes the line wary of what a unit still answers.
func (l *lineLink) expect(unit uint8, timeout time.Duration) {
	until := time.Now().Add(waryTimeouts * timeout)
	l.lateUntil[unit], l.anyLate = later(l.lateUntil[unit], until), later(l.anyLate, until)
}

// alarm makes the line wary.
func (l *lineLink) alarm(timeout time.Duration) {
	l.waryUntil = later(l.waryUntil, time.Now().Add(waryTimeouts*timeout))
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// settle waits until the line is silent, and forgets what comes until then. Odd says
// that something came. What has passed since the last character counts: who comes
// later than the silence takes does not wait.
func (l *lineLink) settle(ctx context.Context, r request, t timing) (odd bool, err error) {
	start := time.Now()
	quiet := max(0, l.silence-start.Sub(l.busyUntil))
	if l.busyUntil.IsZero() {
		quiet = l.silence
	}
	if l.wary(start, r) {
		quiet = max(2*l.silence, l.hunt)
	}
	for {
		n, err := l.read(l.heard[:cap(l.heard)], quiet)
		if err != nil {
			if l.stream { // nothing was sent
				err = fmt.Errorf("%w: %w", errIdleClosed, err)
			}
			return odd, errLost("cannot read from the port", err)
		}
		if n == 0 {
			break
		}
		l.alarm(t.latest())
		if !odd {
			l.noise.strays++
		}
		odd, quiet = true, max(2*l.silence, l.hunt)
		if err := ctx.Err(); err != nil {
			return odd, err
		}
		if time.Since(start) > t.timeout {
			return odd, fmt.Errorf("%w: the line is never silent", errGarbled)
		}
	}
	if err := l.port.ResetInput(); err != nil {
		return odd, errLost("cannot purge the port", err)
	}
	return odd, ctx.Err()
}

// receive waits for the answer. First is when its first byte came, or that of noise
// before it.
func (l *lineLink) receive(ctx context.Context, r request, sent time.Time, t timing) (f find, first time.Time, err error) {
	l.heard = l.heard[:0]
	// An answer that has begun in time may end.
	chars, char := l.mode.chars(r.mostLen()), l.char
	if l.stream {
		chars, char = chars+len(l.frame), streamChar
	}
	deadline := sent.Add(t.timeout + time.Duration(chars)*char)
	if err := l.await(ctx, r, sent); err != nil {
		return f, first, err
	}
	for {
		now := time.Now()
		if ctx.Err() != nil {
			return f, first, ctx.Err()
		}
		wait := min(readSlice, max(0, deadline.Sub(now)))
		if f.hunted {
			wait = max(2*l.silence, l.hunt)
		}
		if len(l.heard) >= maxHeard {
			return f, first, fmt.Errorf("%w: the line is full of noise", errGarbled)
		}
		known := f.used == len(l.heard) // what has come so far is not the answer
		n, err := l.read(l.heard[len(l.heard):cap(l.heard)], wait)
		if err != nil {
			return f, first, errLost("cannot read from the port", err)
		}
		switch {
		case n == 0 && f.hunted:
			return f, first, nil
		case n == 0 && wait == 0: // who was kept from looking until now has looked, too
			return f, first, l.failure(r, t.latest())
		case n == 0:
			continue
		}
		if known {
			first = time.Now()
		}
		l.heard, l.silent = l.heard[:len(l.heard)+n], 0
		if f = l.mode.scan(r, l.frame, l.heard, l.echoes); f.verdict != foreign && !f.hunted {
			f.odd = f.odd || f.used < len(l.heard)
			return f, first, nil
		}
		if err := l.sleepOut(ctx, r, f, deadline); err != nil {
			return f, first, err
		}
	}
}

func (l *lineLink) failure(r request, timeout time.Duration) error {
	if len(l.heard) == 0 {
		if l.silent++; l.stream && l.silent >= maxSilence {
			return deadLink{timeout}
		}
		return fmt.Errorf("%w within %v", errSilent, timeout)
	}
	if answer, ok := misfit(r, bytes.TrimPrefix(l.heard, l.frame)); ok {
		return fmt.Errorf("%w: its %d bytes do not fit %v of %d", errMisfit, len(answer), r.fn, r.count)
	}
	return fmt.Errorf("%w within %v, but %d bytes that are none", errGarbled, timeout, len(l.heard))
}

// misfit is the PDU of an answer of the unit that has as many bytes as it says, and not
// those that were asked for, if that is all that was heard in RTU mode. It may be a stale
// one.
func misfit(r request, heard []byte) (pdu []byte, ok bool) {
	if n := len(heard); !r.gives() || n < 5 || heard[0] != r.unit || heard[1] != byte(r.fn) || int(heard[2]) != n-5 || n-3 >= r.answerLen() {
		return nil, false
	}
	pdu = heard[1 : len(heard)-2]
	var frame [maxPDU + 4]byte
	return pdu, bytes.Equal(rtuMode{}.append(frame[:0], r.unit, pdu), heard)
}

// await waits for what the whole answer takes at least, if that is long: the first byte
// need not wake anybody. A unit that refused last may do so again, which is short.
func (l *lineLink) await(ctx context.Context, r request, sent time.Time) error {
	n := r.answerLen()
	d := time.Duration(l.mode.chars(n)) * l.char
	if n == 0 || l.stream || d < longAnswer || l.refuses[r.unit] {
		return nil
	}
	return l.sleep(ctx, time.Until(sent)+d)
}

// sleepOut waits for the rest of an answer that has begun, or for most of it if that is
// long: what comes in bursts may be further than what was read of it tells. Reading byte
// by byte would cost ten times the CPU.
func (l *lineLink) sleepOut(ctx context.Context, r request, f find, deadline time.Time) error {
	need := f.need
	if short := l.mode.chars(refusalLen) - (len(l.heard) - f.used); short > 0 && l.refuses[r.unit] {
		need = min(need, short)
	}
	d := time.Duration(need) * l.char
	if d >= longAnswer {
		d = d * 85 / 100
	}
	if f.verdict != foreign || d < shortSleep {
		return nil
	}
	return l.sleep(ctx, min(d, time.Until(deadline)))
}

// sleep waits without being woken by what comes. The error is the context's, or wraps
// drivers.ErrLost.
func (l *lineLink) sleep(ctx context.Context, d time.Duration) error {
	err := l.port.Sleep(ctx, d)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errLost("cannot wait at the port", err)
}

// confirm listens on: a second answer would mean that the first was a stale one.
func (l *lineLink) confirm(ctx context.Context, f *find, d time.Duration) error {
	var stray [16]byte
	for end := time.Now().Add(d); !f.odd; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		n, err := l.read(stray[:], min(left, readSlice))
		if err != nil {
			return errLost("cannot read from the port", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f.odd = n > 0
	}
	l.noise.strays++
	return fmt.Errorf("%w: something came beside the answer", errGarbled)
}

// read reads for d at most.
func (l *lineLink) read(b []byte, d time.Duration) (int, error) {
	if d != l.timeout {
		if err := l.port.SetReadTimeout(d); err != nil {
			return 0, err
		}
		l.timeout = d
	}
	n, err := l.port.Read(b)
	if n > 0 {
		l.busyUntil = time.Now()
	}
	return n, err
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
