package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/brokertest/ledger"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// Bench is where a store is tested. Its zero value has no store.
type Bench struct {
	// Open opens the store that a file system has; it is empty if it has none.
	Open func(durable.FS) (store.Store, error)
	// Steps is how long the day is; 0 means 40.
	Steps int
	// Seed makes another day.
	Seed uint64
	// Patience is how long what was acknowledged may be on its way; 0 means a minute.
	Patience time.Duration
}

// Which chooses operations of the disk.
type Which struct{ first, step int }

// Every chooses each n-th operation.
func Every(n int) Which { return Which{first: n, step: n} }

// Sample chooses each n-th operation, with another first one each time.
func Sample(n int) Which { return Which{first: 1 + rand.IntN(n), step: n} }

// Judge is the part of a test that says what is broken.
type Judge interface {
	Helper()
	TempDir() string
	Errorf(format string, args ...any)
	Failed() bool
}

// site is a broker that runs over a store.
type site struct {
	store  store.Store
	path   string
	cancel context.CancelFunc
	ended  sync.WaitGroup
	failed error
}

// start opens the store and runs a broker on it, which listens at path.
func (b *Bench) start(fsys durable.FS, path string) (*site, error) {
	kept, err := b.Open(fsys)
	if err != nil {
		return nil, fmt.Errorf("the store does not open: %w", err)
	}
	server, err := broker.New(broker.Options{Store: kept, Authorizer: brokertest.Everyone(), StatusEvery: -1})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &site{store: kept, path: path, cancel: cancel}
	var failed sync.Once
	fail := func(err error) {
		if err != nil {
			failed.Do(func() { s.failed = err })
			cancel()
		}
	}
	s.ended.Go(func() { fail(server.Run(ctx)) })
	s.ended.Go(func() { fail(server.Serve(ctx, l)) })
	select {
	case <-server.Ready():
		return s, nil
	case <-ctx.Done():
		return nil, errors.Join(s.failed, s.stop())
	}
}

// stop ends the broker and closes the store.
func (s *site) stop() error {
	s.cancel()
	s.ended.Wait()
	return s.store.Close()
}

func (s *site) dial() (net.Conn, error) { return net.Dial("unix", s.path) }

// run is one run of the day on one disk.
type run struct {
	*Bench
	t      Judge
	name   string // for messages
	folder string // of sockets
	stops  int
}

func (r *run) socket() string {
	r.stops++
	return filepath.Join(r.folder, fmt.Sprint(r.stops))
}

func (r *run) errorf(format string, args ...any) {
	r.t.Helper()
	r.t.Errorf("%s: %s", r.name, fmt.Sprintf(format, args...))
}

// day lets a day pass on a disk that may break, as far as it comes.
func (r *run) day(disk *crashfs.FS) *house {
	h := newHouse()
	s, err := r.start(disk, r.socket())
	if err != nil {
		return h // nothing was promised
	}
	defer func() { _ = s.stop() }() // the disk is broken
	defer h.lose()
	h.dial = s.dial
	for _, c := range h.clients() {
		c.Alive = func() error { return power(disk) }
	}
	dice := rand.New(rand.NewPCG(r.Seed, 1))
	moved := false
	for step := 0; step < r.steps() && power(disk) == nil; step++ {
		if !moved {
			moved = h.moveIn() == nil
		}
		_ = h.step(dice) // whoever lost its connection comes back
	}
	return h
}

func (b *Bench) steps() int {
	if b.Steps == 0 {
		return 40
	}
	return b.Steps
}

func (b *Bench) patience() time.Duration {
	if b.Patience == 0 {
		return time.Minute
	}
	return b.Patience
}

func power(disk *crashfs.FS) error {
	select {
	case <-disk.Dead():
		return crashfs.ErrCut
	default:
		return nil
	}
}

// recover opens what a disk has, and sees that all that was promised comes; then again,
// after it was written to.
func (r *run) recover(disk *crashfs.FS, h *house) {
	r.t.Helper()
	for round := range 2 {
		s, err := r.start(disk, r.socket())
		if err != nil {
			r.errorf("round %d: %v", round, err)
			return
		}
		h.dial = s.dial
		r.settle(h, round)
		h.lose()
		if err := s.stop(); err != nil {
			r.errorf("round %d: the store does not close: %v", round, err)
		}
		if r.t.Failed() {
			return
		}
	}
}

// recoverTwice has the power go again while what the cut left is opened.
func (r *run) recoverTwice(disk *crashfs.FS, h *house, n int) {
	r.t.Helper()
	again := 1 + n%7
	r.name = fmt.Sprintf("seed %d, cut at operation %d, and again at %d of the recovery", r.Seed, n, again)
	torn := disk.After(crashfs.Torn, uint64(n))
	torn.CutAt(again)
	if s, err := r.start(torn, r.socket()); err == nil {
		_ = s.stop() // it may have no power any more
	}
	r.recover(torn.After(crashfs.Random, uint64(n)), h.clone())
}

// settle has all clients come back and do what they owe, and looks at the ledger.
func (r *run) settle(h *house, round int) {
	r.t.Helper()
	for _, c := range h.clients() {
		c.Alive, c.Withhold = nil, false
	}
	for _, c := range append([]*ledger.Client{h.guest}, h.subs...) {
		if err := h.with(c, c.Answer); err != nil {
			r.errorf("round %d: %q: %v", round, c.ID(), err)
			return
		}
	}
	if err := h.moveIn(); err != nil { // the day may have ended before
		r.errorf("round %d: %v", round, err)
		return
	}
	dice := rand.New(rand.NewPCG(r.Seed, 2))
	for _, c := range h.pubs {
		err := h.with(c, func() error { return errors.Join(c.Settle(), burst(dice, c)) })
		if err != nil {
			r.errorf("round %d: %q: %v", round, c.ID(), err)
			return
		}
	}
	if err := h.drain(r.patience()); err != nil {
		r.errorf("round %d: %v", round, err)
	}
	broken := append(h.ledger.Broken(), h.ledger.Missing()...)
	nc, err := h.dial()
	if err == nil {
		var wrong []string
		wrong, err = h.ledger.CheckRetained(nc, "r/#")
		broken = append(broken, wrong...)
	}
	if err != nil {
		r.errorf("round %d: %v", round, err)
	}
	if len(broken) > 0 {
		r.errorf("round %d:\n  %s", round, strings.Join(broken, "\n  "))
	}
}

// drain has the subscribers take what comes, until nothing is missing and no more comes.
func (h *house) drain(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for quiet := 0; quiet < 2; {
		quiet++
		for _, c := range append([]*ledger.Client{h.guest}, h.subs...) {
			n, err := c.Ping()
			if err != nil {
				return fmt.Errorf("%q: %w", c.ID(), err)
			}
			if n > 0 {
				quiet = 0
			}
		}
		if len(h.ledger.Missing()) > 0 && time.Now().Before(deadline) {
			quiet = 0
		}
	}
	return nil
}

// PowerCuts lets the day pass once for each chosen operation, which cuts the power, and
// recovers in each variant of what lasts. It tells how many cuts there were.
func (b *Bench) PowerCuts(t Judge, which Which) (cuts int) {
	folder := t.TempDir()
	for n := which.first; !t.Failed(); n += which.step {
		r := &run{Bench: b, t: t, folder: folder}
		disk := crashfs.New()
		disk.CutAt(n)
		h := r.day(disk)
		whole := power(disk) == nil
		disk.Cut()
		for _, v := range crashfs.Variants {
			r.name = fmt.Sprintf("seed %d, cut at operation %d, unsynced %v", b.Seed, n, v)
			if r.recover(disk.After(v, uint64(n)), h.clone()); t.Failed() {
				return cuts
			}
		}
		if r.recoverTwice(disk, h, n); t.Failed() {
			return cuts
		}
		if whole {
			break
		}
		cuts++
	}
	return cuts
}

// Faults lets the day pass with operations that fail: the chosen one alone, each third
// from there, all from there; then the power is cut and nothing acknowledged may be lost.
func (b *Bench) Faults(t Judge, which Which) (runs int) {
	folder := t.TempDir()
	for _, fault := range []crashfs.Fault{
		{Err: syscall.ENOSPC},
		{Err: syscall.ENOSPC, Every: 3},
		{Err: syscall.ENOSPC, Every: 1},
		{Err: syscall.EIO},
		{Err: syscall.EIO, Every: 3},
		{Err: syscall.EIO, Every: 1},
		{Err: syscall.EROFS},
		{Err: syscall.EROFS, Every: 1},
	} {
		for n := which.first; !t.Failed(); n += which.step {
			r := &run{Bench: b, t: t, folder: folder}
			r.name = fmt.Sprintf("seed %d, %v at operation %d, every %d", b.Seed, fault.Err, n, fault.Every)
			disk := crashfs.New()
			fault.First = n
			disk.Fail(fault)
			h := r.day(disk)
			disk.Cut()
			r.recover(disk.After(crashfs.Lost, uint64(n)), h)
			runs++
			if disk.Stats().Operations < n {
				break
			}
		}
	}
	return runs
}
