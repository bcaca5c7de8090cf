package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The subcommands as a user types them, one file a behaviour.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
	})
}

// What is broken is told in the log, in the API and on its topic, and the version
// before goes on; what is right takes effect beside it.
func TestABrokenRuleKeepsTheOldOneServing(t *testing.T) {
	rule := func(payload string) string {
		return "rules:\n  - name: echo\n    on: in\n    do: [{publish: out, payload: " + payload + "}]\n"
	}
	g := startGateway(t, map[string]string{"scripts/echo.yaml": rule("first"), "scripts/other.js": "on('x', m => {})"})
	out := subscribe(t, g, "out")
	status := subscribe(t, g, "$SYS/gatehouse/rules/+")
	g.publish(t, "in", "1")
	out.says(t, "out first")

	g.write(t, "scripts/echo.yaml", "rules:\n  - name: echo\n    on: in\n    if: 1 +\n    do: [{publish: out, payload: second}]\n")
	g.write(t, "scripts/other.js", "on('x', m => {\n  oops(\n})")
	for _, file := range []string{"echo.yaml:4:", "other.js:3:"} {
		g.says(t, file)
		eventually(t, file+" is in the API", func() bool {
			for _, f := range g.api(t, "rules") {
				if msg, _ := f["error"].(string); strings.Contains(msg, file) && f["ok"] == false {
					return true
				}
			}
			return false
		})
		status.says(t, file)
	}
	g.publish(t, "in", "2")
	eventually(t, "the old version fires again", func() bool { return strings.Count(out.output(), "out first") == 2 })

	g.write(t, "scripts/echo.yaml", rule("third"))
	eventually(t, "the new version fires", func() bool {
		g.publish(t, "in", "3")
		return strings.Contains(out.output(), "out third")
	})
	g.stop(t)
}

// A script that loops, eats memory or throws costs its own event and nothing else.
func TestAScriptThatMisbehavesHurtsNobodyElse(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/good.js":   "let n = state.get('n') || 0\non('count', m => { n++; state.set('n', n); publish('counted', n) })",
		"scripts/loops.js":  "on('loop', m => { for (;;) {} })",
		"scripts/eats.js":   "on('eat', m => { const a = []; for (;;) a.push(new Array(1e5).fill(1)) })",
		"scripts/throws.js": "on('throw', m => { null.x })",
		"scripts/rule.yaml": "rules:\n  - name: echo\n    on: in\n    do: [{publish: out, payload: \"${payload}\"}]\n  - name: json wanted\n    on: in\n    if: payload.c > 3\n    do: [{publish: hot}]\n",
	})
	counted := subscribe(t, g, "counted")
	out := subscribe(t, g, "out")
	g.publish(t, "count", "1")
	counted.says(t, "counted 1")
	for n, topic := range []string{"loop", "eat", "throw"} {
		g.publish(t, topic, "{}")
		g.publish(t, "in", fmt.Sprint(n))
		out.says(t, fmt.Sprintf("out %d", n))
		g.publish(t, "count", "1")
		counted.says(t, fmt.Sprintf("counted %d", n+2))
		eventually(t, topic+" is blamed", func() bool { return g.ruleCount(t, topic+"s.js", "errors") == 1 })
	}
	g.publish(t, "in", "this is not JSON")
	out.says(t, "out this is not JSON")
	eventually(t, "the rule that wants JSON is not evaluated", func() bool { return g.ruleCount(t, "rule.yaml", "not_evaluated") >= 1 })
	g.stop(t)
}

// ruleCount sums a counter over the rules of a file.
func (g *gatewayProcess) ruleCount(t *testing.T, file, counter string) float64 {
	t.Helper()
	sum := 0.0
	for _, f := range g.api(t, "rules") {
		if f["file"] != file {
			continue
		}
		for _, r := range f["rules"].([]any) {
			sum += r.(map[string]any)[counter].(float64)
		}
	}
	return sum
}

func (g *gatewayProcess) publish(t *testing.T, topic, payload string) {
	t.Helper()
	if out, code := run(t, "", binary, "pub", "--server", "mqtt://"+g.mqtt, "-q", "1", topic, payload); code != 0 {
		t.Fatalf("pub %s ended with %d: %s", topic, code, out)
	}
}

// A device file with an unknown key, or a driver that there is not, leaves the
// other devices alone and says where it is wrong.
func TestABrokenDeviceFile(t *testing.T) {
	const lamp = "driver: sim\npoints:\n  on: {initial: false, writable: true}\n"
	g := startGateway(t, map[string]string{"devices/a.yaml": lamp, "devices/b.yaml": lamp})
	g.online(t, "a", "b")
	g.write(t, "devices/b.yaml", lamp+"colour: red\n")
	g.says(t, "b.yaml:4:1")
	eventually(t, "the API tells", func() bool {
		for _, d := range g.api(t, "devices") {
			if msg, _ := d["error"].(string); d["name"] == "b" && strings.Contains(msg, "colour") {
				return true
			}
		}
		return false
	})
	result := subscribe(t, g, "+/on/set/result")
	g.publish(t, "b/on/set", "true")
	result.says(t, `b/on/set/result {"ok":true`)
	g.publish(t, "a/off/set", "true")
	g.publish(t, "a/on/set", "maybe")
	result.says(t, `a/on/set/result {"ok":false`)
	g.stop(t)
}

// The log level and the folders change while running; what cannot says so.
func TestReloadOfTheConfiguration(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/a.yaml": "rules:\n  - {name: a, on: in, do: [{publish: out, payload: a}]}\n",
		"more/b.yaml":    "rules:\n  - {name: b, on: in, do: [{publish: out, payload: b}]}\n",
	})
	out := subscribe(t, g, "out")
	g.publish(t, "in", "1")
	out.says(t, "out a")
	g.write(t, "gatehouse.yaml", testConfig+"rules: {folder: more}\n")
	eventually(t, "the other folder is in force", func() bool {
		g.publish(t, "in", "2")
		return strings.Contains(out.output(), "out b")
	})
	g.write(t, "gatehouse.yaml", strings.Replace(testConfig, `console: {address: "127.0.0.1:0"}`, `console: {address: ""}`, 1))
	g.says(t, "needs a restart")
	g.write(t, "gatehouse.yaml", testConfig+"rules: {folder: more}\nlog: {}\n")
	g.says(t, "former one stays in force")
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.says(t, "told by SIGHUP")
	g.stop(t)
}

func TestHealth(t *testing.T) {
	g := startGateway(t, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		resp, err := http.Get(g.console + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(text) != "ok\n" {
			t.Errorf("%s gives %d %q %v", path, resp.StatusCode, text, err)
		}
	}
	g.stop(t)
}

// The data folder's socket serves local clients.
func TestTheUnixSocketOfTheDataFolder(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	writeFile(t, filepath.Join(dir, "g.yaml"), testConfig)
	p := start(t, binary, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", data)
	p.says(t, "gateway is up")
	socket := "unix://" + filepath.Join(data, "gatehouse.sock")
	if out, code := run(t, "kept", binary, "pub", "--server", socket, "-r", "-q", "2", "a/b"); code != 0 {
		t.Fatalf("pub ended with %d: %s", code, out)
	}
	if out, code := run(t, "", binary, "sub", "--server", socket, "-n", "1", "a/#"); code != 0 || out != "a/b kept\n" {
		t.Errorf("sub ended with %d: %q", code, out)
	}
}

// A port that is taken stops the start with the reason.
func TestAPortThatIsTaken(t *testing.T) {
	g := startGateway(t, nil)
	file := filepath.Join(t.TempDir(), "g.yaml")
	writeFile(t, file, "broker:\n  listeners:\n    - {address: \""+g.mqtt+"\"}\nconsole: {address: \"\"}\n")
	out, code := run(t, "", binary, "run", "--config", file)
	if code != 1 || !strings.Contains(out, "address already in use") || !strings.Contains(out, g.mqtt) {
		t.Errorf("ended with %d: %s", code, out)
	}
	g.stop(t)
}

func TestPubThatWaitsForItsInputCanBeInterrupted(t *testing.T) {
	g := startGateway(t, nil)
	in, out, err := os.Pipe() // is never written
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	pub := exec.Command(binary, "pub", "--server", "mqtt://"+g.mqtt, "x")
	pub.Stdin = in
	if err := pub.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = pub.Wait() // interrupted
	}()
	eventually(t, "the client is connected", func() bool { return len(g.api(t, "clients")) == 1 })
	if err := pub.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = pub.Process.Kill()
		<-ended
		t.Error("pub goes on reading")
	}
}

func TestPubSaysThatAMessageIsTooLarge(t *testing.T) {
	g := startGateway(t, nil)
	pub := func(stdin string, args ...string) (string, int) {
		return run(t, stdin, binary, append([]string{"pub", "--server", "mqtt://" + g.mqtt, "a/b"}, args...)...)
	}
	if out, code := pub(strings.Repeat("x", 20<<20)); code != 1 || !strings.Contains(out, "the packet is too large: it has 20971") {
		t.Errorf("20 MiB: exit code %d, %.300s", code, out)
	}
	if out, code := pub("short\n"+strings.Repeat("x", 15<<20), "-l"); code != 1 || !strings.Contains(out, "line 2: the packet is too large") {
		t.Errorf("a line of 15 MiB: exit code %d, %.300s", code, out)
	}
	if out, code := pub("short\n"+strings.Repeat("x", 17<<20), "-l"); code != 1 || !strings.Contains(out, "line 2 is longer than 16777216 bytes") {
		t.Errorf("a line of 17 MiB: exit code %d, %.300s", code, out)
	}
}
