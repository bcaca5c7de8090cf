package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// ErrNotRunning says that a plugin's process is down; the text tells until when.
var ErrNotRunning = errors.New("plugin is not running")

// slot keeps one plugin running, whatever its manifest becomes. It stays for as long
// as the host, so that who holds a driver of its plugin is never left behind.
type slot struct {
	name   string
	opts   *Options
	log    *slog.Logger
	notify func()        // tells the host's listeners; called without mu held
	wake   chan struct{} // capacity 1: want changed, or try again now

	mu       sync.Mutex
	want     *Manifest // nil: there is no such plugin
	problem  *ManifestError
	state    State
	inst     *instance // while Running
	version  string
	funcs    []FuncInfo // of the last instance
	ready    bool       // it has run with this manifest
	edition  int        // counts manifests that made a difference
	restarts int
	since    time.Time // of state
	retry    time.Time // when Waiting or Failing
	err      error     // why it ended or could not start
	tried    stamp     // of the program when it was last started
	alarm    string    // the error that someone must act on, as it was logged last
}

func newSlot(name string, o *Options, notify func()) *slot {
	return &slot{
		name: name, opts: o, log: o.Log.With("plugin", name), notify: notify,
		wake: make(chan struct{}, 1), state: Stopped, since: time.Now(),
	}
}

// set makes want the plugin's manifest; nil takes the plugin away. A plugin that
// waits to be restarted is tried at once if its manifest or its program is new.
func (s *slot) set(want *Manifest, problem *ManifestError) {
	program := want.stamp()
	s.mu.Lock()
	s.problem = problem
	news := program != s.tried
	if want == nil || s.want == nil || !want.same(s.want) {
		s.edition++
		s.ready, s.restarts, s.err, s.alarm = false, 0, nil, ""
		s.want = want
		news = true
	}
	s.mu.Unlock()
	if news {
		s.again()
	}
}

// again has a plugin that waits to be restarted try at once.
func (s *slot) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run keeps the plugin as its manifest says until ctx ends.
func (s *slot) run(ctx context.Context) {
	pause := backoff{first: s.opts.RestartFirst, most: s.opts.RestartMost, healthy: s.opts.Healthy}
	edition := 0
	for ctx.Err() == nil {
		want, now := s.wanted()
		if now != edition {
			edition, pause.failures = now, 0
		}
		if want == nil || !want.Enabled {
			s.enter(Stopped, nil, 0)
			s.sleep(ctx, 0)
			continue
		}
		began := time.Now()
		err := s.once(ctx, want, now)
		if _, now := s.wanted(); ctx.Err() != nil || now != edition {
			continue
		}
		d, failing := pause.next(time.Since(began), errors.Is(err, ErrRefused))
		s.report(err, d, failing)
		s.sleep(ctx, d)
	}
	s.enter(Stopped, nil, 0)
}

// once runs the plugin once. It returns when the process has ended, and why.
func (s *slot) once(ctx context.Context, want *Manifest, edition int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.cancelOnChange(ctx, cancel, edition)()

	program := want.stamp()
	s.mu.Lock()
	s.tried = program
	s.mu.Unlock()
	s.enter(Starting, nil, 0)
	inst, err := startInstance(ctx, want, s.opts, s.log)
	if err != nil {
		return err
	}
	s.running(inst, edition)
	s.log.Info("plugin runs", "version", inst.version, "pid", inst.pid, "drivers", want.Drivers, "functions", want.Functions)
	err = inst.watch(ctx)
	s.mu.Lock()
	s.inst = nil
	s.mu.Unlock()
	return err
}

// cancelOnChange calls cancel when the manifest changes. The function it returns
// ends and waits for it.
func (s *slot) cancelOnChange(ctx context.Context, cancel func(), edition int) func() {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
				if _, now := s.wanted(); now != edition {
					cancel()
					return
				}
			}
		}
	}()
	return func() {
		stop()
		<-done
	}
}

// sleep waits for d, a change of the manifest, or the end of ctx; 0 is no limit.
func (s *slot) sleep(ctx context.Context, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-s.wake:
	}
}

func (s *slot) wanted() (*Manifest, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want, s.edition
}

// enter changes the state; retry is in so long, if it is one that waits.
func (s *slot) enter(state State, err error, retry time.Duration) {
	s.mu.Lock()
	changed := s.state != state
	if changed {
		s.since = time.Now()
	}
	s.state, s.retry = state, time.Now().Add(retry)
	if err != nil {
		s.err = err
	}
	s.mu.Unlock()
	if changed {
		s.notify()
	}
}

// running notes an instance of an edition, which may be a former one by now.
func (s *slot) running(inst *instance, edition int) {
	s.mu.Lock()
	s.inst, s.ready, s.version = inst, edition == s.edition, inst.version
	s.funcs = s.funcs[:0:0]
	for _, f := range inst.offered {
		s.funcs = append(s.funcs, f.FuncInfo)
	}
	s.mu.Unlock()
	s.enter(Running, nil, 0)
}

// report notes that the plugin is down and why. What someone must act on is logged
// as an error once, and then only for debugging.
func (s *slot) report(err error, d time.Duration, failing bool) {
	state, level, alarm := Waiting, slog.LevelWarn, ""
	if failing {
		state, level, alarm = Failing, slog.LevelError, err.Error()
	}
	s.mu.Lock()
	s.restarts++
	if failing && s.alarm == alarm {
		level = slog.LevelDebug
	}
	s.alarm = alarm
	s.mu.Unlock()
	s.enter(state, err, d)
	s.log.Log(context.Background(), level, "plugin is down", "error", err, "retry_in", d.Round(time.Millisecond))
}

// current is the running instance, or why there is none.
func (s *slot) current() (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inst != nil && s.ready && !s.inst.down() { // not ready: it is another plugin by now
		return s.inst, nil
	}
	return nil, fmt.Errorf("%w: %q is %s", ErrNotRunning, s.name, s.why())
}

// why tells why there is no instance. The caller holds mu.
func (s *slot) why() string {
	switch {
	case s.want == nil:
		return "not installed any more"
	case !s.want.Enabled:
		return "not enabled"
	case s.state == Waiting || s.state == Failing:
		in := max(0, time.Until(s.retry)).Round(100 * time.Millisecond)
		return fmt.Sprintf("restarting in %v: %v", in, s.err)
	case s.state == Running:
		return "restarting"
	}
	return string(s.state)
}

// offers reports whether the plugin has run and offers a driver by that name.
func (s *slot) offers(driver string) (edition int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil || !s.want.Enabled || !s.ready {
		return 0, false
	}
	return s.edition, slices.Contains(s.want.Drivers, driver)
}

// budget is how many failures in a row are taken for bad luck.
const budget = 5

// backoff is the pause before a plugin is started again: it doubles from the first
// to the most, and starts over when the plugin has run healthily.
type backoff struct {
	first, most, healthy time.Duration
	failures             int // in a row
}

// next counts a failure after a run of that length and gives the pause, shortened
// by up to a quarter at random so that plugins do not start in step. failing is
// true when the budget is used up, or when the program was refused: then someone
// must act, and the pause is the longest at once.
func (b *backoff) next(ran time.Duration, refused bool) (pause time.Duration, failing bool) {
	if ran >= b.healthy {
		b.failures = 0
	}
	b.failures++
	pause = b.most
	if shift := b.failures - 1; !refused && shift < 30 {
		pause = min(b.first<<shift, b.most)
	}
	return pause - time.Duration(rand.Int64N(int64(pause)/4+1)), refused || b.failures > budget
}
