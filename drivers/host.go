package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// SubscriptionName is the name under which the [Host] hears control topics.
const SubscriptionName = "devices"

// Options are what a [Host] is made of. The zero value is a host without drivers.
type Options struct {
	// Drivers are the drivers by the name that device files call them.
	Drivers map[string]Driver
	// Lookup finds drivers that are not in Drivers, those of plugins. It may be
	// called at any time; [Host.Refresh] tells the host that its answers changed.
	// A device whose driver is not found waits. Nil finds none.
	Lookup func(name string) (Driver, bool)
	// Folder is where the files of Load are, for the paths in them; nil is the working
	// folder.
	Folder func() string
	// Conventions are what the key "discovery" of a device file may list.
	Conventions []string
	// Log gets what happens; nil discards it.
	Log *slog.Logger
	// RetryFirst and RetryMost bound the pauses before a device that is lost is
	// opened again, or one that does not answer is asked again: they double from
	// the first to the most, each shortened by up to a quarter at random.
	// 0 means 1 s and 30 s.
	RetryFirst, RetryMost time.Duration
	// OpenTimeout bounds Driver.Open, CallTimeout one Device.Read or Write.
	// 0 means 30 s.
	OpenTimeout, CallTimeout time.Duration
	// Queue is how many commands wait for one device, each of at most twice
	// [MaxCommandBytes] with its properties; one more is answered "busy". 0 means 64.
	Queue int
	// History keeps what points with the key "history" were; nil keeps nothing. It is
	// called by the goroutines of devices and must not wait. It does not keep the
	// slice.
	History func([]Sample)
	// ReportEvery is how often an error that repeats is logged. 0 means 1 min.
	ReportEvery time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.RetryFirst = firstPositive(o.RetryFirst, time.Second)
	o.RetryMost = firstPositive(o.RetryMost, 30*time.Second)
	o.OpenTimeout = firstPositive(o.OpenTimeout, 30*time.Second)
	o.CallTimeout = firstPositive(o.CallTimeout, 30*time.Second)
	o.ReportEvery = firstPositive(o.ReportEvery, time.Minute)
	if o.Queue == 0 {
		o.Queue = 64
	}
	return o
}

// Host runs devices: it polls them, publishes their readings and obeys their
// control topics. Each device has a goroutine of its own, so that a slow or broken
// one holds up no other. All methods but Run may be called by any goroutine, at
// any time.
type Host struct {
	opts  Options
	ready chan struct{} // closed when the control topics are heard
	kick  chan struct{} // capacity 1: the wanted devices changed

	loading sync.Mutex // one Load, Refresh, Check or Forecast at a time; taken before mu
	folder  folder
	checked map[string]*entry // by Check, for Forecast

	mu      sync.Mutex
	wanted  map[string]*entry  // the devices that should run, by name
	errs    map[string]error   // what is wrong with a file, by device name
	slots   map[string]*slot   // the devices that run, or still end
	lines   []Line             // that the wanted devices share
	targets map[string]*target // by control topic
	moved   chan struct{}      // closed when wanted changes; then there is another one
	running bool
}

// NewHost checks the options and returns a host without devices. It starts nothing.
func NewHost(o Options) (*Host, error) {
	switch {
	case o.Queue < 0 || o.RetryFirst < 0 || o.RetryMost < 0 || o.OpenTimeout < 0 || o.CallTimeout < 0 || o.ReportEvery < 0:
		return nil, errors.New("cannot make a device host: negative limit")
	case o.RetryMost > 0 && o.RetryFirst > o.RetryMost:
		return nil, errors.New("cannot make a device host: the first pause is above the longest")
	}
	for name, d := range o.Drivers {
		if d == nil {
			return nil, fmt.Errorf("cannot make a device host: driver %q is nil", name)
		}
	}
	return &Host{
		opts:   o.withDefaults(),
		ready:  make(chan struct{}),
		kick:   make(chan struct{}, 1),
		wanted: make(map[string]*entry),
		errs:   make(map[string]error),
		slots:  make(map[string]*slot),
		moved:  make(chan struct{}),
	}, nil
}

// Ready is closed when [Host.Run] hears the control topics of the devices that were
// loaded before it. No device need be open by then.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Run runs the devices until ctx ends; then it publishes that each is offline,
// closes it, and returns nil. It returns an error when the bus takes its
// subscription away. It is called once.
func (h *Host) Run(ctx context.Context, bus message.Bus) error {
	h.mu.Lock()
	if h.running {
		h.mu.Unlock()
		return errors.New("cannot run the devices: they run already")
	}
	h.running = true
	h.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	r := &run{host: h, bus: bus, standing: make(chan struct{}, 1)}
	heard := make(chan error, 1)
	go func() {
		defer close(heard) // follow may have taken the only answer when ctx ended
		heard <- r.hear(ctx)
	}()
	err := r.follow(ctx, heard)
	cancel()
	if err == nil {
		err = <-heard // nil: ctx has ended
	}
	r.wait()
	return err
}

// run is one Run of a host.
type run struct {
	host     *Host
	bus      message.Bus
	devices  sync.WaitGroup
	standing chan struct{} // capacity 1: the subscription came to stand
}

// hear holds the subscription of the control topics.
func (r *run) hear(ctx context.Context) error {
	err := r.bus.Subscribe(ctx, message.Subscription{
		Name:    SubscriptionName,
		Filters: r.host.controlTopics(),
		QoS:     message.AtLeastOnce,
		Ready:   func() { r.standing <- struct{}{} },
	}, r.dispatch)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("cannot hear the control topics: %w", cmpError(err))
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("the subscription ended")
	}
	return err
}

// follow starts and stops devices as the wanted ones change. It returns when ctx
// ends, or with why the subscription did.
func (r *run) follow(ctx context.Context, heard <-chan error) error {
	h := r.host
	stands := false // no device starts before its control topics are heard
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-heard:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-r.standing:
			stands = true
			r.resubscribe(ctx) // files may have changed since Subscribe was called
			r.reconcile(ctx)
			close(h.ready)
		case <-h.kick:
			if stands {
				r.resubscribe(ctx)
				r.reconcile(ctx)
			}
		}
	}
}

func (r *run) resubscribe(ctx context.Context) {
	err := r.bus.Resubscribe(ctx, SubscriptionName, r.host.controlTopics())
	if err != nil && ctx.Err() == nil {
		r.host.opts.Log.Error("cannot hear the control topics", "error", err)
	}
}

// reconcile tells each device which file it has now, and starts those that are new.
func (r *run) reconcile(ctx context.Context) {
	h := r.host
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.slots {
		s.change(h.wanted[name])
	}
	for name, e := range h.wanted {
		if h.slots[name] != nil {
			continue
		}
		s := newSlot(h, r.bus, name)
		s.change(e)
		h.slots[name] = s
		r.devices.Go(func() { s.run(ctx) })
	}
}

// wait waits for all devices and names in the log those that take long.
func (r *run) wait() {
	done := make(chan struct{})
	go func() {
		r.devices.Wait()
		close(done)
	}()
	late := time.NewTicker(5 * time.Second)
	defer late.Stop()
	for {
		select {
		case <-done:
			return
		case <-late.C:
			r.host.mu.Lock()
			names := slices.Sorted(maps.Keys(r.host.slots))
			r.host.mu.Unlock()
			r.host.opts.Log.Warn("devices are slow to stop", "devices", names)
		}
	}
}

// next hands a slot its file and a context that ends when the file changes; without
// a file it takes the slot out.
func (h *Host) next(ctx context.Context, s *slot) (*entry, context.Context, context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.current == nil || ctx.Err() != nil {
		delete(h.slots, s.name)
		return nil, nil, nil
	}
	serving, cancel := context.WithCancel(ctx)
	s.stop, s.serving = cancel, serving
	return s.current, serving, cancel
}

// topicWanted reports whether a wanted device has the topic now.
func (h *Host) topicWanted(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.wanted {
		if e.topic == topic {
			return true
		}
	}
	return false
}
