package plugins_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/plugins"
)

const probeFuncs = "functions: [sum, echo, refuse, panic, channel, large, deaf, patient, exit, freeze, standard, wait, waiting]"

// functions runs the probe as a plugin that has functions only.
func functions(t *testing.T, o plugins.Options) *plugins.Host {
	t.Helper()
	dir := t.TempDir()
	install(t, dir, "probe", "probe", probeFuncs)
	h := start(t, dir, o)
	running(t, h, "probe")
	return h
}

func TestFunctions(t *testing.T) {
	h := functions(t, quick(&logs{}))
	for _, tc := range []struct{ name, args, want, err string }{
		{"sum", `[1, 2.5]`, `3.5`, ""},
		{"echo", `["<é>", 9007199254740993, {"a": [null]}]`, `["<é>",9007199254740993,{"a":[null]}]`, ""},
		{"echo", `[]`, `[]`, ""},
		{"sum", `[1]`, "", `function "sum" of plugin "probe": it takes 2 arguments, not 1`},
		{"sum", `[1, "x"]`, "", `function "sum" of plugin "probe": argument 2: json: cannot unmarshal string`},
		{"sum", `{}`, "", `function "sum" of plugin "probe": the arguments are not a JSON array`},
		{"refuse", `[]`, "", `function "refuse" of plugin "probe": the station is closed`},
		{"panic", `[]`, "", `function "panic" of plugin "probe": it panicked: at the disco`},
		{"channel", `[]`, "", `function "channel" of plugin "probe": its result cannot be written as JSON`},
		{"large", `[]`, "", `function "large" of plugin "probe": its result has 1048578 bytes, more than 1048576`},
		{"echo", `["` + strings.Repeat("x", 1<<20) + `"]`, "", `function "echo" of plugin "probe": the arguments have 1048580 bytes, more than 1048576`},
		{"patient", `[]`, "", `function "patient" of plugin "probe": no answer within `},
		{"deaf", `[]`, "", `function "deaf" of plugin "probe": no answer within `},
		{"nobodys", `[]`, "", `no plugin offers a function "nobodys"`},
		{"sum", `[2, 2]`, `4`, ""}, // it is well after all that
	} {
		got, err := h.Funcs().Call(t.Context(), tc.name, []byte(tc.args))
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err)) {
			t.Errorf("%s(%.40s): error %v, want %q", tc.name, tc.args, err, tc.err)
		}
		if string(got) != tc.want {
			t.Errorf("%s(%.40s) = %.100s, want %s", tc.name, tc.args, got, tc.want)
		}
	}
	for _, f := range status(h, "probe").Functions {
		if f.Name == "standard" && (f.Timeout != time.Second || f.Doc != "of the default timeout") {
			t.Errorf("status of a function = %+v", f)
		}
	}
}

// A function whose caller has less time ends with it.
func TestFunctionIsGivenUpWithItsCaller(t *testing.T) {
	h := functions(t, quick(&logs{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Funcs().Call(ctx, "sum", []byte(`[1, 2]`)); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestFunctionThatDoesNotAnswerIsLeftAlone(t *testing.T) {
	h := functions(t, quick(&logs{}))
	alone := false
	for range 10 { // it is asked again after a rest, which grows
		_, err := h.Funcs().Call(t.Context(), "deaf", []byte(`[]`))
		if err == nil {
			t.Fatal("a deaf function answered")
		}
		alone = alone || strings.Contains(err.Error(), "it has not answered 3 times in a row")
	}
	if !alone {
		t.Error("it was asked each time")
	}
	if got, err := h.Funcs().Call(t.Context(), "sum", []byte(`[1, 2]`)); string(got) != "3" {
		t.Errorf("another function gave %s, %v", got, err)
	}
}

func TestFuse(t *testing.T) {
	ask, told := plugins.Fuse()
	now := time.Now()
	for range 3 {
		if err := ask(now); err != nil {
			t.Fatal(err)
		}
		told(false, now)
	}
	if ask(now.Add(999*time.Millisecond)) == nil {
		t.Error("it was asked while it rests")
	}
	now = now.Add(time.Second)
	if err := ask(now); err != nil {
		t.Errorf("it was not tried after its rest: %v", err)
	}
	if ask(now) == nil {
		t.Error("two tried at once")
	}
	told(false, now)
	if ask(now.Add(1999*time.Millisecond)) == nil || ask(now.Add(2*time.Second)) != nil {
		t.Error("the second rest is not 2 s")
	}
	for range 100 {
		told(false, now)
	}
	if ask(now.Add(30*time.Second)) != nil {
		t.Error("a rest is longer than 30 s")
	}
	told(true, now)
	if err := ask(now); err != nil {
		t.Errorf("it answered and is not asked: %v", err)
	}
}

func TestFunctionWhosePluginCrashes(t *testing.T) {
	o := quick(&logs{})
	h := functions(t, o)
	first := running(t, h, "probe")
	_, err := h.Funcs().Call(t.Context(), "exit", []byte(`[]`))
	if !errors.Is(err, plugins.ErrNotRunning) || !strings.HasPrefix(err.Error(), `function "exit" of plugin "probe": plugin is not running: it has stopped`) {
		t.Errorf("error = %v", err)
	}
	await(t, h, "probe", "running again", func(st plugins.PluginStatus) bool {
		return st.State == plugins.Running && st.PID != first.PID
	})
	if got, err := h.Funcs().Call(t.Context(), "sum", []byte(`[1, 2]`)); string(got) != "3" {
		t.Errorf("after the restart: %s, %v", got, err)
	}
}

func TestFunctionWhosePluginIsDown(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", probeFuncs, "args: [-bad=exit]")
	h := start(t, dir, quick(&logs{}))
	await(t, h, "probe", "down", isDown)
	_, err := h.Funcs().Call(t.Context(), "sum", []byte(`[1, 2]`))
	if !errors.Is(err, plugins.ErrNotRunning) || !strings.HasPrefix(err.Error(), `function "sum": plugin is not running: "probe" is `) {
		t.Errorf("error = %v", err)
	}
}

func TestFunctionWhosePluginHangs(t *testing.T) {
	h := functions(t, quick(&logs{}))
	_, err := h.Funcs().Call(t.Context(), "freeze", []byte(`[]`))
	if err == nil || !strings.HasPrefix(err.Error(), `function "freeze" of plugin "probe": no answer within `) {
		t.Errorf("error = %v", err)
	}
}

func TestCallsOfFunctionsAtOnceAreBounded(t *testing.T) {
	h := functions(t, quick(&logs{}))
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	call := func(ctx context.Context, name string) (string, error) {
		got, err := h.Funcs().Call(ctx, name, []byte(`[]`))
		return string(got), err
	}
	for range 15 {
		waiting.Go(func() { _, _ = call(ctx, "wait") }) // until it is given up
	}
	eventually(t, "15 calls in the plugin", func() bool { got, _ := call(t.Context(), "waiting"); return got == "15" })
	waiting.Go(func() { _, _ = call(ctx, "wait") })
	eventually(t, "a call that finds no turn", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := call(ctx, "waiting")
		return err != nil && strings.Contains(err.Error(), "16 calls of the plugin have not come back: no answer within")
	})
}

func TestPluginWithoutItsFunctionsIsRefused(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "functions: [sum, nobodys]")
	h := start(t, dir, quick(&logs{}))
	st := await(t, h, "probe", "down", isDown)
	if want := `it offers no function "nobodys", only ["sum" `; !strings.Contains(st.LastError, want) {
		t.Errorf("last error = %q, want %q", st.LastError, want)
	}
}

func TestFunctionBelongsToOnePlugin(t *testing.T) {
	dir := t.TempDir()
	manifest(t, dir, "a", "name: a", "command: x", "sha256: "+strings.Repeat("ab", 32), "functions: [sum]")
	manifest(t, dir, "b", "name: b", "command: x", "sha256: "+strings.Repeat("ab", 32), "functions: [sum]")
	_, err := plugins.ReadManifests(dir)
	if err == nil || !strings.Contains(err.Error(), `b/plugin.yaml:4:13: function "sum" is offered by plugin "a" already`) {
		t.Errorf("error = %v", err)
	}
}

func BenchmarkCallOfAFunction(b *testing.B) {
	dir := b.TempDir()
	install(b, dir, "probe", "probe", probeFuncs)
	h := start(b, dir, quick(&logs{}))
	await(b, h, "probe", "running", func(st plugins.PluginStatus) bool { return st.State == plugins.Running })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Funcs().Call(b.Context(), "sum", []byte(`[1, 2.5]`)); err != nil {
			b.Fatal(err)
		}
	}
}
