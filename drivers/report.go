package drivers

import (
	"strings"
	"time"
)

// reports keeps errors that repeat from filling the log: the first of a kind is
// logged at once, then one a period, with how many there were.
type reports struct {
	every time.Duration
	kinds map[string]*report
}

type report struct {
	at    time.Time
	count int
}

// maxLogged bounds what a log says of an error that may name what was to be written.
const maxLogged = 200

// brief is the beginning of an error, for a log.
func brief(err error) string {
	said := err.Error()
	if len(said) > maxLogged {
		said = strings.ToValidUTF8(said[:maxLogged], "") + "…"
	}
	return said
}

// due counts an error of a kind and says whether to log it now, and how many came
// since the last was logged.
func (r *reports) due(kind string) (since int, due bool) {
	now := time.Now()
	k := r.kinds[kind]
	if k == nil {
		if r.kinds == nil {
			r.kinds = make(map[string]*report)
		}
		k = &report{}
		r.kinds[kind] = k
	}
	k.count++
	if !k.at.IsZero() && now.Sub(k.at) < r.every {
		return k.count, false
	}
	since = k.count
	k.at, k.count = now, 0
	return since, true
}
