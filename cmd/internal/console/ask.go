package console

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// askTime is how long a device may take to be read, its turn on the line among it.
const askTime = 25 * time.Second

// ask reads the points of a device that the query names, or all, and answers with them.
func ask(w http.ResponseWriter, r *http.Request, asker Asker) {
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	points, err := asker.Ask(ctx, r.PathValue("name"), r.URL.Query()["point"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(orEmpty(points)) // a reader that went away is its own loss
}
