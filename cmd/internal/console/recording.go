package console

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// recordingTime is how long whoever takes a recording may take nothing.
const recordingTime = 30 * time.Second

// recording streams what is published, as Options.Record writes it, until the client goes.
func (c *Console) recording(w http.ResponseWriter, r *http.Request) {
	filters := r.URL.Query()["filter"]
	if len(filters) == 0 {
		filters = []string{"#"}
	}
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
	err := c.opt.Record(ctx, filters, func(lines []byte) error {
		began = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := control.SetWriteDeadline(time.Now().Add(recordingTime)); err != nil {
			return err
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil && !began {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	}
}
