package plugins

import (
	"context"
	"log/slog"
	"time"
)

// Backoff gives tests the pauses of a plugin that fails.
func Backoff(first, most, healthy time.Duration) func(ran time.Duration, refused bool) (time.Duration, bool) {
	b := &backoff{first: first, most: most, healthy: healthy}
	return b.next
}

// ConnectToDead starts a plugin that ends right after its handshake and connects to
// it only when it has ended.
func ConnectToDead(ctx context.Context, m *Manifest) error {
	o, err := Options{}.withDefaults()
	if err != nil {
		return err
	}
	i, err := newInstance(m, &o, o.Log)
	if err != nil {
		return err
	}
	defer i.end()
	defer func() { _ = i.proc.program.Close() }()
	if _, err := i.client.Start(); err != nil {
		return err
	}
	for again := time.NewTicker(time.Millisecond); !i.client.Exited(); {
		<-again.C
	}
	return i.connect(ctx)
}

// LateStart tells whether a driver is offered when its manifest changed just before
// the program of the former one came to run.
func LateStart(former, now *Manifest) bool {
	s := newSlot(former.Name, &Options{Log: slog.New(slog.DiscardHandler)}, func() {})
	s.set(former, nil)
	_, edition := s.wanted()
	s.set(now, nil)
	s.running(&instance{manifest: former}, edition)
	_, ok := s.offers(now.Drivers[0])
	return ok
}

// Fuse gives tests what keeps callers from a function that does not answer, and takes a
// second at most.
func Fuse() (ask func(now time.Time) error, told func(back bool, now time.Time)) {
	f := &fuse{}
	return func(now time.Time) error { return f.ask(now, time.Second) }, f.told
}
