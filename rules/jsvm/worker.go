package jsvm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	signals "os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/dlclark/regexp2/v2"
	"golang.org/x/sys/unix"
)

// The descriptors that a worker inherits.
const (
	fdRequests = 3
	fdAnswers  = 4
	fdShared   = 5
	fdTold     = 6
)

// Worker is what the hidden subcommand "gatehouse worker" calls: it runs scripts
// for the gateway that started it, over descriptors 3 to 6, until the gateway
// closes them or dies; then it ends the process, whatever a script is doing. It
// bounds its own memory. It returns early when ctx ends, at the next frame, and with an
// error when it was not started by a gateway.
func Worker(ctx context.Context) error {
	// A service manager that stops a unit, or a killall, means the gateway, which
	// needs its filters to the end.
	signals.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// Whoever waits for these has nothing else to do: no poller stands between.
	for _, fd := range []int{fdRequests, fdAnswers, fdTold} {
		if err := syscall.SetNonblock(fd, false); err != nil {
			return fmt.Errorf("cannot serve scripts: this command is for the gateway to start: %w", err)
		}
	}
	requests := os.NewFile(fdRequests, "requests")
	answers := os.NewFile(fdAnswers, "answers")
	told := os.NewFile(fdTold, "told")
	shared, err := mapShared(fdShared)
	if err != nil {
		return fmt.Errorf("cannot serve scripts: this command is for the gateway to start: %w", err)
	}
	in := bufio.NewReaderSize(requests, 64<<10)
	body, err := readFrame(in)
	if err != nil {
		return fmt.Errorf("cannot read the first frame: %w", err)
	}
	rec, _, err := decodeRecord(body)
	hello, ok := rec.(*helloRecord)
	if err != nil || !ok || hello.Version != wireVersion {
		return errors.New("cannot serve scripts: the gateway is of another version")
	}
	if err := confine(hello.Memory); err != nil {
		return err
	}
	w := newWorker(answers, shared, hello)
	w.told = told
	go w.watch.run()
	go endWithGateway()
	return w.serve(ctx, in)
}

// endWithGateway waits for the gateway to be gone, which ends the process at once: a
// script may be in an endless loop.
func endWithGateway() {
	hangUp := []unix.PollFd{{Fd: fdRequests}} // no events: POLLHUP and POLLERR are always told
	for {
		if n, err := unix.Poll(hangUp, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			os.Exit(0)
		}
	}
}

// worker serves the scripts of one process.
type worker struct {
	answers io.Writer
	told    io.Reader // what the gateway tells in the middle of an event
	shared  *sharedPage
	hello   *helloRecord
	watch   *watch
	memory  *memoryGauge
	scripts map[uint32]*script
	frame   []byte    // answers that are not sent yet
	flushed time.Time // when the last were sent
	slow    bool      // an event took long enough to leave much garbage
}

func newWorker(answers io.Writer, shared *sharedPage, hello *helloRecord) *worker {
	// See starvedRegexp. The library's own default is never to end.
	regexp2.DefaultMatchTimeout = starvedRegexp*hello.Deadline + 20*time.Millisecond
	regexp2.SetTimeoutCheckPeriod(10 * time.Millisecond)
	return &worker{
		answers: answers, shared: shared, hello: hello,
		watch:   newWatch(hello.Deadline),
		memory:  newMemoryGauge(hello.Memory),
		scripts: make(map[uint32]*script),
		frame:   beginFrame(nil),
	}
}

// serve reads and answers in one goroutine: no thread has to wake another for it.
func (w *worker) serve(ctx context.Context, in io.Reader) error {
	for ctx.Err() == nil {
		body, err := readFrame(in)
		if err != nil {
			return nil // the gateway is gone
		}
		if err := w.serveFrame(body); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) serveFrame(body []byte) error {
	w.watch.note()
	w.flushed = time.Now()
	for len(body) > 0 {
		rec, rest, err := decodeRecord(body)
		if err != nil {
			return fmt.Errorf("cannot read a request: %w", err)
		}
		body = rest
		if err := w.serveRecord(rec); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.weigh()
}

// Answers wait for the end of the frame, unless they are many or late: what is not
// sent is run again if the worker dies.
const (
	flushBytes = 64 << 10
	flushAfter = 2 * time.Millisecond
)

func (w *worker) serveRecord(rec record) error {
	var script uint32
	switch rec := rec.(type) {
	case *loadRecord:
		script = rec.Script
		w.shared.seq.Store(rec.Seq)
		w.answer(w.load(rec))
		w.shared.seq.Store(0)
	case *callRecord:
		script = rec.Script
		w.shared.seq.Store(rec.Seq)
		w.answer(w.call(rec))
		w.shared.seq.Store(0)
	case *stateRecord:
		if s := w.scripts[rec.Script]; s != nil {
			s.setState(rec.Values)
			s.recall = rec.Recall
		}
	case *unloadRecord:
		delete(w.scripts, rec.Script)
	default:
		return fmt.Errorf("unexpected request %T", rec)
	}
	if late := time.Since(w.flushed) > flushAfter; late || len(w.frame) > flushBytes {
		if err := w.flush(); err != nil || !late {
			return err
		}
		w.slow = true
		w.watch.note()
		return w.stretch(script)
	}
	return nil
}

// stretch ends the worker when a long event left it with too little memory.
func (w *worker) stretch(script uint32) error {
	grown, worn := w.memory.growth()
	if !worn {
		return nil
	}
	rec := &hoardRecord{Bytes: grown, Event: true}
	if grown > w.hello.Memory/8 {
		rec.Script = script
	}
	return w.giveUp(rec)
}

// giveUp says why and ends the process.
func (w *worker) giveUp(why *hoardRecord) error {
	w.answer(why)
	if err := w.flush(); err != nil {
		return err
	}
	os.Exit(exitHoard)
	return nil
}

func (w *worker) answer(rec record) { w.frame = appendRecord(w.frame, rec) }

func (w *worker) flush() error {
	w.flushed = time.Now()
	if len(w.frame) == headerSize {
		return nil
	}
	if err := finishFrame(w.frame); err != nil {
		return err
	}
	if _, err := w.answers.Write(w.frame); err != nil {
		return fmt.Errorf("cannot answer: %w", err)
	}
	if cap(w.frame) > 1<<20 {
		w.frame = nil // one large answer is not kept for good
	}
	w.frame = beginFrame(w.frame)
	return nil
}

func (w *worker) load(l *loadRecord) record {
	s := &script{id: l.Script, name: l.Name, number: l.Seq, watch: w.watch, gateway: w.askGateway}
	out := s.load(l)
	if out.Fault == nil && s.rt != nil {
		w.scripts[l.Script] = s
	} else {
		delete(w.scripts, l.Script)
	}
	return &loadedRecord{Seq: l.Seq, Rules: s.rules, Windows: s.windows, Paces: s.paces, Uses: s.uses, Varies: s.varies, Result: out}
}

func (w *worker) call(c *callRecord) record {
	s := w.scripts[c.Script]
	if s == nil {
		return &resultRecord{Seq: c.Seq, Lost: lostBefore}
	}
	s.peers = s.peers[:0]
	for _, id := range c.Peers {
		s.peers = append(s.peers, w.scripts[id])
	}
	rec := &resultRecord{Seq: c.Seq, Result: s.call(c)}
	if s.rt == nil {
		delete(w.scripts, c.Script)
		rec.Lost = lostAfter
	}
	return rec
}

// weigh looks at the memory after a frame. When scripts hold most of it, every
// event becomes slow and the next one, of whatever script, would bring the worker
// down. So the script that holds the most is found, by letting go of one after the
// other, and named; then the worker ends, to be started without it.
func (w *worker) weigh() error {
	if !w.slow && !w.memory.high() {
		return nil
	}
	w.slow = false
	if !w.memory.high() && !w.memory.littered() {
		return nil
	}
	runtime.GC() // so that no other script's event runs into this one's garbage
	before := w.memory.live()
	if before < w.memory.most {
		return nil
	}
	var worst hoardRecord
	for _, id := range w.byState() {
		delete(w.scripts, id)
		runtime.GC()
		after := w.memory.live()
		if held := before - after; held > worst.Bytes {
			worst = hoardRecord{Script: id, Bytes: held}
		}
		before = after
		if before < w.memory.most/4 {
			break // what is left holds little
		}
	}
	return w.giveUp(&worst)
}

// byState lists the scripts in the order of their numbers.
func (w *worker) byState() []uint32 {
	ids := make([]uint32, 0, len(w.scripts))
	for id := range w.scripts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// nativeStack bounds the recursion of the engine itself (the parser,
// JSON.stringify); beyond it the worker dies at once instead of eating its memory.
const nativeStack = 32 << 20

// confine bounds what this process may take.
func confine(memory int64) error {
	debug.SetMaxStack(nativeStack)
	// The kernel counts what was ever mapped, the collector what is in use, and it
	// works while a script goes on to allocate: it needs room to be late.
	debug.SetMemoryLimit(memory / 2)
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), 2))
	return limitMemory(memory)
}
