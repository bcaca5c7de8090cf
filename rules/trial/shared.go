package trial

import (
	"context"

	"github.com/gatehouse/gatehouse/rules"
)

// Shared returns languages for the engines of trials, of languages that somebody else
// runs: an engine that ends does not end them, so that a script worker serves one trial
// after the other.
func Shared(languages []rules.Language) []rules.Language {
	all := make([]rules.Language, len(languages))
	for i, l := range languages {
		all[i] = shared{l}
	}
	return all
}

type shared struct{ rules.Language }

// Skips implements rules.Selective as the language does.
func (s shared) Skips(name string) bool {
	selective, ok := s.Language.(rules.Selective)
	return ok && selective.Skips(name)
}

// Run waits for ctx.
func (shared) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
