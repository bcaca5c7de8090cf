package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// journal records what happened in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) part(name string, startTime time.Duration) part {
	ready := make(chan struct{})
	return part{name: name, ready: ready, run: func(ctx context.Context) error {
		select {
		case <-time.After(startTime):
		case <-ctx.Done():
			return nil
		}
		j.add("up " + name)
		close(ready)
		<-ctx.Done()
		j.add("down " + name)
		return nil
	}}
}

func TestPartsStartInOrderAndStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		parts := []part{j.part("a", time.Second), j.part("b", time.Millisecond), j.part("c", 0)}
		err := runParts(ctx, slog.New(slog.DiscardHandler), parts, func() {
			j.add("all up")
			cancel()
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"up a", "up b", "up c", "all up", "down c", "down b", "down a"}
		if !slices.Equal(j.lines, want) {
			t.Errorf("got %v, want %v", j.lines, want)
		}
	})
}

func TestAPartThatFailsEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, run := range map[string]func(context.Context) error{
			"with an error": func(context.Context) error { return errors.New("port taken") },
			"with a panic":  func(context.Context) error { panic("port taken") },
			"with nothing":  func(context.Context) error { return nil },
		} {
			var j journal
			err := runParts(t.Context(), slog.New(slog.DiscardHandler),
				[]part{j.part("a", 0), {name: "b", run: run}, j.part("c", time.Hour)}, func() { j.add("all up") })
			if err == nil || !strings.HasPrefix(err.Error(), "b") {
				t.Errorf("%s: got %v", name, err)
			}
			if want := []string{"up a", "down a"}; !slices.Equal(j.lines, want) {
				t.Errorf("%s: got %v, want %v", name, j.lines, want)
			}
		}
	})
}

func TestAPartThatDoesNotStopIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan struct{})
		stuck := part{name: "stuck", run: func(context.Context) error { <-end; return nil }}
		var j journal
		began := time.Now()
		if err := runParts(ctx, slog.New(slog.NewTextHandler(&log, nil)), []part{j.part("a", 0), stuck}, cancel); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != stopTime {
			t.Errorf("took %v", took)
		}
		if !strings.Contains(log.String(), "part=stuck") || !slices.Contains(j.lines, "down a") {
			t.Errorf("log %q, journal %v", log.String(), j.lines)
		}
		close(end)
	})
}

func TestStoppingWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := runParts(ctx, slog.New(slog.DiscardHandler), []part{j.part("a", 0), j.part("b", time.Hour), j.part("c", 0)}, func() { j.add("all up") }); err != nil {
			t.Error(err)
		}
		if want := []string{"up a", "down a"}; !slices.Equal(j.lines, want) {
			t.Errorf("got %v, want %v", j.lines, want)
		}
	})
}
