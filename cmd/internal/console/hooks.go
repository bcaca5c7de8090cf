package console

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// What a webhook may say no with.
var (
	ErrToken  = errors.New("the token is not that of the webhook")
	ErrNoHook = errors.New("no rule has this webhook")
)

var errHookBody = errors.New("the body is longer than 1 MiB, or was cut off")

// mostHookBody bounds the body of a webhook, which becomes a payload.
const mostHookBody = 1 << 20

// hook runs the rules of a webhook. The token is not taken from the URL, which proxies
// and logs keep.
func (c *Console) hook(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = r.Header.Get("X-Gatehouse-Token")
	}
	body := func() ([]byte, error) { // read for who has the token
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostHookBody))
		if err != nil {
			return nil, errHookBody
		}
		return b, nil
	}
	switch err := c.opt.Hook(r.Context(), r.PathValue("name"), token, body, r.Header.Get("Content-Type")); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errHookBody):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case errors.Is(err, ErrToken):
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, err.Error(), http.StatusUnauthorized)
	case errors.Is(err, ErrNoHook):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		http.Error(w, "the rules did not run: "+err.Error(), http.StatusServiceUnavailable)
	}
}
