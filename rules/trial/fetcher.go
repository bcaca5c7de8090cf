package trial

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/rules"
)

// fetcher answers the HTTP requests of rules with what a test says.
type fetcher struct {
	mu      sync.Mutex
	answers []*answer
	asked   []asked // that no step has taken
}

// answer is what requests to a URL get: the last one that was given counts.
type answer struct {
	url   string // with * for any text without a slash
	times int    // how often; below 0 is always
	reply rules.Reply
}

// asked is one try of a request.
type asked struct {
	method, url string
	body        []byte
}

// Fetch gives the answer that the URL has, and an error if it has none.
func (f *fetcher) Fetch(_ context.Context, r *rules.Request) (*rules.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	method := r.Method
	if method == "" {
		method = "GET"
	}
	if len(f.asked) >= maxRouted {
		return nil, fmt.Errorf("more than %d requests in one trial", maxRouted)
	}
	f.asked = append(f.asked, asked{method: method, url: r.URL, body: r.Body})
	for i := len(f.answers) - 1; i >= 0; i-- {
		a := f.answers[i]
		if matched, _ := path.Match(a.url, r.URL); (!matched && a.url != r.URL) || a.times == 0 {
			continue
		}
		if a.times > 0 {
			a.times--
		}
		if a.reply.Err != "" {
			return nil, fmt.Errorf("%s", a.reply.Err)
		}
		reply := a.reply
		reply.Header = maps.Clone(reply.Header)
		return &reply, nil
	}
	return nil, fmt.Errorf("%w: the test has no reply for %s %s", rules.ErrForbidden, method, r.URL)
}

func (f *fetcher) answer(a *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = append(f.answers, a)
}

// unseen returns the requests to a URL that no step has taken yet, and takes them.
func (f *fetcher) unseen(url string) []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all, rest []asked
	for _, a := range f.asked {
		if matched, _ := path.Match(url, a.url); matched || a.url == url {
			all = append(all, a)
		} else {
			rest = append(rest, a)
		}
	}
	f.asked = rest
	return all
}

func (a *asked) String() string {
	return strings.TrimSpace(a.method + " " + a.url + " " + abridged(string(a.body)))
}

// drain takes all requests that were made.
func (f *fetcher) drain() []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.asked
	f.asked = nil
	return all
}
