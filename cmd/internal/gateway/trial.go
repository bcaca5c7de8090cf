package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// Try runs the rule languages of the gateway while f does, which gets what engines of
// trials are made of by a configuration. It returns f's error.
func Try(ctx context.Context, cfg *config.Config, opt Options, f func(context.Context, rules.Options) error) error {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	languages, _, err := newLanguages(opt)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make([]error, len(languages))
	var wait sync.WaitGroup
	for i, l := range languages {
		wait.Go(func() { ended[i] = l.Run(running) })
	}
	err = f(ctx, rulesOptions(&cfg.Rules, trial.Shared(languages), opt.Log))
	stop()
	wait.Wait()
	return errors.Join(append(ended, err)...)
}
