package main_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a plugin offers by name is called by rules of both languages, whether the plugin
// came before them or after; what fails is told with its reason and fails nothing else.
func TestFunctionsOfAPlugin(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/ask.yaml": `rules:
  - name: sum
    on: sum/yaml
    do: [{publish: out/yaml, payload: "${plugin('sum', payload.a, payload.b)}", retain: true}]
  - name: deaf
    on: deaf/yaml
    if: plugin("deaf") == 1
    do: [{publish: never}]
  - name: exit
    on: exit/yaml
    if: plugin("exit") == 1
    do: [{publish: never}]
`,
		"scripts/ask.js": `on('sum/js', msg => publish('out/js', plugin('sum', msg.payload.a, msg.payload.b), {retain: true}))
on('deaf/js', () => {
  try {
    plugin('deaf')
  } catch (e) {
    publish('out/deaf', e.message, {retain: true})
  }
})
on('exit/js', () => plugin('exit'))
`,
	})
	const args = `{"a": 1.5, "b": 2}`
	g.publish(t, "sum/yaml", args)
	g.says(t, `"error":"no plugin offers a function \"sum\""`)
	g.publish(t, "sum/js", args)
	g.says(t, `ask.js:1:45: no plugin offers a function \"sum\"`)

	g.installProbe(t)
	eventually(t, "the plugin runs", func() bool { return g.pluginPID(t) != 0 })
	for _, language := range []string{"yaml", "js"} {
		g.publish(t, "sum/"+language, args)
		eventually(t, language+" has the sum", func() bool { return g.retained(t, "out/"+language) == "3.5" })
	}

	g.publish(t, "deaf/yaml", "")
	g.says(t, `"rule":"deaf","outcome":"error","error":"function \"deaf\" of plugin \"probe\": no answer within `)
	g.publish(t, "deaf/js", "")
	g.retainedPrefix(t, "out/deaf", `function "deaf" of plugin "probe": no answer within `)
	for language, said := range map[string]string{"yaml": `"rule":"exit","outcome":"error","error":"`, "js": `"rule":"on exit/js","outcome":"error","error":"ask.js:9:27: `} {
		eventually(t, "the plugin runs", func() bool { return g.pluginPID(t) != 0 })
		pid := g.pluginPID(t)
		g.publish(t, "exit/"+language, "")
		g.says(t, said+`function \"exit\" of plugin \"probe\": plugin is not running: it has stopped`)
		eventually(t, "the plugin runs again", func() bool { now := g.pluginPID(t); return now != 0 && now != pid })
	}
	g.publish(t, "sum/yaml", `{"a": 1, "b": 1}`)
	eventually(t, "all goes on", func() bool { return g.retained(t, "out/yaml") == "2" })
	g.stop(t)
}

// installProbe builds the plugin that does what tests ask it for, and installs it.
func (g *gatewayProcess) installProbe(t *testing.T) {
	t.Helper()
	program := filepath.Join(g.dir, "probe")
	build := exec.Command("go", "build", "-o", program, "../../plugins/testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the plugin: %v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(g.dir, "plugins/probe")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program, filepath.Join(folder, "probe")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	g.write(t, "plugins/probe/plugin.yaml", "name: probe\ncommand: probe\nsha256: "+hex.EncodeToString(sum[:])+"\nfunctions: [sum, deaf, exit]\n")
}

func (g *gatewayProcess) retainedPrefix(t *testing.T, topic, prefix string) {
	t.Helper()
	eventually(t, topic+" begins with "+prefix, func() bool {
		got := g.retained(t, topic)
		return len(got) >= len(prefix) && got[:len(prefix)] == prefix
	})
}
