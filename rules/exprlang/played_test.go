package exprlang_test

import (
	"context"
	"regexp"
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

// scenario is a rule and what it does, as standIn.play tells it.
type scenario struct{ name, rule, scenario string }

// playAll plays scenarios with a stand-in for the engine, which sees everything, and
// with the engine itself, of which only what is published is seen.
func playAll(t *testing.T, all []scenario) {
	for _, c := range all {
		source := "rules:\n  - name: r/1" + c.rule + "\n"
		t.Run(c.name, func(t *testing.T) { newStandIn(t, source).play(c.scenario) })
		if !unfitForTheEngine.MatchString(c.rule + c.scenario) {
			t.Run(c.name+", in the engine", func(t *testing.T) { playInEngine(t, source, c.scenario) })
		}
	}
}

var (
	// A trial of the engine cuts the power, and nobody is there to answer or to be busy.
	unfitForTheEngine = regexp.MustCompile(`silent:|debounce:|throttle:|http:|change `)
	unseen            = regexp.MustCompile(`^= (error:|refused:|missed|[A-Z]+ )`)
)

func playInEngine(t *testing.T, source, scenario string) {
	opt := trial.Options{
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
		Folder: fstest.MapFS{"t.yaml": &fstest.MapFile{Data: []byte(source)}},
	}
	err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
		var got, want []string
		look := func() {
			msgs, take := w.Unseen("#")
			for _, m := range msgs {
				got = append(got, strings.TrimSpace("= "+m.Topic+" "+string(m.Payload)))
			}
			take(len(msgs))
		}
		for line := range strings.Lines(scenario) {
			line = strings.TrimSpace(line)
			verb, rest, _ := strings.Cut(line, " ")
			var err error
			switch verb {
			case ">":
				name, payload, _ := strings.Cut(rest, " ")
				_, err = w.Publish(ctx, message.Message{Topic: name, Payload: []byte(payload), Origin: "client/x"})
			case "+":
				err = w.Advance(ctx, mustSpan(t, rest))
			case "restart":
				down := time.Duration(0)
				if words := strings.Fields(rest); len(words) > 0 && words[0] != "cut" {
					down = mustSpan(t, words[0])
				}
				err = w.Restart(ctx, down, time.Time{})
			case "=":
				if !unseen.MatchString(line) {
					want = append(want, line)
				}
				continue
			}
			if err != nil {
				return err
			}
			if line != "" {
				got, want = append(got, line), append(want, line)
			}
			look()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func mustSpan(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a hidden rule does is told of the rule that it is a part of.
func TestPartsAreToldAsTheirRule(t *testing.T) {
	var fired []string
	opt := trial.Options{
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
		Folder: fstest.MapFS{"t.yaml": {Data: []byte("rules:\n  - {name: r, on: in, do: [{wait: {on: answer}}, {publish: out}]}\n")}},
		Observe: func(r rules.Ran) {
			if r.Entry.Outcome == rules.RanFired {
				fired = append(fired, r.Rule.Name)
			}
			if r.Rule.Hidden {
				t.Errorf("a part is told: %+v", r.Rule)
			}
		},
	}
	err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
		for _, name := range []string{"answer", "in", "answer"} {
			if _, err := w.Publish(ctx, message.Message{Topic: name}); err != nil {
				return err
			}
		}
		return nil
	})
	if diff := cmp.Diff([]string{"r", "r"}, fired); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
