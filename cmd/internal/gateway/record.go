package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// Bounds of recordings.
const (
	maxRecordings     = 4       // at once
	recordingWaits    = 4 << 20 // bytes that wait for who takes them; what is beyond is lost
	recordingRetained = 100_000 // retained messages at its beginning
)

// tap is the broker's interceptor: the rules and, while there are any, the recordings,
// which see messages as they come in.
type tap struct {
	rules *rules.Engine

	mu   sync.Mutex
	list atomic.Pointer[[]*recording] // nil if there are none; mu guards changes
}

// Hears reports whether somebody wants to see messages of a topic.
func (t *tap) Hears(name string) bool { return t.list.Load() != nil || t.rules.Hears(name) }

// Intercept shows the messages to the recordings and has the rules judge them.
func (t *tap) Intercept(ctx context.Context, msgs []message.Message) []message.Verdict {
	if list := t.list.Load(); list != nil {
		for _, r := range *list {
			r.take(msgs)
		}
	}
	return t.rules.Intercept(ctx, msgs)
}

func (t *tap) add(r *recording) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*recording
	if list := t.list.Load(); list != nil {
		all = slices.Clone(*list)
	}
	if len(all) >= maxRecordings {
		return fmt.Errorf("%d recordings are being made", len(all))
	}
	all = append(all, r)
	t.list.Store(&all)
	return nil
}

func (t *tap) remove(r *recording) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.list.Load()), func(o *recording) bool { return o == r })
	if len(all) == 0 {
		t.list.Store(nil)
		return
	}
	t.list.Store(&all)
}

// recording is one that is being made.
type recording struct {
	filters []string
	kick    chan struct{} // capacity 1: something waits

	mu    sync.Mutex
	lines []byte // that wait
	lost  uint64 // messages since then
}

func (r *recording) take(msgs []message.Message) {
	for i := range msgs {
		m := &msgs[i]
		if !slices.ContainsFunc(r.filters, func(f string) bool { return topic.Match(f, m.Topic) }) {
			continue
		}
		e := trial.EntryOf(m)
		if m.At.IsZero() {
			e.At = time.Now().Round(0)
		}
		r.put(&e)
	}
}

func (r *recording) put(e *trial.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) > recordingWaits {
		r.lost++
		return
	}
	r.lines = e.Append(r.lines)
	select {
	case r.kick <- struct{}{}:
	default: // it will wake anyway
	}
}

// waiting takes the lines that wait.
func (r *recording) waiting() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	if r.lines = nil; r.lost > 0 {
		lost := trial.Entry{At: time.Now().Round(0), Lost: r.lost}
		lines, r.lost = lost.Append(lines), 0
	}
	return lines
}

// record writes what is published on the filters, as lines of a recording, until ctx ends
// or write returns an error.
func (g *Gateway) record(ctx context.Context, filters []string, write func(lines []byte) error) error {
	for _, f := range filters {
		if !topic.ValidFilter(f) {
			return fmt.Errorf("%q is not a topic filter: + must be a whole level, # the whole last level", f)
		}
	}
	r := &recording{filters: filters, kick: make(chan struct{}, 1)}
	if err := g.tap.add(r); err != nil {
		return err
	}
	defer g.tap.remove(r)
	if err := write(g.recordingHead(filters)); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
			if err := write(r.waiting()); err != nil {
				return err
			}
		}
	}
}

// recordingHead is how a recording begins: its head, and what is retained.
func (g *Gateway) recordingHead(filters []string) []byte {
	now := time.Now().Round(0)
	head := trial.Entry{At: now, Recording: trial.Form, Filters: filters}
	lines := head.Append(nil)
	seen := make(map[string]bool)
	for _, f := range filters {
		for _, m := range g.broker.Retained(f, recordingRetained) {
			if seen[m.Topic] {
				continue
			}
			seen[m.Topic] = true
			e := trial.EntryOf(&m)
			e.At, e.Was, e.Retain = now, true, true
			lines = e.Append(lines)
		}
	}
	return lines
}
