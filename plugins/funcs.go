package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// Bounds of the calls of functions.
const (
	defaultFuncTimeout = time.Second
	maxFuncTimeout     = 30 * time.Second
	maxFuncCalls       = 16 // of one plugin, at once; others wait within their time
)

// FuncInfo is a function that a plugin offers.
type FuncInfo struct {
	Name    string
	Doc     string        // as the plugin says; empty before it first ran
	Timeout time.Duration // how long a call may take; 0 before it first ran
}

// Funcs are the functions of a host's plugins.
type Funcs struct{ host *Host }

// Funcs are the functions of all plugins, whichever these are when one is called.
func (h *Host) Funcs() Funcs { return Funcs{host: h} }

// Call calls a function by its name. The arguments are a JSON array of at most 1 MiB, the
// result is JSON of at most 1 MiB. It returns within the time that the function may
// take (1 s, or what the plugin says, up to 30 s), or when ctx ends.
//
// The error says in words which function of which plugin failed and why: no plugin offers
// it, its plugin is down (then it wraps [ErrNotRunning]), it did not answer in time, or
// what it said itself. One that has not answered three times in a row is left alone for
// 1 s, 2 s ... 30 s: its calls fail at once.
func (f Funcs) Call(ctx context.Context, name string, args []byte) ([]byte, error) {
	f.host.mu.Lock()
	s := f.host.funcs[name]
	f.host.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("no plugin offers a function %q", name)
	}
	inst, err := s.current()
	if err != nil {
		return nil, fmt.Errorf("function %q: %w", name, err)
	}
	result, err := inst.callFunc(ctx, name, args)
	if err != nil {
		return nil, fmt.Errorf("function %q of plugin %q: %w", name, s.name, err)
	}
	return result, nil
}

// offeredFunc is a function of a running plugin.
type offeredFunc struct {
	FuncInfo
	fuse fuse
}

// listFuncs asks for the functions that the manifest promises.
func (i *instance) listFuncs(ctx context.Context) error {
	if len(i.manifest.Functions) == 0 {
		return nil // it may be one from before there were functions
	}
	list, err := i.funcs.ListFuncs(ctx, &wire.ListFuncsRequest{})
	if status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("%w: it offers no functions at all: its SDK is from before there were any", ErrRefused)
	}
	if err != nil {
		return err
	}
	var names []string
	for _, f := range list.GetFuncs() {
		names = append(names, f.GetName())
		timeout := time.Duration(f.GetTimeout())
		if timeout <= 0 {
			timeout = defaultFuncTimeout
		}
		if slices.Contains(i.manifest.Functions, f.GetName()) {
			i.offered[f.GetName()] = &offeredFunc{FuncInfo: FuncInfo{
				Name: f.GetName(), Doc: shorten(f.GetDoc()), Timeout: min(timeout, maxFuncTimeout),
			}}
		}
	}
	for _, name := range i.manifest.Functions {
		if i.offered[name] == nil {
			return fmt.Errorf("%w: it offers no function %q, only %q", ErrRefused, name, names)
		}
	}
	return nil
}

// callFunc calls a function that the manifest promises.
func (i *instance) callFunc(ctx context.Context, name string, args []byte) ([]byte, error) {
	f := i.offered[name]
	if f == nil { // the manifest has changed
		return nil, ErrNotRunning
	}
	req := &wire.CallFuncRequest{Func: name}
	if err := setArgs(req, args); err != nil {
		return nil, err
	}
	if err := f.fuse.ask(time.Now(), f.Timeout); err != nil {
		return nil, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	select {
	case i.turns <- struct{}{}:
		defer func() { <-i.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%d calls of the plugin have not come back: %w", maxFuncCalls, i.funcFailure(ctx, ctx.Err(), began))
	}
	reply, err := i.funcs.CallFunc(ctx, req)
	if err == nil || i.missed(ctx, err, time.Since(began), f.Timeout) {
		f.fuse.told(err == nil, time.Now())
	}
	switch {
	case err != nil:
		return nil, i.funcFailure(ctx, err, began)
	case reply.GetError() != "":
		return nil, errors.New(clipped(reply.GetError()))
	case len(reply.GetResult()) > wire.MaxFuncJSON:
		return nil, fmt.Errorf("its result has %d bytes, more than %d", len(reply.GetResult()), wire.MaxFuncJSON)
	case !json.Valid(reply.GetResult()):
		return nil, errors.New("its result is not JSON")
	}
	return reply.GetResult(), nil
}

// missed reports whether a function had its time, or a second, and did not answer.
func (i *instance) missed(ctx context.Context, err error, took, timeout time.Duration) bool {
	over := errors.Is(ctx.Err(), context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded // the plugin's clock may be first
	return over && !i.down() && took >= min(timeout, defaultFuncTimeout)*9/10
}

func setArgs(req *wire.CallFuncRequest, args []byte) error {
	if len(args) > wire.MaxFuncJSON {
		return fmt.Errorf("the arguments have %d bytes, more than %d", len(args), wire.MaxFuncJSON)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(args, &list); err != nil {
		return fmt.Errorf("the arguments are not a JSON array: %w", err)
	}
	for _, a := range list {
		req.Args = append(req.Args, a)
	}
	return nil
}

// funcFailure is what the error of a call means.
func (i *instance) funcFailure(ctx context.Context, err error, began time.Time) error {
	code := status.Code(err)
	switch {
	case i.down() || code == codes.Unavailable:
		return fmt.Errorf("%w: it has stopped", ErrNotRunning)
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || code == codes.DeadlineExceeded:
		return fmt.Errorf("no answer within %v", time.Since(began).Round(time.Millisecond))
	case ctx.Err() != nil:
		return fmt.Errorf("given up: %w", context.Cause(ctx))
	case code == codes.Canceled: // the connection was closed
		return fmt.Errorf("%w: it is stopping", ErrNotRunning)
	}
	return errors.New(clipped(status.Convert(err).Message()))
}

func clipped(s string) string {
	if len(s) > wire.MaxFuncError {
		return s[:wire.MaxFuncError] + "…"
	}
	return s
}

// fuse keeps callers from waiting, one after the other, for a function that does not
// answer.
type fuse struct {
	mu     sync.Mutex
	misses int       // in a row
	until  time.Time // not called before, once there are mostMisses
}

const (
	mostMisses  = 3
	firstRest   = time.Second
	longestRest = 30 * time.Second
)

// ask reports, as an error, that the function is not to be called now. While it rests,
// one call at a time tries.
func (f *fuse) ask(now time.Time, timeout time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.misses < mostMisses {
		return nil
	}
	if left := f.until.Sub(now); left > 0 {
		return fmt.Errorf("it is not asked again for %v: it has not answered %d times in a row", left.Round(time.Millisecond), f.misses)
	}
	f.until = now.Add(timeout + firstRest)
	return nil
}

// told notes whether a call came back.
func (f *fuse) told(back bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if back {
		f.misses = 0
		return
	}
	f.misses++
	if f.misses >= mostMisses {
		f.until = now.Add(min(firstRest<<min(f.misses-mostMisses, 10), longestRest))
	}
}
