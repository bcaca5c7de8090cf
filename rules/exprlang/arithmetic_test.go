package exprlang_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

// The largest and the smallest whole number, as an expression can write them.
var (
	largest  = strconv.Itoa(int(^uint(0) >> 1))
	smallest = "(-" + largest + " - 1)"
)

// holdsWhole says that payloads hold whole numbers as such.
const holdsWhole = strconv.IntSize == 64

// evaluated is what a template of one expression publishes, or why it does not.
func evaluated(t *testing.T, expression, payload string) string {
	t.Helper()
	p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out\n        payload:\n          v: |-\n            ${"+expression+"}\n")
	out := ask(t, p, "a/b/c", payload, "-")
	switch {
	case errors.Is(out.Err, rules.ErrNotEvaluated):
		return "? " + out.Err.Error()
	case out.Err != nil:
		t.Fatalf("%s: %v", expression, out.Err)
	}
	text := string(out.Publish[0].Payload)
	return strings.TrimSuffix(strings.TrimPrefix(text, `{"v":`), "}")
}

func TestWholeNumbersDoNotWrap(t *testing.T) {
	const max64, min64 = "9223372036854775807", "-9223372036854775808"
	beyond := fmt.Sprintf(" is beyond %d bits", strconv.IntSize)
	for _, c := range []struct{ expression, payload, want string }{
		{"payload.a + payload.b", `{"a":` + max64 + `,"b":1}`, max64 + " + 1" + beyond},
		{"payload.a + payload.b", `{"a":` + min64 + `,"b":-1}`, min64 + " + -1" + beyond},
		{"payload.a + payload.b", `{"a":` + min64 + `,"b":` + min64 + `}`, min64 + " + " + min64 + beyond},
		{"payload.a + payload.b", `{"a":` + max64 + `,"b":` + min64 + `}`, "-1"},
		{"payload.a - payload.b", `{"a":` + min64 + `,"b":1}`, min64 + " - 1" + beyond},
		{"payload.a - payload.b", `{"a":0,"b":` + min64 + `}`, "0 - " + min64 + beyond},
		{"payload.a - payload.b", `{"a":-1,"b":` + min64 + `}`, max64},
		{"payload.a * payload.b", `{"a":4294967296,"b":2147483648}`, "4294967296 * 2147483648" + beyond},
		{"payload.a * payload.b", `{"a":-4294967296,"b":2147483648}`, min64},
		{"payload.a * payload.b", `{"a":-1,"b":` + min64 + `}`, "-1 * " + min64 + beyond},
		{"payload.a * payload.b", `{"a":` + min64 + `,"b":-1}`, min64 + " * -1" + beyond},
		{"payload.a * payload.b", `{"a":` + min64 + `,"b":1}`, min64},
		{"payload.a * payload.b", `{"a":0,"b":` + min64 + `}`, "0"},
		{"payload.a * payload.b", `{"a":-1,"b":5}`, "-5"},
		{"-payload.a", `{"a":` + min64 + `}`, "-(" + min64 + ")" + beyond},
		{"-payload.a", `{"a":` + max64 + `}`, "-" + max64},
		{"abs(payload.a)", `{"a":` + min64 + `}`, "abs(" + min64 + ")" + beyond},
		{"abs(payload.a)", `{"a":-7}`, "7"},
		{"sum(payload.a)", `{"a":[` + max64 + `,1]}`, "1 + " + max64 + beyond},
		{"sum(payload.a, # * 2)", `{"a":[1,` + max64 + `]}`, max64 + " * 2" + beyond},
		{"sum([payload.a, 1, 2])", `{"a":` + max64 + `}`, "1 + " + max64 + beyond},
		{"reduce(payload.a, #acc + #, 0)", `{"a":[` + max64 + `,1]}`, max64 + " + 1" + beyond},
		{"map(payload.a, # + 1)[0]", `{"a":[` + max64 + `]}`, max64 + " + 1" + beyond},
		{"let x = payload.a; {'k': [x + 1]}", `{"a":` + max64 + `}`, max64 + " + 1" + beyond},
		{"payload.a + 1 + 0.5", `{"a":` + max64 + `}`, max64 + " + 1" + beyond},
		{"payload.a + 1.0", `{"a":` + max64 + `}`, "9223372036854776000"},
	} {
		t.Run(c.expression+" of "+c.payload, func(t *testing.T) {
			got := evaluated(t, c.expression, c.payload)
			if !holdsWhole { // floats, all of them: no sign may change
				if strings.HasPrefix(got, "?") {
					t.Errorf("it came to %s", got)
				}
				return
			}
			checkResult(t, got, c.want)
		})
	}
}

func checkResult(t *testing.T, got, want string) {
	t.Helper()
	if strings.Contains(want, "beyond") {
		if !strings.HasPrefix(got, "?") || !strings.HasSuffix(got, want) {
			t.Errorf("it came to %s, want not evaluated: %s", got, want)
		}
		return
	}
	if got != want {
		t.Errorf("it came to %s, want %s", got, want)
	}
}

func TestConstantsDoNotWrap(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{largest + " + 1", "beyond"},
		{largest + " + 1 - 1", "beyond"},
		{"1 - 2 + " + largest + " + 1", largest},
		{smallest + " - 1", "beyond"},
		{"-" + smallest, "beyond"},
		{largest + " * -2", "beyond"},
		{largest + " * len(parts)", "beyond"},
		{"sum([" + largest + ", 1])", "beyond"},
		{"sum(" + largest[:len(largest)-1] + "0.." + largest + ")", "beyond"},
		{"len(parts) - 1 + qos", "3"},
		{"sum(1..4)", "10"},
		{"sum(1..4, # * #)", "30"},
		{"sum([])", "0"},
		{"sum([1, 0.5])", "1.5"},
		{"parts[len(parts) - 1]", `"c"`},
		{"join(parts[1:len(parts) - 1], '')", `"b"`},
		{"round(1.25, len(parts) - 2)", "1.3"},
		{"1..len(parts) - 1", "[1,2]"},
		{"'a' + topic", `"aa/b/c"`},
		{"2 * 3 + 4 - -5", "15"},
		{"(now() - now()).Hours() + 1", "1"},
		{"now() + duration('1h') == now()", "false"},
		{"len(parts) * 2 == 6 ? 'yes' : 'no'", `"yes"`},
	} {
		t.Run(c.expression, func(t *testing.T) {
			got := evaluated(t, c.expression, `{}`)
			if c.want == "beyond" {
				c.want = fmt.Sprintf("is beyond %d bits", strconv.IntSize)
			}
			checkResult(t, got, c.want)
		})
	}
}

// A sum of what is no number is refused as ever.
func TestArithmeticOfOtherKinds(t *testing.T) {
	for expression, want := range map[string]string{
		"payload.s + 1":    "text + a number cannot be calculated",
		"1 - payload.s":    "a number - text cannot be calculated",
		"payload.l * 2":    "a list * a number cannot be calculated",
		"sum(payload.st)":  "text + a number cannot be calculated",
		"payload.none + 1": "payload.none",
	} {
		if got := evaluated(t, expression, `{"s":"x","l":[1],"st":["x"]}`); !strings.HasPrefix(got, "?") || !strings.Contains(got, want) {
			t.Errorf("%s came to %s, want %q", expression, got, want)
		}
	}
	if got := evaluated(t, "payload.s + payload.s", `{"s":"x"}`); got != `"xx"` {
		t.Errorf("text and text came to %s", got)
	}
}

func TestFormulasDoNotWrap(t *testing.T) {
	f, err := exprlang.Formula("a * 2 - b")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := f(map[string]any{"a": int64(1) << 62, "b": 1}); err == nil || !strings.Contains(err.Error(), "is beyond") {
		t.Errorf("it came to %v (%v)", v, err)
	}
	if v, err := f(map[string]any{"a": 21, "b": int64(2)}); err != nil || v != 40 {
		t.Errorf("it came to %v (%v), want 40", v, err)
	}
}
