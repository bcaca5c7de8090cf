package exprlang_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

// functions are what stands for plugins here: they note what they were asked.
type functions struct{ asked []string }

func (f *functions) Call(ctx context.Context, name string, args []byte) ([]byte, error) {
	f.asked = append(f.asked, name+string(args))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("function %q: %w", name, ctx.Err())
	case name == "echo":
		return args, nil
	case name == "limit":
		return []byte(`{"high": 30.50}`), nil
	case name == "deep":
		return []byte(strings.Repeat("[", 400) + strings.Repeat("]", 400)), nil
	}
	return nil, fmt.Errorf("function %q of plugin \"weather\": the station is closed", name)
}

func withFunctions(t *testing.T, source string, f rules.Funcs) rules.Program {
	t.Helper()
	p, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "f.yaml", Text: []byte(source), State: rules.NewState(nil), Funcs: f})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func told(out *rules.Outcome) string {
	var all []string
	for _, f := range out.Facts {
		all = append(all, f.What+" = "+f.Value)
	}
	return regexp.MustCompile(`\(\d+ us\)`).ReplaceAllString(strings.Join(all, "; "), "(N us)")
}

func runOnce(ctx context.Context, p rules.Program, payload string) rules.Outcome {
	call := rules.Call{Message: &message.Message{Topic: "a/b", Payload: []byte(payload)}, Explain: true, Now: noon}
	return p.Run(ctx, []rules.Call{call})[0]
}

func TestFunctionsOfPlugins(t *testing.T) {
	const publish = "rules:\n  - {name: r, on: '#', do: [{publish: out, payload: {v: \"${%s}\"}}]}\n"
	for _, c := range []struct{ name, source, want, facts, asked string }{
		{
			"a condition", ruleIf(`payload.c > plugin("limit", topic).high`), "fired",
			`plugin("limit", "a/b") = {"high": 30.50} (N us); if payload.c > plugin("limit", topic).high = true; payload.c = 31; topic = "a/b"; publish out = `,
			`limit["a/b"]`,
		},
		{
			"a value, absent too", fmt.Sprintf(publish, "plugin('echo', payload.c, payload.none, 1234567890, 'x')"), "fired",
			`plugin("echo", 31,null,1234567890,"x") = [31,null,1234567890,"x"] (N us); publish out = {"v":[31,null,1234567890,"x"]}`,
			`echo[31,null,1234567890,"x"]`,
		},
		{"true or false", ruleIf(`plugin("echo", payload.none)[0]`), "no", `plugin("echo", null) = [null] (N us); if plugin("echo", payload.none)[0] = false; payload.none = nil`, `echo[null]`},
		{
			"a failure", ruleIf(`plugin("rain", 1) > 2`), `error function "rain" of plugin "weather": the station is closed`,
			`plugin("rain", 1) = function "rain" of plugin "weather": the station is closed (N us); if plugin("rain", 1) > 2 = function "rain" of plugin "weather": the station is closed`,
			`rain[1]`,
		},
		{"not reached", ruleIf(`payload.c == 1 and plugin("rain", 1) > 2`), "no", `if payload.c == 1 and plugin("rain", 1) > 2 = false; payload.c = 31`, ``},
		{"nested too deeply", ruleIf(`plugin("deep") == 1`), `error function "deep" gave what is no JSON, or nested too deeply`, ``, `deep[]`},
		{"too many", ruleIf(`map(1..100, plugin("echo", #))[0][0] == 1`), `error function "echo" is not called: one run calls at most 16 functions of plugins`, ``, ``},
		{
			"a trigger's value, once", edgeRule("on: '#'; value: plugin('limit').high; above: 30"), "fired",
			`plugin("limit") = {"high": 30.50} (N us); value plugin('limit').high = 30.50; above 30 = 30; edge = rising; publish out = rising`, `limit[]`,
		},
		{"a step", "rules:\n  - {name: r, on: '#', do: [{set: {a: \"plugin('limit').high\"}}, {publish: out, payload: '${vars.a}'}]}\n", "fired", ``, `limit[]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &functions{}
			out := runOnce(t.Context(), withFunctions(t, c.source, f), `{"c":31}`)
			got := "no"
			if out.Err != nil {
				got = "error " + out.Err.Error()
			} else if out.Fired {
				got = "fired"
			}
			if got != c.want {
				t.Errorf("outcome %s, want %s", got, c.want)
			}
			if out.Err != nil && errors.Is(out.Err, rules.ErrNotEvaluated) {
				t.Error("a failure of a plugin counts as not evaluated")
			}
			if c.facts != "" && told(&out) != c.facts {
				t.Errorf("facts %s\nwant  %s", told(&out), c.facts)
			}
			if asked := strings.Join(f.asked, "; "); asked != c.asked && c.name != "too many" {
				t.Errorf("asked %s, want %s", asked, c.asked)
			}
			if c.name == "too many" && len(f.asked) != 16 {
				t.Errorf("asked %d times", len(f.asked))
			}
		})
	}
}

func TestFilterThatAsksAPlugin(t *testing.T) {
	p := withFunctions(t, filterRule(`drop: plugin("limit").high > 30`), &functions{})
	if out := runOnce(t.Context(), p, `1`); out.Verdict.Action != message.Drop {
		t.Errorf("outcome = %+v", out)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if out := runOnce(over, p, `1`); !errors.Is(out.Err, context.Canceled) && (out.Err == nil || !strings.Contains(out.Err.Error(), "canceled")) {
		t.Errorf("after the end of its time: %+v", out)
	}
}

func TestFunctionsWithoutPlugins(t *testing.T) {
	out := runOnce(t.Context(), withFunctions(t, ruleIf(`plugin("limit") > 2`), nil), `1`)
	if want := `function "limit" cannot be called: there are no plugins here`; out.Err == nil || out.Err.Error() != want {
		t.Errorf("error = %v", out.Err)
	}
}

func TestFunctionsAreNamedInQuotes(t *testing.T) {
	for condition, want := range map[string]string{
		`plugin() > 2`:        `plugin wants the name of a function: plugin("name", ...)`,
		`plugin(payload) > 2`: `plugin wants the name of a function in quotes`,
		`plugin > 2`:          `unknown name "plugin"`,
	} {
		if _, err := compileOnly(ruleIf(condition)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", condition, err, want)
		}
	}
	if _, err := exprlang.Formula(`plugin("limit")`); err == nil {
		t.Error("a formula calls a plugin")
	}
}
