package main_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// demoHouse reads the files of the demo house, on ports of its own.
func demoHouse(t testing.TB) map[string]string {
	t.Helper()
	files := make(map[string]string)
	plc := freePort(t)
	for folder, to := range map[string]string{"demo/devices": "devices", "../../scripts": "scripts"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[to+"/"+e.Name()] = strings.ReplaceAll(string(text), "127.0.0.1:1502", "127.0.0.1:"+plc)
		}
	}
	return files
}

// The demo house does what its files promise.
func TestTheDemoHouse(t *testing.T) {
	g := startGateway(t, demoHouse(t))
	g.online(t, "hall-door", "hall-light", "hall-lock", "hall-thermometer", "plc", "press")
	all := subscribe(t, g, "#")
	all.says(t, `home/hall/light {"on":true}`)
	all.says(t, `clean/hall/temp {"c":2`)
	all.says(t, "plant/press/fan true")

	if topics := g.api(t, "topics"); !slices.IsSortedFunc(topics, byTopic) {
		t.Errorf("the topics are in disorder: %v", topics)
	}

	g.publish(t, "raw/kitchen/temp", `{"c": 20}`)
	all.says(t, `clean/kitchen/temp {"c":20,"f":68}`)
	g.publish(t, "raw/kitchen/temp", `{"c": 999}`)
	g.publish(t, "home/back/lock", `{"locked": true}`)
	g.publish(t, "home/back/door", `{"open": true}`)
	all.says(t, `home/back/alarm {"alarm":"forced","door":"back"}`)
	all.says(t, `home/back/light/set {"on":true}`)
	g.publish(t, "home/back/door", `{"open": false}`)
	all.says(t, `home/back/light/set {"on":false}`)
	if strings.Contains(all.output(), `"c":999`) {
		t.Error("a mad temperature came through the filter")
	}
	g.stop(t)
}

func byTopic(a, b map[string]any) int { return cmp.Compare(a["topic"].(string), b["topic"].(string)) }

// The shipped configuration of the demo house is right as it is in the tree.
func TestTheDemoHouseIsRight(t *testing.T) {
	if out, code := run(t, "", binary, "check", "--config", "demo/gatehouse.yaml"); code != 0 || out != "ok\n" {
		t.Errorf("check ended with %d: %s", code, out)
	}
}

// A plugin's driver serves a device as any other, comes back after a crash, and
// neither it nor the script worker outlives a gateway that is killed.
func TestAPlugin(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "thermostat")
	build := exec.Command("go", "build", "-o", program, "../../plugins/examples/thermostat")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the plugin: %v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	g := startGateway(t, map[string]string{
		"devices/living-room.yaml": "driver: thermostat\n",
		"devices/wrong.yaml":       "driver: thermostat\nsetpiont: 20\n",
		"scripts/a.js":             "on('a', m => {})",
		"plugins/thermostat/plugin.yaml": "name: thermostat\ncommand: ../../thermostat\nsha256: " + hex.EncodeToString(sum[:]) +
			"\ndrivers: [thermostat]\n",
	})
	g.says(t, "plugin.yaml:2:") // a command outside of its folder is refused
	if err := os.Rename(program, filepath.Join(g.dir, "plugins/thermostat/thermostat")); err != nil {
		t.Fatal(err)
	}
	g.write(t, "plugins/thermostat/plugin.yaml", "name: thermostat\ncommand: thermostat\nsha256: "+hex.EncodeToString(sum[:])+"\ndrivers: [thermostat]\n")
	g.online(t, "living-room")
	g.says(t, `"folder":"devices","error":"wrong.yaml:2:`) // only the plugin can tell
	result := subscribe(t, g, "living-room/setpoint/set/result")
	g.publish(t, "living-room/setpoint/set", "23.5")
	result.says(t, `{"ok":true,"value":23.5}`)

	pid := g.pluginPID(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin runs again", func() bool { now := g.pluginPID(t); return now != 0 && now != pid })
	g.online(t, "living-room")

	children := childrenOf(t, g.cmd.Process.Pid)
	if len(children) < 2 {
		t.Fatalf("the gateway has the children %v, want a worker and a plugin", children)
	}
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, child := range children {
		eventually(t, child+" ends with the gateway", func() bool {
			_, err := os.Stat(child)
			return os.IsNotExist(err)
		})
	}
}

func (g *gatewayProcess) pluginPID(t *testing.T) int {
	t.Helper()
	list := g.api(t, "plugins")
	if len(list) != 1 {
		return 0
	}
	pid, _ := list[0]["pid"].(float64)
	return int(pid)
}

// childrenOf lists the /proc folders of a process's children.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	out, _ := run(t, "", "pgrep", "-P", strconv.Itoa(pid))
	var folders []string
	for _, child := range strings.Fields(out) {
		folders = append(folders, "/proc/"+child)
	}
	return folders
}
