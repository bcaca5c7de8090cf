package gateway

import (
	"context"

	"github.com/gatehouse/gatehouse/broker/store/history"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

// pastView shows the history to the console.
type pastView struct{ h *history.History }

func (v pastView) Series() []console.Series {
	all := v.h.Series()
	shown := make([]console.Series, len(all))
	for i, s := range all {
		shown[i] = console.Series{Name: s.Name, Since: s.Since, Bytes: s.Bytes}
	}
	return shown
}

func (v pastView) Past(ctx context.Context, q console.PastQuery) ([]console.Past, error) {
	query := history.Query{Series: q.Series, From: q.From, To: q.To, Limit: q.Limit}
	if q.Step > 0 {
		all, err := v.h.Summaries(ctx, query, q.Step)
		shown := make([]console.Past, len(all))
		for i, s := range all {
			shown[i] = console.Past{At: s.At.UTC(), Value: s.Mean, Count: s.Count, Min: &s.Min, Max: &s.Max}
		}
		return shown, err
	}
	all, err := v.h.Points(ctx, query)
	shown := make([]console.Past, len(all))
	for i, p := range all {
		shown[i] = console.Past{At: p.At.UTC(), Value: p.Value, Count: 1}
	}
	return shown, err
}

var _ console.Historian = pastView{}
