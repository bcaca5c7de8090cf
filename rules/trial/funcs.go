package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/rules"
)

// funcs answers for the functions of plugins with what a test says: no plugin runs in a
// trial. It implements rules.Funcs.
type funcs struct {
	mu    sync.Mutex
	gives map[string][]*gives
}

// gives is what a function gives: the last one that was said counts.
type gives struct {
	name   string
	times  int // how often; below 0 is always
	result []byte
	err    string // instead
}

var _ rules.Funcs = (*funcs)(nil)

// Call gives what the test says, and an error if it says nothing.
func (f *funcs) Call(_ context.Context, name string, _ []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	said := f.gives[name]
	for i := len(said) - 1; i >= 0; i-- {
		g := said[i]
		if g.times == 0 {
			continue
		}
		if g.times > 0 {
			g.times--
		}
		if g.err != "" {
			return nil, errors.New(g.err)
		}
		return g.result, nil
	}
	return nil, fmt.Errorf("no plugin runs in tests and replays, and nothing says what the function %q gives: in a test, the step \"function: %s\" does", name, name)
}

func (g *gives) run(_ context.Context, w *World) error {
	said := *g
	w.funcs.mu.Lock()
	defer w.funcs.mu.Unlock()
	if w.funcs.gives == nil {
		w.funcs.gives = make(map[string][]*gives)
	}
	w.funcs.gives[g.name] = append(w.funcs.gives[g.name], &said)
	return nil
}

// readFunction reads what a function of a plugin gives from now on.
func readFunction(r *reader, s *stepReader) action {
	g := &gives{name: r.text(s.verb.value, "function"), times: s.takeNumber("times", maxRouted)}
	g.err = s.takeText("error")
	n, given := s.take("gives")
	if given == (g.err != "") {
		r.errorf(s.node, "the step has one of gives, a value, and error, a text")
	}
	if given {
		g.result = resultOf(r, n)
	}
	return g
}

func resultOf(r *reader, n ast.Node) []byte {
	b, err := json.Marshal(r.value(n))
	if err != nil {
		r.errorf(n, "%v", err)
	}
	return b
}
