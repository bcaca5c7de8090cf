package jsvm_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// functions stand for plugins here.
type functions func(ctx context.Context, name, args string) (string, error)

func (f functions) Call(ctx context.Context, name string, args []byte) ([]byte, error) {
	result, err := f(ctx, name, string(args))
	return []byte(result), err
}

func (s *suite) compileAsking(t testing.TB, text string, f rules.Funcs) rules.Program {
	t.Helper()
	p, err := s.lang.Compile(t.Context(), rules.Source{Name: "ask.js", Text: []byte(text), State: rules.NewState(nil), Funcs: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// answers are functions that do well and badly.
func answers(_ context.Context, name, args string) (string, error) {
	switch name {
	case "echo":
		return args, nil
	case "large":
		return `"` + strings.Repeat("x", 1<<20) + `"`, nil
	case "deep":
		return strings.Repeat("[", 400) + strings.Repeat("]", 400), nil
	}
	return "", fmt.Errorf("function %q of plugin \"weather\": the station is closed", name)
}

func TestFunctionsOfPlugins(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ name, body, want, facts string }{
		{
			"values", `publish('out', plugin('echo', msg.payload, 'é', undefined, { a: [true] }))`,
			`publish out "[900719925474099,\"é\",null,{\"a\":[true]}]" q0`,
			`plugin("echo", 900719925474099,"é",null,{"a":[true]}) = [900719925474099,"é",null,{"a":[true]}] (N us); publish out = [900719925474099,"é",null,{"a":[true]}]`,
		},
		{"without arguments", `publish('out', plugin('echo').length)`, `publish out "0" q0`, `plugin("echo") = [] (N us); publish out = 0`},
		{
			"a failure", `publish('never', plugin('rain', 1))`, `error ask.js:2:24: function "rain" of plugin "weather": the station is closed`,
			`plugin("rain", 1) = function "rain" of plugin "weather": the station is closed (N us); threw at ask.js:2:24 = function "rain" of plugin "weather": the station is closed`,
		},
		{"a failure that is caught", `try { plugin('rain') } catch (e) { publish('out', e.message) }`, `publish out "function \"rain\" of plugin \"weather\": the station is closed" q0`, ``},
		{"nested too deeply", `plugin('deep')`, `error ask.js:2:7: function "deep" gave what cannot be read as JSON: it is nested deeper than 300`, ``},
		{"too large", `plugin('large')`, `error ask.js:2:7: function "large" gave what cannot be read as JSON: 1048578 bytes are over the limit of 1048576`, ``},
		{"arguments too large", `plugin('echo', 'x'.repeat(1 << 20))`, `error ask.js:2:7: TypeError: the arguments of a function of a plugin have more than 1048576 bytes`, ``},
		{"too often", `for (let i = 0; i < 16; i++) plugin('echo')
plugin('echo')`, `error ask.js:3:7: function "echo" is not called: an event calls at most 16 functions of plugins`, ``},
		{"no name", `plugin(1)`, `error ask.js:2:7: TypeError: plugin needs the name of a function: plugin('name', ...)`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.compileAsking(t, "on('#', (msg) => {\n"+c.body+"\n})", functions(answers))
			call := s.call(0, "t", "900719925474099")
			call.Explain = true
			out := s.run(t, p, call)
			if diff := cmp.Diff(c.want, firstLine(show(out))); diff != "" {
				t.Error(diff)
			}
			var facts []string
			for _, f := range out.Facts {
				facts = append(facts, f.What+" = "+f.Value)
			}
			got := regexp.MustCompile(`\(\d+ us\)`).ReplaceAllString(strings.Join(facts, "; "), "(N us)")
			if c.facts != "" && got != c.facts {
				t.Errorf("facts %s\nwant  %s", got, c.facts)
			}
		})
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func TestFilterThatAsksAPlugin(t *testing.T) {
	p := start(t).compileAsking(t, `filter('#', (msg) => plugin('echo', false)[0])`, functions(answers))
	s := &suite{now: time.Now()}
	if got := show(s.hear(t, p, 0, "t", "1")); got != "drop" {
		t.Errorf("outcome = %s", got)
	}
}

func TestPluginWithoutPlugins(t *testing.T) {
	s := start(t)
	p := s.compileAsking(t, `on('#', () => plugin('echo'))`, nil)
	if got := firstLine(show(s.hear(t, p, 0, "t", "1"))); got != `error ask.js:1:21: function "echo" cannot be called: there are no plugins here` {
		t.Errorf("outcome = %s", got)
	}
}

// To read a file must have no effect outside of it.
func TestPluginAtTheTopLevel(t *testing.T) {
	asked := functions(func(context.Context, string, string) (string, error) {
		t.Error("a function was called")
		return "1", nil
	})
	_, err := start(t).lang.Compile(t.Context(), rules.Source{Name: "ask.js", Text: []byte(`plugin('echo')`), Funcs: asked})
	if err == nil || !strings.Contains(err.Error(), "ask.js:1:7: TypeError: plugin cannot be called at the top level") {
		t.Errorf("error = %v", err)
	}
}

// What a plugin takes is no time of the script's, neither to the worker nor to whoever
// watches over the worker.
func TestDeadlineStandsStillWhileAPluginWorks(t *testing.T) {
	const deadline = 50 * time.Millisecond
	s := start(t, func(o *jsvm.Options) { o.Deadline = deadline })
	slow := functions(func(context.Context, string, string) (string, error) {
		<-time.After(40 * deadline) // the worker is killed after 36 of them
		return "7", nil
	})
	p := s.compileAsking(t, `on('#', () => publish('out', plugin('slow')))`, slow)
	if got := show(s.hear(t, p, 0, "t", "1")); got != `publish out "7" q0` {
		t.Errorf("outcome = %s", got)
	}
}

// A loop after a call is ended like any other.
func TestDeadlineGoesOnAfterAPlugin(t *testing.T) {
	s := start(t)
	p := s.compileAsking(t, `on('#', () => { plugin('echo'); for (;;); })`, functions(answers))
	if got := show(s.hear(t, p, 0, "t", "1")); !strings.Contains(got, "did not return within") {
		t.Errorf("outcome = %s", got)
	}
}

func TestWorkerThatDiesWhileAPluginWorks(t *testing.T) {
	s := start(t)
	times := 0
	p := s.compileAsking(t, `on('#', () => publish('out', plugin('kill')))`, functions(func(ctx context.Context, _, _ string) (string, error) {
		if times++; times == 1 {
			if err := syscall.Kill(worker(t), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
		}
		return fmt.Sprint(times), nil
	}))
	if got := show(s.hear(t, p, 0, "t", "1")); got != `publish out "2" q0` {
		t.Errorf("outcome = %s", got)
	}
}

func TestPluginIsGivenUpWithTheLanguage(t *testing.T) {
	s := start(t)
	ended := make(chan struct{})
	p := s.compileAsking(t, `on('#', () => publish('out', plugin('wait')))`, functions(func(ctx context.Context, _, _ string) (string, error) {
		go func() { _ = s.lang.Close() }()
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	}))
	out := s.hear(t, p, 0, "t", "1")
	if out.Err == nil || !strings.Contains(out.Err.Error(), jsvm.ErrClosed.Error()) {
		t.Errorf("outcome = %s", show(out))
	}
	<-ended
}

func TestPluginIsGivenUpWithItsCaller(t *testing.T) {
	s := start(t)
	ended := make(chan struct{})
	p := s.compileAsking(t, `on('#', () => publish('out', plugin('wait')))`, functions(func(ctx context.Context, _, _ string) (string, error) {
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	}))
	s.hear(t, s.compile(t, "ready.js", `on('#', () => {})`), 0, "t", "1")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if out := p.Run(ctx, []rules.Call{s.call(0, "t", "1")})[0]; out.Err == nil {
		t.Errorf("outcome = %s", show(out))
	}
	<-ended
}
