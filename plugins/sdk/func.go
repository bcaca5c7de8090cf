package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// MaxFuncTimeout is the longest that a function may take.
const MaxFuncTimeout = 30 * time.Second

// maxFuncCalls is how many calls of functions may be on their way at once, those that
// the gateway gave up among them.
const maxFuncCalls = 64

// Func is a function that rules can call by its name: plugin("name", ...) in
// expressions and in scripts.
type Func struct {
	// Name is what rules call it: letters, digits, ".", "_" and "-". The manifest lists
	// the same names. Required.
	Name string
	// Doc says in a line what it does and what its arguments are.
	Doc string
	// Timeout is how long the gateway waits for it: 0 means 1 s, [MaxFuncTimeout] is
	// the most. What waits is a rule, and others behind it: be quick.
	Timeout time.Duration
	// Call calculates. It may be called by many goroutines at once. Its context ends
	// when the gateway gives the call up, or the plugin ends. The result is anything that
	// encoding/json can write, in at most 1 MiB; the error is told to whoever reads why
	// the rule failed. A panic is an error. Required.
	Call func(ctx context.Context, args Args) (any, error)
}

// Args are the arguments of a call, a JSON text each.
type Args []json.RawMessage

// Decode writes the arguments into what the pointers point to, as json.Unmarshal does.
// It is an error if there are more or fewer than pointers.
func (a Args) Decode(into ...any) error {
	if len(a) != len(into) {
		return fmt.Errorf("it takes %d arguments, not %d", len(into), len(a))
	}
	for i := range a {
		if err := json.Unmarshal(a[i], into[i]); err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return nil
}

func (p Plugin) checkFuncs() error {
	names := make(map[string]bool)
	for _, f := range p.Funcs {
		switch {
		case f.Name == "":
			return fmt.Errorf("plugin %q: a function has no name", p.Name)
		case names[f.Name]:
			return fmt.Errorf("plugin %q: function %q is given twice", p.Name, f.Name)
		case f.Call == nil:
			return fmt.Errorf("plugin %q: function %q has no Call", p.Name, f.Name)
		case f.Timeout < 0 || f.Timeout > MaxFuncTimeout:
			return fmt.Errorf("plugin %q: function %q: timeout %v is not between 0 and %v", p.Name, f.Name, f.Timeout, MaxFuncTimeout)
		}
		names[f.Name] = true
	}
	return nil
}

// funcServer answers the gateway with the plugin's functions.
type funcServer struct {
	wire.UnimplementedFuncServer
	server *server
	turns  chan struct{} // capacity maxFuncCalls: one for each call on its way
}

func newFuncServer(s *server) *funcServer {
	return &funcServer{server: s, turns: make(chan struct{}, maxFuncCalls)}
}

// ListFuncs implements wire.FuncServer.
func (s *funcServer) ListFuncs(context.Context, *wire.ListFuncsRequest) (*wire.ListFuncsReply, error) {
	reply := &wire.ListFuncsReply{}
	for _, f := range s.server.plugin.Funcs {
		reply.Funcs = append(reply.Funcs, &wire.FuncInfo{
			Name: f.Name, Doc: strings.ToValidUTF8(f.Doc, "\uFFFD"), Timeout: int64(f.Timeout),
		})
	}
	return reply, nil
}

// CallFunc implements wire.FuncServer.
func (s *funcServer) CallFunc(ctx context.Context, req *wire.CallFuncRequest) (*wire.CallFuncReply, error) {
	for _, f := range s.server.plugin.Funcs {
		if f.Name != req.GetFunc() {
			continue
		}
		select {
		case s.turns <- struct{}{}:
			defer func() { <-s.turns }()
		default:
			return &wire.CallFuncReply{Error: fmt.Sprintf("%d calls have not come back", maxFuncCalls)}, nil
		}
		args := make(Args, len(req.GetArgs()))
		for i, a := range req.GetArgs() {
			args[i] = a
		}
		result, err := s.call(ctx, f, args)
		if err != nil && ctx.Err() != nil { // not an answer: the gateway's own clock may say it a moment later
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if err != nil {
			return &wire.CallFuncReply{Error: errorText(err)}, nil
		}
		return &wire.CallFuncReply{Result: result}, nil
	}
	return nil, status.Errorf(codes.NotFound, "plugin %q has no function %q", s.server.plugin.Name, req.GetFunc())
}

// call runs code of the author's and writes what it gives.
func (s *funcServer) call(ctx context.Context, f Func, args Args) (result []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			stack = stack[:min(len(stack), maxStack)]
			s.server.log.Error("function panicked", "function", f.Name, "panic", fmt.Sprint(p), "stack", string(stack))
			result, err = nil, fmt.Errorf("it panicked: %v", p)
		}
	}()
	v, err := f.Call(ctx, args)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("its result cannot be written as JSON: %w", err)
	}
	result = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(result) > wire.MaxFuncJSON {
		return nil, fmt.Errorf("its result has %d bytes, more than %d", len(result), wire.MaxFuncJSON)
	}
	return result, nil
}

// errorText is what is sent of an error, which is never nothing.
func errorText(err error) string {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return "it was given up: " + err.Error()
	}
	text := err.Error()
	if len(text) > wire.MaxFuncError {
		text = text[:wire.MaxFuncError] + "…"
	}
	if text = strings.ToValidUTF8(text, "\uFFFD"); text == "" {
		return "it failed without saying why"
	}
	return text
}
