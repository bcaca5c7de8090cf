package gateway

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/exposition"
)

// small is a gateway without listeners and console, on folders of the test.
func small(t *testing.T, dir string) *Gateway {
	t.Helper()
	cfg := config.Default()
	cfg.Broker.Listeners, cfg.Console.Address = nil, ""
	cfg.Rules.Folder, cfg.Devices.Folder, cfg.Plugins.Folder = filepath.Join(dir, "rules"), filepath.Join(dir, "devices"), filepath.Join(dir, "plugins")
	g, err := New(cfg, Options{Worker: []string{"/bin/false"}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestMetricsOfAFileWhoseNameIsNotText(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a\xfc", "a\xfd"} {
		write(t, filepath.Join(dir, "devices", name+".yaml"), "driver: sim\npoints: {x: {initial: 1}}\n")
	}
	g := small(t, dir)
	_ = g.loadDevices(t.Context()) // such a name is no topic, and the devices are listed with the error
	var page exposition.Page
	g.metrics(&page)
	text := string(page.Append(nil, "gatehouse_device_online"))
	for _, want := range []string{`{device="a\\xfc"} 0`, `{device="a\\xfd"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

// It is told, and everything else runs: a broken disk must not darken the house.
func TestAFolderOfRulesThatIsNoFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules"), []byte("no folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := small(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	g.opt.Up = cancel
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
	if ctx.Err() != context.Canceled {
		t.Error("the gateway does not come up")
	}
	files := view{g}.Rules()
	if len(files) != 1 || files[0].OK || !strings.Contains(files[0].Error, "cannot be read") {
		t.Errorf("want the folder shown as broken, got %+v", files)
	}
}

// What a device retains need not be on the disk at once; everything else does.
func TestReadingsAreRelaxed(t *testing.T) {
	cfg := config.Default()
	cfg.Store.Relaxed = []config.Relaxed{{Filter: "a/#", Durability: "off"}}
	need := relaxed(&cfg.Store)
	for name, c := range map[string]struct {
		m    message.Message
		want string // "" is all
	}{
		"a reading":                       {message.Message{Topic: "plc/temp", Origin: "device/plc", Retain: true}, "interval 10s"},
		"a reading of a topic with a say": {message.Message{Topic: "a/temp", Origin: "device/plc", Retain: true}, "off"},
		"the result of a command":         {message.Message{Topic: "plc/fan/set/result", Origin: "device/plc"}, ""},
		"a client's message":              {message.Message{Topic: "plc/temp", Origin: "client/device/x", Retain: true}, ""},
		"a rule's message":                {message.Message{Topic: "plc/temp", Origin: "rule/device", Retain: true}, ""},
	} {
		d, ok := need(&c.m)
		if ok != (c.want != "") || ok && d.String() != c.want {
			t.Errorf("%s: got %v, %v", name, d, ok)
		}
	}
}
