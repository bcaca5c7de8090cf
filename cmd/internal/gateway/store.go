package gateway

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/mem"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/cmd/internal/exposition"
)

// StoreFolder is the folder of the data folder that holds the durable state.
const StoreFolder = "store"

// newStore makes the store that a configuration asks for, not open yet.
func newStore(cfg *config.Config, opt Options) store.Store {
	if opt.Data == "" || cfg.Store.Memory {
		opt.Log.Info("state is kept in memory, and ends with the program")
		return mem.New()
	}
	return &lateStore{opts: diskOptions(&cfg.Store, opt)}
}

func diskOptions(s *config.Store, opt Options) disk.Options {
	o := disk.Options{
		Folder: filepath.Join(opt.Data, StoreFolder), Durability: durabilityOf(s.Durability),
		Ballast: s.Ballast, Budget: s.RewriteRate, Log: opt.Log.With("part", "store"),
	}
	if o.Ballast == 0 {
		o.Ballast = -1 // none
	}
	o.Relaxed = relaxed(s)
	return o
}

// durabilityOf is what a checked configuration says.
func durabilityOf(text string) disk.Durability {
	mode, every, err := config.ParseDurability(text)
	switch {
	case err == nil && mode == "interval":
		return disk.Durability{Mode: disk.Interval, Every: every}
	case err == nil && mode == "off":
		return disk.Durability{Mode: disk.Off}
	default:
		return disk.Durability{}
	}
}

// relaxed is what messages need by their topic or, if no filter matches that, because
// they are readings: whoever reads a device again knows more than the disk does.
func relaxed(s *config.Store) func(*message.Message) (disk.Durability, bool) {
	list := s.Relaxed
	durabilities := make([]disk.Durability, len(list))
	for i := range list {
		durabilities[i] = durabilityOf(list[i].Durability)
	}
	readings := durabilityOf(s.Readings)
	return func(m *message.Message) (disk.Durability, bool) {
		for i := range list {
			if topic.Match(list[i].Filter, m.Topic) {
				return durabilities[i], true
			}
		}
		return readings, m.Retain && strings.HasPrefix(m.Origin, "device/")
	}
}

// errNotLoaded is what a store gives before it is loaded, and when that failed.
var errNotLoaded = errors.New("the store is not loaded")

// lateStore is a store on the disk that is opened when it is loaded: New starts nothing.
type lateStore struct {
	opts disk.Options

	mu   sync.RWMutex
	disk *disk.Store // nil until it is loaded
}

func (l *lateStore) get() *disk.Store {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.disk
}

// Load implements [store.Store].
func (l *lateStore) Load(ctx context.Context) (*store.Snapshot, error) {
	d, err := disk.Open(l.opts)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.disk = d
	l.mu.Unlock()
	return d.Load(ctx)
}

// Apply implements [store.Store].
func (l *lateStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	if d := l.get(); d != nil {
		return d.Apply(changes, after...)
	}
	return unloaded{}
}

// Fetch implements [store.Store].
func (l *lateStore) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	if d := l.get(); d != nil {
		return d.Fetch(ctx, session, from, limit)
	}
	return nil, errNotLoaded
}

// Records implements [store.Store].
func (l *lateStore) Records(ctx context.Context, r store.Range) ([]store.Record, error) {
	if d := l.get(); d != nil {
		return d.Records(ctx, r)
	}
	return nil, errNotLoaded
}

// Close implements [store.Store].
func (l *lateStore) Close() error {
	if d := l.get(); d != nil {
		return d.Close()
	}
	return nil
}

// unloaded is the ticket of changes that were not made.
type unloaded struct{}

func (unloaded) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (unloaded) Wait(context.Context) error { return errNotLoaded }

// kept is the store on the disk once it is open, else nil.
func (g *Gateway) kept() *disk.Store {
	if l, ok := g.store.(*lateStore); ok {
		return l.get()
	}
	return nil
}

// storeProblem says why the store does not take what it is to keep, nil while it does.
func (g *Gateway) storeProblem() error {
	d := g.kept()
	if d == nil {
		return nil
	}
	switch st := d.Stats(); {
	case st.Full:
		return fmt.Errorf("the disk of %q is full: messages of QoS 1 and 2 are refused until there is room", g.opt.Data)
	case st.Failed != "":
		return fmt.Errorf("the store cannot be used: %s", st.Failed)
	}
	return nil
}

// store shows the store to the console.
func (v view) store() console.Store {
	d := v.g.kept()
	if d == nil {
		return console.Store{Kind: "memory"}
	}
	st := d.Stats()
	shown := console.Store{
		Kind: "disk", Durability: st.Durability, Readings: v.g.config().Store.Readings, Relaxed: []console.Relaxed{},
		Segments: st.Segments, SegmentBytes: st.SegmentSize, LiveBytes: st.Live, DeadBytes: st.Dead,
		Sessions: st.Sessions, Messages: st.Messages, Groups: st.Groups, Syncs: st.Syncs,
		WrittenBytes: st.Written, RewrittenBytes: st.Rewritten, Damaged: st.Damaged, Unreadable: st.Unreadable, AsideBytes: st.Aside,
		Full: st.Full, Refused: st.Refused, Failed: st.Failed, Failures: st.Failures, Lost: st.Lost,
		ClockPlausible: st.ClockPlausible,
	}
	for _, r := range v.g.config().Store.Relaxed {
		shown.Relaxed = append(shown.Relaxed, console.Relaxed{Filter: r.Filter, Durability: r.Durability})
	}
	if !st.Unsynced.IsZero() {
		shown.Unsynced = &st.Unsynced
	}
	return shown
}

func (c collector) store(p *exposition.Page) {
	d := c.g.kept()
	if d == nil {
		return
	}
	st := d.Stats()
	full := 0.0
	if st.Full {
		full = 1
	}
	p.Gauge("gatehouse_store_full", "1 while the disk is full.", full)
	p.Gauge("gatehouse_store_live_bytes", "Bytes of records that count.", float64(st.Live))
	p.Gauge("gatehouse_store_dead_bytes", "Bytes of the segments that do not count any more.", float64(st.Dead))
	p.Gauge("gatehouse_store_segments", "Segment files in use.", float64(st.Segments))
	p.Counter("gatehouse_store_written_bytes_total", "Bytes written.", float64(st.Written))
	p.Counter("gatehouse_store_rewritten_bytes_total", "Bytes of them that gave back the room of what is gone.", float64(st.Rewritten))
	p.Counter("gatehouse_store_groups_total", "Groups of changes written together.", float64(st.Groups))
	p.Counter("gatehouse_store_syncs_total", "Flushes of the disk.", float64(st.Syncs))
	p.Counter("gatehouse_store_refused_total", "Changes refused because the disk was full.", float64(st.Refused))
	p.Counter("gatehouse_store_failures_total", "Groups that could not be written.", float64(st.Failures))
	p.Counter("gatehouse_store_damaged_total", "Damaged places found.", float64(st.Damaged))
	p.Counter("gatehouse_store_unreadable_total", "Those of them that the medium refused to read.", float64(st.Unreadable))
	p.Gauge("gatehouse_store_aside_bytes", "Bytes that were damaged and put aside.", float64(st.Aside))
	p.Counter("gatehouse_store_lost_total", "Relaxed changes that could not be written.", float64(st.Lost))
}
