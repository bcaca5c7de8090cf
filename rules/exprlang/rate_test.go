package exprlang_test

import (
	"context"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// A rate is of one life of the gateway: nothing of it is written, and after a restart the
// whole of it is there.
func TestARateIsNotKept(t *testing.T) {
	playFile(t, "rules:\n  - {name: r, on: in, rate: 2/h, do: [{publish: out}]}\n", func(ctx context.Context, w *trial.World) {
		for life := range 2 {
			for range 4 {
				put(ctx, t, w, message.Message{Topic: "in"})
			}
			if got := published(w); len(got) != 2 {
				t.Errorf("in life %d: %d runs of 4, want 2", life, len(got))
			}
			if err := w.Restart(ctx, time.Second, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
