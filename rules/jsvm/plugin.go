package jsvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/dop251/goja"
)

// Bounds of the functions of plugins that an event calls.
const (
	maxPluginCalls = 16
	maxPluginJSON  = 1 << 20 // bytes of the arguments
)

// askRecord asks the gateway, in the middle of an event, for a function of a plugin.
type askRecord struct {
	Seq  uint64 // of the call in progress
	Name string
	Args []byte // a JSON array
}

// toldRecord answers an askRecord. It has a pipe of its own: the one of requests may be
// full of what waits for the event to end.
type toldRecord struct {
	Result []byte // JSON
	Err    string // why there is none; "" if there is
}

func (a *askRecord) write(w *encoder) { w.uint(a.Seq); w.text(a.Name); w.bytes(a.Args) }
func (a *askRecord) read(r *decoder)  { a.Seq, a.Name, a.Args = r.uint(), r.text(), r.bytes() }

func (t *toldRecord) write(w *encoder) { w.bytes(t.Result); w.text(t.Err) }
func (t *toldRecord) read(r *decoder)  { t.Result, t.Err = r.bytes(), r.text() }

// jsPlugin is plugin(name, ...args): the result of a function of a plugin. The event
// waits for it, and its clock stands still meanwhile.
func (s *script) jsPlugin(call goja.FunctionCall) goja.Value {
	e := s.in
	name, ok := call.Argument(0).(goja.String)
	switch {
	case s.top:
		panic(s.rt.NewTypeError("plugin cannot be called at the top level, where a file is only read: call it in a handler, such as start(() => ...)"))
	case !ok:
		panic(s.rt.NewTypeError("plugin needs the name of a function: plugin('name', ...)"))
	case name.Length() > maxNameBytes:
		panic(s.rt.NewTypeError("no function has a name of %d characters", name.Length()))
	}
	args := s.pluginArgs(call.Arguments[1:])
	if e.calls++; e.calls > maxPluginCalls {
		panic(s.newError("function %s is not called: an event calls at most %d functions of plugins", strconv.Quote(name.String()), maxPluginCalls))
	}
	paused, ok := s.watch.pause()
	if !ok {
		panic(s.newError("%s", s.watch.deadlineText())) // it is interrupted behind this
	}
	told, err := s.gateway(name.String(), args)
	took := s.watch.resume(paused)
	what := fmt.Sprintf("plugin(%q", name.String())
	if len(args) > 2 {
		what += ", " + string(args[1:min(len(args)-1, maxFactValue)])
	}
	what += ")"
	if err == nil && told.Err != "" {
		err = errors.New(told.Err)
	}
	if err != nil {
		s.fact(what, fmt.Appendf(nil, "%v (%d us)", err, took.Microseconds()))
		panic(s.newError("%v", err))
	}
	s.fact(what, fmt.Appendf(nil, "%s (%d us)", abridged(told.Result), took.Microseconds()))
	doc, err := parseDocument(s.rt, told.Result)
	if err != nil {
		panic(s.newError("function %q gave what cannot be read as JSON: %v", name.String(), err))
	}
	return doc.root
}

// pluginArgs writes arguments as a JSON array; what is undefined is null, as
// JSON.stringify has it.
func (s *script) pluginArgs(values []goja.Value) []byte {
	args := []byte{'['}
	for i, v := range values {
		if i > 0 {
			args = append(args, ',')
		}
		if goja.IsUndefined(v) {
			v = goja.Null()
		}
		args = append(args, s.encodeJSON(v)...)
		if len(args) > maxPluginJSON {
			panic(s.rt.NewTypeError("the arguments of a function of a plugin have more than %d bytes", maxPluginJSON))
		}
	}
	return append(args, ']')
}

// askGateway has the gateway call a function, and waits for what it tells.
func (w *worker) askGateway(name string, args []byte) (*toldRecord, error) {
	w.answer(&askRecord{Seq: w.shared.seq.Load(), Name: name, Args: args})
	if err := w.flush(); err != nil {
		return nil, err
	}
	body, err := readFrame(w.told)
	if err != nil {
		return nil, fmt.Errorf("the gateway does not answer: %w", err)
	}
	rec, _, err := decodeRecord(body)
	if err != nil {
		return nil, err
	}
	told, ok := rec.(*toldRecord)
	if !ok {
		return nil, fmt.Errorf("%w: a %T instead of what was asked for", errMalformed, rec)
	}
	return told, nil
}

// pause stops the clock of the event in progress. It reports false if the event was
// interrupted already.
func (w *watch) pause() (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fired {
		return time.Time{}, false
	}
	w.busy = false
	return time.Now(), true
}

// resume lets it go on, and tells how long it stood.
func (w *watch) resume(at time.Time) time.Duration {
	now := time.Now()
	w.mu.Lock()
	w.busy = true
	w.started = w.started.Add(now.Sub(at))
	w.asleep = false
	w.mu.Unlock()
	signal(w.wake)
	return now.Sub(at)
}

// asks calls functions of plugins for the worker of one session: one at a time, as its
// event stands still meanwhile.
type asks struct {
	link *link
	to   *os.File // the worker hears there
	wg   sync.WaitGroup
}

// serve calls a function for the event in flight and goes on at once.
func (a *asks) serve(ctx context.Context, q *askRecord) error {
	it, err := a.link.approach(q.Seq, false)
	if err != nil {
		return err
	}
	if !a.link.asking.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: asked for two functions at once", errMalformed)
	}
	name, args := q.Name, append([]byte(nil), q.Args...)
	a.wg.Go(func() {
		told := a.call(ctx, it, name, args)
		a.link.asking.Store(false)
		frame := appendRecord(beginFrame(nil), told)
		if err := finishFrame(frame); err != nil {
			frame = appendRecord(beginFrame(nil), &toldRecord{Err: err.Error()})
			_ = finishFrame(frame) // it is short
		}
		_, _ = a.to.Write(frame) // a worker that is gone is noticed elsewhere
	})
	return nil
}

func (a *asks) call(ctx context.Context, it *item, name string, args []byte) *toldRecord {
	funcs := it.prog.src.Funcs
	if funcs == nil {
		return &toldRecord{Err: fmt.Sprintf("function %q cannot be called: there are no plugins here", name)}
	}
	if !it.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, it.until)
		defer cancel()
	}
	result, err := funcs.Call(ctx, name, args)
	if err != nil {
		return &toldRecord{Err: cut(err.Error(), maxFault)}
	}
	return &toldRecord{Result: result}
}
