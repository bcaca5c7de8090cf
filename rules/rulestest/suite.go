package rulestest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Sources are files of the language under test, which do the same in each.
type Sources struct {
	// Extension is the ending of the files.
	Extension string
	// Light has one After rule on home/+/door. If the payload's "open" is true it
	// publishes {"on":true} at QoS 1 to home/LEVEL/light/set, where LEVEL is the
	// second level of the topic; else nothing.
	Light string
	// Clean has one Before rule on raw/+/temp, which passes on errors. It drops a
	// message whose "c" is above 150. Others it sends to clean/LEVEL/temp with a
	// new field "twice", two times "c"; one without "c" passes.
	Clean string
	// Strict has one Before rule on strict/#, which rejects on errors and fails
	// when the payload has no number "c".
	Strict string
	// Broken does not compile because of its line BrokenLine.
	Broken     string
	BrokenLine int
}

// Suite tests what every language must do.
func Suite(t *testing.T, lang rules.Language, s Sources) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lang.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the language's Run returned %v", err)
		}
	})
	x := suite{lang: lang, sources: s}
	t.Run("names itself", x.names)
	t.Run("lists the rules of a file", x.lists)
	t.Run("says where a broken file is broken", x.broken)
	t.Run("does nothing before it is started", x.starts)
	t.Run("publishes when the condition holds", x.publishes)
	t.Run("returns an outcome for each call", x.outcomes)
	t.Run("returns an outcome for each call after its time is over", x.cancelled)
	t.Run("filters drop, replace and pass", x.filters)
	t.Run("a filter that fails does as it says", x.fails)
	t.Run("filters run at the same time", x.concurrently)
	t.Run("numbers keep their digits", x.digits)
	t.Run("works in the engine", x.engine)
}

type suite struct {
	lang    rules.Language
	sources Sources
}

const patience = 20 * time.Second

func (x suite) compile(t *testing.T, source string) rules.Program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := x.lang.Compile(ctx, rules.Source{
		Name: "file" + x.sources.Extension, Text: []byte(source), State: rules.NewState(nil),
	})
	if err != nil {
		t.Fatalf("a good file does not compile: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// started compiles and starts a file.
func (x suite) started(t *testing.T, source string) rules.Program {
	t.Helper()
	p := x.compile(t, source)
	outs := p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Now: time.Now()}})
	if len(outs) != 1 || outs[0].Err != nil {
		t.Fatalf("start: %+v", outs)
	}
	return p
}

func call(topic, payload string) rules.Call {
	return rules.Call{Message: &message.Message{Topic: topic, Payload: []byte(payload)}, Now: time.Now()}
}

func (x suite) names(t *testing.T) {
	if name := x.lang.Name(); name == "" || strings.ToLower(name) != name {
		t.Errorf("Name is %q, which is not a lower-case word", name)
	}
	if !slices.Contains(x.lang.Extensions(), x.sources.Extension) {
		t.Errorf("Extensions are %q, without %q", x.lang.Extensions(), x.sources.Extension)
	}
}

func (x suite) lists(t *testing.T) {
	list := x.compile(t, x.sources.Light).Rules()
	if len(list) != 1 {
		t.Fatalf("%d rules, want 1", len(list))
	}
	r := list[0]
	if r.Name == "" || r.Line < 1 || r.Stage != rules.After || !slices.Equal(r.Filters, []string{"home/+/door"}) {
		t.Errorf("the rule is %+v", r)
	}
	list = x.compile(t, x.sources.Strict).Rules()
	if len(list) != 1 || list[0].Stage != rules.Before || list[0].OnError != rules.RejectOnError {
		t.Errorf("the rules of Strict are %+v", list)
	}
	list = x.compile(t, x.sources.Clean).Rules()
	if len(list) != 1 || list[0].Stage != rules.Before || list[0].OnError != rules.PassOnError {
		t.Errorf("the rules of Clean are %+v", list)
	}
}

func (x suite) broken(t *testing.T) {
	name := "sub/broken" + x.sources.Extension
	_, err := x.lang.Compile(t.Context(), rules.Source{Name: name, Text: []byte(x.sources.Broken), State: rules.NewState(nil)})
	var e *rules.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is %v, not a *rules.Error", err)
	}
	if e.File != name || e.Line != x.sources.BrokenLine || e.Msg == "" {
		t.Errorf("the error is at %s:%d (%q), want %s:%d", e.File, e.Line, e.Msg, name, x.sources.BrokenLine)
	}
}

func (x suite) starts(t *testing.T) {
	outs := x.compile(t, x.sources.Light).Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Now: time.Now()}})
	if len(outs) != 1 || outs[0].Err != nil || len(outs[0].Publish) != 0 {
		t.Errorf("the start came to %+v", outs)
	}
}

func (x suite) publishes(t *testing.T) {
	p := x.started(t, x.sources.Light)
	outs := p.Run(t.Context(), []rules.Call{call("home/客厅/door", `{"open":true}`)})
	if len(outs) != 1 || outs[0].Err != nil || !outs[0].Fired || len(outs[0].Publish) != 1 {
		t.Fatalf("the outcome is %+v", outs)
	}
	m := outs[0].Publish[0]
	if m.Topic != "home/客厅/light/set" || string(m.Payload) != `{"on":true}` || m.QoS != message.AtLeastOnce || m.Retain {
		t.Errorf("it published %+v", m)
	}
}

func (x suite) outcomes(t *testing.T) {
	p := x.started(t, x.sources.Light)
	var calls []rules.Call
	for i := range 300 {
		payload := `{"open":false}`
		if i%3 == 0 {
			payload = `{"open":true}`
		}
		calls = append(calls, call("home/hall/door", payload))
	}
	outs := p.Run(t.Context(), calls)
	if len(outs) != len(calls) {
		t.Fatalf("%d outcomes of %d calls", len(outs), len(calls))
	}
	for i, o := range outs {
		if want := i%3 == 0; o.Err != nil || (len(o.Publish) == 1) != want {
			t.Fatalf("outcome %d is %+v", i, o)
		}
	}
}

func (x suite) cancelled(t *testing.T) {
	p := x.started(t, x.sources.Light)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := make([]rules.Call, 200)
	for i := range calls {
		calls[i] = call("home/hall/door", `{"open":true}`)
	}
	outs := p.Run(ctx, calls)
	if len(outs) != len(calls) {
		t.Fatalf("%d outcomes of %d calls", len(outs), len(calls))
	}
	for i, o := range outs {
		if made := len(o.Publish) == 1; made == (o.Err != nil) {
			t.Fatalf("call %d neither was made nor says that it was not: %+v", i, o)
		}
	}
}

func (x suite) filters(t *testing.T) {
	p := x.started(t, x.sources.Clean)
	outs := p.Run(t.Context(), []rules.Call{
		call("raw/hall/temp", `{"c":200}`), call("raw/hall/temp", `{"c":21}`), call("raw/hall/temp", `{"d":1}`),
	})
	if len(outs) != 3 || outs[0].Err != nil || outs[1].Err != nil {
		t.Fatalf("the outcomes are %+v", outs)
	}
	if outs[0].Verdict.Action != message.Drop {
		t.Errorf("too hot: %+v, want a drop", outs[0].Verdict)
	}
	v := outs[1].Verdict
	if v.Action != message.Replace || v.Message == nil {
		t.Fatalf("good: %+v, want a replacement", v)
	}
	if v.Message.Topic != "clean/hall/temp" || string(v.Message.Payload) != `{"c":21,"twice":42}` {
		t.Errorf("replaced by %s %s", v.Message.Topic, v.Message.Payload)
	}
	if outs[2].Verdict.Action != message.Pass {
		t.Errorf("without c: %+v, want a pass", outs[2].Verdict)
	}
}

func (x suite) fails(t *testing.T) {
	p := x.started(t, x.sources.Strict)
	outs := p.Run(t.Context(), []rules.Call{call("strict/a", `{"c":1}`), call("strict/a", `{}`), call("strict/a", `not JSON`)})
	if len(outs) != 3 || outs[0].Err != nil {
		t.Fatalf("the outcomes are %+v", outs)
	}
	for _, o := range outs[1:] {
		if o.Err == nil {
			t.Errorf("no error for a message that cannot be judged: %+v", o)
		}
	}
}

func (x suite) concurrently(t *testing.T) {
	p := x.started(t, x.sources.Clean)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				outs := p.Run(t.Context(), []rules.Call{call("raw/a/temp", `{"c":21}`), call("raw/b/temp", `{"c":151}`)})
				if len(outs) != 2 || outs[0].Verdict.Action != message.Replace || outs[1].Verdict.Action != message.Drop {
					t.Errorf("the outcomes are %+v", outs)
					return
				}
			}
		})
	}
	group.Wait()
}

func (x suite) digits(t *testing.T) {
	p := x.started(t, x.sources.Clean)
	outs := p.Run(t.Context(), []rules.Call{call("raw/a/temp", `{"c":-12345678}`)})
	if len(outs) != 1 || outs[0].Verdict.Message == nil {
		t.Fatalf("the outcomes are %+v", outs)
	}
	if diff := cmp.Diff(`{"c":-12345678,"twice":-24691356}`, string(outs[0].Verdict.Message.Payload)); diff != "" {
		t.Error(diff)
	}
}

// idle lends a language to an engine without running it twice.
type idle struct{ rules.Language }

func (idle) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (x suite) engine(t *testing.T) {
	e, err := rules.New(rules.Options{Languages: []rules.Language{idle{x.lang}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	folder := fstest.MapFS{
		"light" + x.sources.Extension:  {Data: []byte(x.sources.Light)},
		"clean" + x.sources.Extension:  {Data: []byte(x.sources.Clean)},
		"broken" + x.sources.Extension: {Data: []byte(x.sources.Broken)},
	}
	var wrong *rules.Error
	if err := e.Load(ctx, folder); !errors.As(err, &wrong) || wrong.Line != x.sources.BrokenLine {
		t.Fatalf("Load returned %v", err)
	}
	bus := &Bus{Interceptor: e}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, bus) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, e.Close()); err != nil {
			t.Error(err)
		}
	})
	<-e.Ready()
	err = bus.Publish(ctx,
		message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true}`)},
		message.Message{Topic: "raw/hall/temp", Payload: []byte(`{"c":21}`)},
		message.Message{Topic: "raw/hall/temp", Payload: []byte(`{"c":200}`)},
	)
	if err != nil {
		t.Fatal(err)
	}
	light := bus.Await(ctx, "home/+/light/set", 1)
	if len(light) != 1 || string(light[0].Payload) != `{"on":true}` || light[0].Hops != 1 || !strings.HasPrefix(light[0].Origin, "rule/") {
		t.Errorf("the light heard %+v", light)
	}
	if got := bus.Routed("raw/#"); len(got) != 0 {
		t.Errorf("raw messages were routed: %+v", got)
	}
	if got := bus.Routed("clean/#"); len(got) != 1 {
		t.Errorf("clean messages: %+v, want one", got)
	}
}
