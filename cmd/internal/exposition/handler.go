package exposition

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
)

// mostAtOnce is how many scrapes are answered at once: each looks at everything.
const mostAtOnce = 4

// Handler answers scrapes with what fill puts on an empty page. It compresses for who
// takes gzip, and with ?name[]=NAME, which may be repeated, shows those families only.
// Beyond four requests at once the answer is 503.
func Handler(fill func(*Page)) http.Handler {
	slots := make(chan struct{}, mostAtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(w, fmt.Sprintf("%d requests for metrics are under way: try again later", mostAtOnce), http.StatusServiceUnavailable)
			return
		}
		var page Page
		fill(&page)
		text := page.Append(nil, r.URL.Query()["name[]"]...)
		h := w.Header()
		h.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		h.Set("Vary", "Accept-Encoding")
		if !takesGzip(r.Header.Values("Accept-Encoding")) {
			_, _ = w.Write(text) // a reader that went away is its own loss
			return
		}
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(text)
		_ = z.Close()
	})
}

// takesGzip reads Accept-Encoding (RFC 9110 §12.5.3): a weight of 0 is a no.
func takesGzip(accept []string) bool {
	for _, coding := range strings.Split(strings.Join(accept, ","), ",") {
		name, weight, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return strings.Trim(weight, "q=0.") != "" || weight == ""
		}
	}
	return false
}
