package exprlang_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

func TestRefusedExpressions(t *testing.T) {
	for name, condition := range map[string]string{
		"too long":                 "payload.a == '" + strings.Repeat("x", 16<<10) + "'",
		"too deep":                 strings.Repeat("(", 300) + "payload.a" + strings.Repeat(")", 300),
		"too many nodes":           "payload.a" + strings.Repeat(" + 1", 3_000) + " > 1",
		"closures in closures":     "any(payload.a, any(payload.b, any(payload.c, .x)))",
		"closures by the pipe":     "payload.a | any(payload.b | any(payload.c | any(.x)))",
		"a long range":             "any(0..10000, # > 1)",
		"a long negative range":    "any(-5000..5001, # > 1)",
		"the longest range":        "any(-2147483648..2147483647, # > 1)",
		"a long range, nested":     "any(1..1001, any(payload.a, .x))",
		"reduce doubles text":      `len(reduce(1..28, #acc + #acc, "x")) > 1`,
		"reduce builds text":       `len(reduce(payload.a, #acc + string(#), payload.s + "")) > 1`,
		"reduce builds lists":      `len(reduce(1..28, concat(#acc, #acc), payload.a)) > 1`,
		"reduce builds list nodes": `len(reduce(1..28, [#acc, #acc])) > 1`,
		"reduce uses let":          `reduce(1..28, {let a = #acc; a + a}) > 1`,
		"the whole environment":    `$env.payload.x`,
	} {
		if p, err := compileOnly(ruleIf(condition)); err == nil {
			// A reduce may also be refused when it runs.
			if out := ask(t, p, "a", `{"s":"x","a":["x","y"]}`, "-"); !strings.HasPrefix(name, "reduce") || out.Err == nil {
				t.Errorf("%s is not refused: %+v", name, out)
			}
		}
	}
}

func TestRefusedFiles(t *testing.T) {
	for name, source := range map[string]string{
		"too long":                    "rules: []\n#" + strings.Repeat("x", 256<<10),
		"not UTF-8":                   "rules: []\n#\xff",
		"deep brackets":               "rules: " + strings.Repeat("[", 100_000),
		"deep brackets, a line each":  "rules:\n" + strings.Repeat("[\n", 100_000),
		"deep indentation":            deepIndentation(600),
		"many dashes":                 strings.Repeat("- ", 100_000),
		"many question marks":         strings.Repeat("? ", 100_000),
		"many keys in a line":         strings.Repeat("a: ", 80_000),
		"many tags":                   "rules: " + strings.Repeat("!a ", 80_000),
		"many anchors":                "rules: " + strings.Repeat("&a ", 80_000),
		"NUL":                         "rules: \x00",
		"a laugh of anchors":          "a: &a [x,x]\nb: &b [*a,*a]\nrules: [*b,*b]\n",
		"an alias of itself":          "rules: &a [*a]\n",
		"a merge key":                 "rules:\n  - <<: {name: x}\n",
		"a key that is a list":        "[rules]: x\n",
		"a key that is marked as one": "? rules\n: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := compileOnly(source)
			var e *rules.Error
			if !errors.As(err, &e) {
				t.Errorf("the error is %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func deepIndentation(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestPayloadsThatAreTooMuch(t *testing.T) {
	long := strings.Repeat("1,", 3_000) + "1"
	for _, c := range []struct{ name, condition, payload, want string }{
		{"a payload over 1 MiB", "payload.a == 1", `{"a":1,"b":"` + strings.Repeat("x", 1<<20) + `"}`, "?"},
		{"a payload over 1 MiB, calculated with", "payload.a > 1", `{"a":1,"b":"` + strings.Repeat("x", 1<<20) + `"}`, "?"},
		{"a payload nested too deep is text", "payload.a == 1 || text startsWith '['", strings.Repeat("[", 500_000), "yes"},
		{"a list in one closure", "count(payload, # == 1) == 3001", "[" + long + "]", "yes"},
		{"a long list in nested closures", "any(payload, any(payload, # == 2))", "[" + long + "]", "?"},
		{"text split into a long list", `any(split(text, ","), any(split(text, ","), false))`, long, "?"},
		{"a dynamic range", "count(1..payload.n, true) > 5", `{"n":100000000}`, "?"},
		{"text repeated", "len(repeat(text, 1000)) > 5", strings.Repeat("x", 10_000), "?"},
		{"text replaced by itself", "len(replace(text, '', text)) > 5", strings.Repeat("x", 10_000), "?"},
		{"text joined", "len(join(map(1..10000, text))) > 5", strings.Repeat("x", 10_000), "?"},
		{"text joined, but short", "join(payload, '-') == 'a-b'", `["a","b"]`, "yes"},
		{"text repeated, but short", "repeat('ab', 3) == 'ababab'", ``, "yes"},
		{"text replaced", "replace('aXbX', 'X', '--') == 'a--b--' && replace('aXbX', 'X', '-', 1) == 'a-bX'", ``, "yes"},
		{"a reduce of numbers", "reduce(payload, #acc + #, 0) == 6", `[1,2,3]`, "yes"},
		{"a reduce of text by the back door", "reduce(payload, #acc + #) == 'ab'", `["a","b"]`, "?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			out := ask(t, compile(t, ruleIf(c.condition)), "a", c.payload, "-")
			if got := verdict(out); got != c.want {
				t.Errorf("it came to %q (%v), want %q", got, out.Err, c.want)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestPublishesThatAreTooMuch(t *testing.T) {
	p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out\n        payload: ["+strings.Repeat(`"${payload}", `, 100)+"1]\n")
	out := ask(t, p, "a", `"`+strings.Repeat("x", 100_000)+`"`, "-")
	if !errors.Is(out.Err, rules.ErrNotEvaluated) {
		t.Errorf("10 MB were made: %v", out.Err)
	}
}

func TestFormula(t *testing.T) {
	vars := map[string]any{"t": 2.0, "n": 7, "big": int64(1) << 40, "on": true, "s": "x"}
	for source, want := range map[string]any{
		"t * 2":                        4.0,
		"n + 1":                        8,
		"big":                          int64(1) << 40,
		"on && t > 1":                  true,
		"on ? 'hot' : 'cold'":          "hot",
		"abs(-3)":                      3,
		"min(n, 3) + max(1, 2)":        5,
		"floor(1.7)":                   1.0,
		"ceil(1.2)":                    2.0,
		"round(1.5)":                   2.0,
		"round(21.449, 1)":             21.4,
		"round(-2.25, 1) == -2.3":      true,
		"round(1e300, 3) == 1e300":     true,
		"sin(0) + cos(0)":              1.0,
		"sin(pi / 2)":                  1.0,
		"random() >= 0":                true,
		"random() < 1":                 true,
		"missing":                      nil,
		"missing ?? 5":                 5,
		"not missing":                  true,
		"n % 4":                        3,
		"20 + 5 * sin(2 * pi * t / 4)": 20.0,
	} {
		f, err := exprlang.Formula(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		for range 2 { // it can be called again
			got, err := f(vars)
			if x, ok := got.(float64); ok {
				got = math.Round(x*1e9) / 1e9
			}
			if err != nil || got != want {
				t.Errorf("%s is %v (%T, %v), want %v", source, got, got, err, want)
			}
		}
	}
}

func TestFormulaErrors(t *testing.T) {
	for source, want := range map[string]string{
		"":            "empty",
		"t +":         "column 3: the expression ends too early",
		"foo(t)":      `unknown function "foo"`,
		"now()":       `unknown function "now"`,
		"count(1..3)": "",
	} {
		if _, err := exprlang.Formula(source); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q", source, err, want)
		}
	}
	for source, want := range map[string]string{
		"missing * 2": "nil * a number cannot be calculated",
		"s + 1":       "text + a number cannot be calculated",
		"[1, 2]":      "a list, not a single value",
		"sin(s)":      "wants a number, not text",
	} {
		f, err := exprlang.Formula(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if v, err := f(map[string]any{"s": "x"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", source, v, err, want)
		}
	}
}

func ExampleFormula() {
	celsius, err := exprlang.Formula("raw / 10.0 - 40")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(celsius(map[string]any{"raw": 615}))
	// Output: 21.5 <nil>
}
