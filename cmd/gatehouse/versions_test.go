package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What was in force is kept, compared and put back, and the running gateway follows.
func TestRulesHistoryDiffRollback(t *testing.T) {
	rule := func(payload string) string {
		return "rules:\n  - name: echo\n    on: in\n    if: payload == 1\n    do: [{publish: out, payload: " + payload + "}]\n"
	}
	g := startGateway(t, map[string]string{"scripts/echo.yaml": rule("first")})
	g.again(t)
	data, config := filepath.Join(g.dir, "data"), filepath.Join(g.dir, "gatehouse.yaml")
	command := func(want int, args ...string) string {
		t.Helper()
		out, code := run(t, "", binary, append([]string{"rules", "--data", data}, args...)...)
		if code != want {
			t.Fatalf("%q ended with %d: %s", args, code, out)
		}
		return out
	}
	g.says(t, `"version":1,"files":1`)
	out := subscribe(t, g, "out")
	g.publish(t, "in", "1")
	out.says(t, "out first")

	g.write(t, "scripts/echo.yaml", rule("second"))
	g.says(t, `"version":2,"files":1`)
	g.write(t, "scripts/new.js", "on('x', m => {})")
	g.says(t, `"version":3,"files":2`)
	g.publish(t, "in", "1")
	out.says(t, "out second")

	shows(t, command(0, "history"),
		`(?m)^3 .*2 +\+new\.js$`, `(?m)^2 .*1 +echo\.yaml$`, `(?m)^1 .*1 +the oldest that is kept$`)
	shows(t, command(0, "diff", "1", "2"),
		`^--- version 1: echo\.yaml\n\+\+\+ version 2: echo\.yaml\n@@ -2,4 \+2,4 @@\n`, `\n-    do: \[\{publish: out, payload: first\}\]\n\+    do: .*second`)
	shows(t, command(0, "diff", "1", "--config", config), `(?m)^\+on\('x', m => \{\}\)$`, `second`)
	if same := command(0, "diff", "3", "--config", config); same != "" {
		t.Errorf("the folder differs from what is in force: %s", same)
	}

	shows(t, command(0, "rollback", "1", "--config", config), `is what it was in version 1\n$`)
	g.says(t, `"version":4,"files":1`)
	g.publish(t, "in", "1")
	out.says(t, "out first")
	if _, err := os.Stat(filepath.Join(g.dir, "scripts/new.js")); err == nil {
		t.Error("the new file is still there")
	}
	shows(t, command(1, "rollback", "9", "--config", config), "version 9 is not kept")
	shows(t, command(1, "diff", "x"), `"x" is not the number of a version`)
	shows(t, command(1, "why", "a/+"), "is not a topic")

	// And what they do is told.
	g.publish(t, "in", "2")
	g.publish(t, "in", "1")
	out.says(t, "out first")
	shows(t, command(0, "list"), `(?m)^RULE +HEARD +FIRED +ERRORS +NAME$`, `(?m)^echo\.yaml:2 +3 +2 +0 +echo$`)
	shows(t, command(0, "why", "in"),
		`^echo\.yaml:2: echo \(heard 3, fired 2, errors 0\)\n`, `(?m)^    \S+ \S+ in: not fired \(\d+ us\)$`, `(?m)^    \S+ \S+ in: fired \(\d+ us\)$`)
	shows(t, command(1, "why", "nothing"), "no rule hears nothing")
	g.stop(t)
	shows(t, command(1, "list"), `cannot ask the gateway: .*is it running`)
}

func shows(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

// The differences of two texts are those of diff -u.
func TestDiffIsThatOfDiff(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "scripts", "a.yaml"), filepath.Join(dir, "want")
	old := strings.Repeat("rules:\n# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n# 7\n# 8\n# 9\n", 2)
	now := strings.Replace(strings.Replace(old, "# 2\n", "# two\n# three\n", 1), "# 9\nrules:\n# 1", "# 9\n# 1", 1) + "# end\n"
	writeFile(t, b, old)
	writeFile(t, a, now)
	want, _ := run(t, "", "diff", "-u", "--label", "x", "--label", "y", b, a)
	_, want, _ = strings.Cut(want, "@@")
	g := startGateway(t, map[string]string{"scripts/a.yaml": old})
	g.again(t)
	g.says(t, `"version":1,`)
	g.write(t, "scripts/a.yaml", now)
	g.says(t, `"version":2,`)
	g.stop(t)
	got, code := run(t, "", binary, "rules", "diff", "1", "2", "--data", filepath.Join(g.dir, "data"))
	_, got, _ = strings.Cut(got, "@@")
	if got != want || code != 0 {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
