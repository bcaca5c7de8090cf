package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/plugins/sdk"
)

// funcs are functions that do well or badly.
func funcs() []sdk.Func {
	quick := 300 * time.Millisecond
	return []sdk.Func{
		{Name: "sum", Doc: "sum(a, b)", Timeout: sdk.MaxFuncTimeout, Call: sum},
		{Name: "echo", Timeout: sdk.MaxFuncTimeout, Call: func(_ context.Context, args sdk.Args) (any, error) { return args, nil }},
		{Name: "refuse", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { return nil, errors.New("the station is closed") }},
		{Name: "panic", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { panic("at the disco") }},
		{Name: "channel", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { return make(chan int), nil }},
		{Name: "large", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { return strings.Repeat("x", 1<<20), nil }},
		{Name: "deaf", Timeout: quick, Call: func(context.Context, sdk.Args) (any, error) { signalless(); return nil, nil }},
		{Name: "patient", Timeout: quick, Call: func(ctx context.Context, _ sdk.Args) (any, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{Name: "exit", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { os.Exit(5); return nil, nil }},
		{Name: "freeze", Timeout: quick, Call: func(context.Context, sdk.Args) (any, error) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			signalless() // it may take a moment to stop
			return nil, nil
		}},
		{Name: "wait", Timeout: sdk.MaxFuncTimeout, Call: func(ctx context.Context, _ sdk.Args) (any, error) {
			inside.Add(1)
			defer inside.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		{Name: "waiting", Timeout: sdk.MaxFuncTimeout, Call: func(context.Context, sdk.Args) (any, error) { return inside.Load(), nil }},
		{Name: "standard", Doc: "of the default timeout", Call: sum},
	}
}

// inside counts the calls of wait.
var inside atomic.Int64

func sum(_ context.Context, args sdk.Args) (any, error) {
	var a, b float64
	if err := args.Decode(&a, &b); err != nil {
		return nil, err
	}
	return a + b, nil
}
