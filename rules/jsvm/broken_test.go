package jsvm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// Each file of testdata/broken.txtar is broken in its own way: the version before stays in
// force, the place is told, and the worker and the other scripts go on.
func TestBrokenScripts(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/broken.txtar")
	if err != nil || len(archive.Files) < 70 {
		t.Fatalf("%d broken files (%v)", len(archive.Files), err)
	}
	s := start(t)
	bus := &trial.Bus{}
	engine, err := rules.New(rules.Options{Languages: []rules.Language{s.lang}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx, bus) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, engine.Close()); err != nil {
			t.Error(err)
		}
	}()
	const before, beside = `on('a', m => publish('before', m.text))`, `on('a', m => publish('beside', m.text))`
	load := func(name, text string) error {
		return engine.Load(ctx, fstest.MapFS{name: {Data: []byte(text)}, "beside.js": {Data: []byte(beside)}})
	}
	for _, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			first, _, _ := strings.Cut(string(f.Data), "\n")
			line, text := 0, ""
			if place, said, ok := strings.Cut(first, ": "); ok {
				first, text = place, said
			}
			if _, err := fmt.Sscanf(first, "// line %d", &line); err != nil {
				t.Fatal(err)
			}
			if err := load(f.Name, before); err != nil {
				t.Fatal(err)
			}
			<-engine.Ready()
			err := load(f.Name, string(f.Data))
			var at *rules.Error
			if !errors.As(err, &at) || at.File != f.Name || at.Line != line || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want line %d and %q", err, line, text)
			}
			had := map[string]int{"before": len(bus.Routed("before")), "beside": len(bus.Routed("beside"))}
			if err := bus.Publish(ctx, message.Message{Topic: "a", Payload: []byte(f.Name)}); err != nil {
				t.Fatal(err)
			}
			patient, end := context.WithTimeout(ctx, 20*time.Second)
			defer end()
			for _, topic := range []string{"before", "beside"} {
				n := had[topic]
				if heard := bus.Await(patient, topic, n+1); len(heard) != n+1 || string(heard[n].Payload) != f.Name {
					t.Errorf("%s does not hear any more", topic)
				}
			}
		})
	}
}
