package trial_test

import (
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// A test says what functions of plugins give; of one of which it says nothing the failure
// tells what to do.
func TestFunctionsOfPlugins(t *testing.T) {
	const file = `
rules:
  - {name: dew, on: in, do: [{publish: out, payload: '${plugin("dew_point", payload)}'}]}
`
	const in = "      - {publish: in, payload: 20}\n"
	for _, c := range []struct{ name, steps, want string }{
		{"a value", "      - {function: dew_point, gives: 12.5}\n" + in + in + "      - {expect: out, payloads: [12.5, 12.5]}", ""},
		{"an object", "      - {function: dew_point, gives: {c: [1, null, x]}}\n" + in + "      - {expect: out, payload: {c: [1, null, x]}}", ""},
		{"a text", "      - {function: dew_point, gives: \"1\"}\n" + in + "      - {expect: out, payload: \"1\"}", ""},
		{"once something else", "      - {function: dew_point, gives: 1}\n      - {function: dew_point, gives: 2, times: 1}\n" + in + in + "      - {expect: out, payloads: [2, 1]}", ""},
		{"over a restart", "      - {function: dew_point, gives: 1}\n      - restart: true\n" + in + "      - expect: out", ""},
		{"an error", "      - {function: dew_point, error: no sensor}\n" + in + "      - expect: out", "no sensor"},
		{"nothing", in + "      - expect: out", `no plugin runs in tests and replays, and nothing says what the function "dew_point" gives: in a test, the step "function: dew_point" does`},
		{"neither", "      - {function: dew_point}\n", "the step has one of gives, a value, and error, a text"},
		{"both", "      - {function: dew_point, gives: 1, error: x}\n", "the step has one of gives, a value, and error, a text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := trial.Parse("dew.test.yaml", []byte("tests:\n  - name: t\n    steps:\n"+c.steps))
			var got string
			if err != nil {
				got = err.Error()
			} else {
				o := trial.Options{Folder: folder("dew.yaml", file), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
				if failure := f.Run(t.Context(), o, &f.Tests[0]).Failure; failure != nil {
					got = failure.Error() + "\n" + strings.Join(failure.Timeline, "\n")
				}
			}
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}
