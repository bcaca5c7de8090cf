package exprlang_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

var update = flag.Bool("update", false, "write the messages of testdata/broken anew")

// Each file of testdata/broken is broken in its own way; what is said of it stands
// in the .txt beside it.
func TestBrokenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 120 {
		t.Fatalf("%d broken files (%v)", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = exprlang.New().Compile(t.Context(), rules.Source{Name: name, Text: text})
			if err == nil {
				t.Fatal("it compiles")
			}
			for _, e := range flatten(err) {
				var place *rules.Error
				if !errors.As(e, &place) || place.Line == 0 || place.Column == 0 || place.Snippet == "" {
					t.Errorf("an error without its place: %v", e)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

// None of them takes the place of the version that serves, nor troubles another file.
func TestBrokenFilesKeepWhatServes(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const rule = "rules:\n  - {name: %s, on: in, do: [{publish: %s, payload: \"${text}\"}]}\n"
	serves := func(broken []byte) fstest.MapFS {
		return fstest.MapFS{"file.yaml": {Data: broken}, "other.yaml": {Data: fmt.Appendf(nil, rule, "other", "other")}}
	}
	bus := &trial.Bus{}
	engine, err := rules.New(rules.Options{Languages: []rules.Language{exprlang.New()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Load(t.Context(), serves(fmt.Appendf(nil, rule, "old", "old"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx, bus) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, engine.Close()); err != nil {
			t.Error(err)
		}
	}()
	<-engine.Ready()
	for n, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Load(ctx, serves(text)); err == nil {
			t.Errorf("%s is loaded", file)
		}
		if err := bus.Publish(ctx, message.Message{Topic: "in", Payload: []byte(file)}); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"old", "other"} {
			patient, end := context.WithTimeout(ctx, 20*time.Second)
			if heard := bus.Await(patient, topic, n+1); len(heard) != n+1 || string(heard[n].Payload) != file {
				t.Fatalf("%s: the rule %q does not serve any more", file, topic)
			}
			end()
		}
	}
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}
