package gateway

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// The script worker is started before anything else; a start that fails ends it.
func TestAStartThatFailsEndsTheScriptWorker(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // nobody was served
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rules", "a.js"), "on('x', () => {})")
	cfg := config.Default()
	cfg.Broker.Listeners = []config.Listener{{Address: taken.Addr().String(), Protocol: "mqtt"}}
	cfg.Console.Address = ""
	cfg.Rules.Folder, cfg.Devices.Folder, cfg.Plugins.Folder = filepath.Join(dir, "rules"), filepath.Join(dir, "devices"), filepath.Join(dir, "plugins")
	g, err := New(cfg, Options{Worker: []string{"/bin/cat"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("Run returned %v on an address that is taken", err)
	}
}
