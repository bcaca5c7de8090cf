package trial_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// gifted is a language whose programs have all that a program may have.
type gifted struct{ reused, sieved, asked atomic.Bool }

func (*gifted) Name() string         { return "gifted" }
func (*gifted) Extensions() []string { return []string{".gifted"} }

func (l *gifted) Compile(context.Context, rules.Source) (rules.Program, error) {
	return &giftedProgram{l}, nil
}

func (*gifted) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

type giftedProgram struct{ *gifted }

func (p *giftedProgram) Rules() []rules.Rule {
	all := make([]rules.Rule, 8)
	for i := range all {
		all[i] = rules.Rule{Name: fmt.Sprint("r", i), Line: 1 + i, Filters: []string{"in"}}
	}
	return all
}

func (p *giftedProgram) Run(_ context.Context, calls []rules.Call) []rules.Outcome {
	return make([]rules.Outcome, len(calls))
}

func (p *giftedProgram) Reuse([]rules.Outcome) { p.reused.Store(true) }

func (p *giftedProgram) Outdated() bool {
	p.asked.Store(true)
	return false
}

func (p *giftedProgram) Sieve([]int) func(*message.Message, []int) []int {
	p.sieved.Store(true)
	return nil
}

func (p *giftedProgram) Handles(string) bool                                   { return false }
func (p *giftedProgram) Save(bool, func(key string, value []byte) error) error { return nil }
func (p *giftedProgram) Close() error                                          { return nil }

// Who is told of runs has programs run as they do otherwise, with all that they are for
// the engine.
func TestAnObservedTrialRunsAsAnyOther(t *testing.T) {
	var runs atomic.Int32
	for name, observe := range map[string]func(rules.Ran){"observed": func(rules.Ran) { runs.Add(1) }, "alone": nil} {
		l := &gifted{}
		o := trial.Options{
			Folder:  folder("a.gifted", "x"),
			Engine:  rules.Options{Languages: []rules.Language{l}},
			Observe: observe,
		}
		err := trial.Run(t.Context(), o, func(ctx context.Context, w *trial.World) error {
			_, err := w.Publish(ctx, message.Message{Topic: "in"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{"reused": l.reused.Load(), "sieved": l.sieved.Load(), "asked": l.asked.Load()}
		if diff := cmp.Diff(map[string]bool{"reused": true, "sieved": true, "asked": true}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if n := runs.Load(); n < 8 {
		t.Errorf("%d runs were told", n)
	}
}
