package jsvm_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTypesNameWhatIsThere keeps gatehouse.d.ts and the runtime together.
func TestTypesNameWhatIsThere(t *testing.T) {
	text, err := os.ReadFile("../../scripts/gatehouse.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^declare (?:function|const|class) (\w+)`).FindAllStringSubmatch(string(text), -1) {
		declared[m[1]] = true
	}
	s := start(t)
	var names []string
	for name := range declared {
		names = append(names, "'"+name+"'")
	}
	p := s.compile(t, "a.js", `
const builtin = 'Array ArrayBuffer Uint8Array Promise Map JSON Math eval parseInt undefined NaN'.split(' ')
on('missing', () => publish('x', [`+strings.Join(names, ", ")+`].filter((n) => globalThis[n] === undefined)))
on('ours', () => publish('x', Object.keys(globalThis)))`)
	if got := show(s.hear(t, p, 0, "missing", "")); got != `publish x "[]" q0` {
		t.Errorf("declared, and not there: %s", got)
	}
	for _, name := range regexp.MustCompile(`\w+`).FindAllString(string(s.hear(t, p, 1, "ours", "").Publish[0].Payload), -1) {
		if !declared[name] && name != "eval" && name != "Function" && !strings.HasSuffix(name, "Array") && name != "ArrayBuffer" {
			t.Errorf("%s is there, and not declared", name)
		}
	}
}
