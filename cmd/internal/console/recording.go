package console

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// streamTime is how long whoever takes a stream may take nothing.
const streamTime = 30 * time.Second

// recording streams what is published, as Options.Record writes it, until the client goes.
func (c *Console) recording(w http.ResponseWriter, r *http.Request) {
	filters := r.URL.Query()["filter"]
	if len(filters) == 0 {
		filters = []string{"#"}
	}
	c.stream(w, r, http.StatusUnprocessableEntity, func(ctx context.Context, write func([]byte) error) error {
		return c.opt.Record(ctx, filters, write)
	})
}

// stream sends the lines of JSON that run writes until run returns; its context ends when
// the client goes, or the console does. The first write, of nothing for instance, sends the
// status; an error before it is answered with the one given.
func (c *Console) stream(w http.ResponseWriter, r *http.Request, refusal int, run func(ctx context.Context, write func([]byte) error) error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // else it ends when the time to read the request is over
	ctx, cancel := context.WithCancel(r.Context())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	wait.Go(func() {
		select {
		case <-c.ending:
			cancel()
		case <-ctx.Done():
		}
	})
	began := false
	err := run(ctx, func(lines []byte) error {
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if err := control.SetWriteDeadline(time.Now().Add(streamTime)); err != nil {
			return err
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil && !began {
		http.Error(w, err.Error(), refusal)
	}
}
