package plugins_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins"
)

func TestThermostat(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "thermostat", "thermostat", "drivers: [thermostat]")
	h := start(t, dir, quick(&logs{}))
	if _, ok := h.Lookup("thermostat"); ok && status(h, "thermostat").State != plugins.Running {
		t.Error("driver was found before its plugin ran")
	}
	st := running(t, h, "thermostat")
	if st.PID == 0 || st.Version != "1.0.0" {
		t.Errorf("status = %+v", st)
	}
	driver := find(t, h, "thermostat")
	if again := find(t, h, "thermostat"); again != driver {
		t.Error("the driver is not equal to itself")
	}
	cfg := config(t, "driver: thermostat", "setpoint: 20", "speed: 6000")
	points, err := driver.Check(cfg)
	must(t, err)
	if len(points) != 3 || points[1].Name != "setpoint" || !points[1].Writable || points[0].Every != time.Second {
		t.Errorf("points = %+v", points)
	}
	dev, err := driver.Open(t.Context(), cfg)
	must(t, err)
	if v := read(t, dev, "setpoint").Value; v.String() != "20" {
		t.Errorf("setpoint = %s", v)
	}
	must(t, dev.Write(t.Context(), "setpoint", drivers.DecimalValue(2225, -2)))
	if v := read(t, dev, "setpoint").Value; v.String() != "22.25" {
		t.Errorf("setpoint = %s after it was written", v)
	}
	err = dev.Write(t.Context(), "setpoint", drivers.IntValue(45))
	if err == nil || err.Error() != "setpoint 45 is outside of 5 to 30 °C" {
		t.Errorf("writing 45: %v", err)
	}
	pushed := dev.(drivers.Pusher).Pushed()
	seen := map[string]bool{}
	for len(seen) < 2 { // it heats, and some time later it does not
		p := <-pushed
		must(t, p.Err)
		seen[p.Readings[0].Value.String()] = true
	}
	must(t, dev.Close())
	if _, open := <-pushed; open {
		for range pushed {
		}
	}
}

func TestEnvironmentIsMinimal(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]", "env: [WANTED, MISSING]")
	o := quick(&logs{})
	o.LookupEnv = func(name string) (string, bool) {
		v, ok := map[string]string{"PATH": "/bin", "WANTED": "yes", "SECRET": "no", "HOME": "/root"}[name]
		return v, ok
	}
	h := start(t, dir, o)
	running(t, h, "probe")
	var got []string
	for _, v := range strings.Split(read(t, open(t, h), "env").Value.String(), "\n") {
		if name, _, ok := strings.Cut(v, "="); ok && name == strings.ToUpper(name) && !strings.HasPrefix(name, "PLUGIN_") {
			got = append(got, v)
		}
	}
	want := "PATH=/bin WANTED=yes GATEHOUSE_PLUGIN="
	if s := strings.Join(got, " "); !strings.HasPrefix(s, want) {
		t.Errorf("environment is %q, want %q...", s, want)
	}
}

func TestOutputGoesToTheLog(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	log := &logs{}
	h := start(t, dir, quick(log))
	running(t, h, "probe")
	dev := open(t, h)
	write(t, dev, "do", "log the valve sticks")
	write(t, dev, "do", "print plain words")
	eventually(t, "the record", func() bool {
		return strings.Contains(log.String(), `level=WARN msg="plugin says" plugin=probe text="the valve sticks" with.exact=9223372036854775808`)
	})
	eventually(t, "the printed line", func() bool {
		return strings.Contains(log.String(), `msg="plugin wrote" plugin=probe text="plain words"`)
	})
}

// A record is what the plugin made it, however long it is.
func TestLongRecordsKeepTheirLevel(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	log := &logs{}
	h := start(t, dir, quick(log))
	running(t, h, "probe")
	dev := open(t, h)
	write(t, dev, "do", "long")
	eventually(t, "the long record", func() bool { return strings.Contains(log.String(), "the valve broke") })
	if want := `level=ERROR msg="plugin says" plugin=probe text="the valve broke" with.valve=7`; !strings.Contains(log.String(), want) {
		t.Errorf("the log has no %q:\n%.1000s", want, log)
	}
	if err := dev.Write(t.Context(), "do", drivers.TextValue("deep")); !errors.Is(err, drivers.ErrLost) {
		t.Errorf("Write = %v", err)
	}
	eventually(t, "the panic", func() bool { return strings.Contains(log.String(), "driver panicked") })
	for _, want := range []string{`level=ERROR msg="plugin says" plugin=probe text="driver panicked"`, `with.panic="out of depth"`, "main.deep"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%.5000s", want, log)
		}
	}
}

// Records below the log's level do not use up what a plugin may write.
func TestUnwantedRecordsDoNotCount(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	log := &logs{}
	o := quick(log)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	h := start(t, dir, o)
	running(t, h, "probe")
	write(t, open(t, h), "do", "chatter 200")
	eventually(t, "the warning", func() bool { return strings.Contains(log.String(), "the valve sticks") })
	if strings.Contains(log.String(), "lines dropped") {
		t.Errorf("lines were dropped:\n%s", log)
	}
}

func TestFloodIsCutAndCounted(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	log := &logs{}
	h := start(t, dir, quick(log))
	pid := running(t, h, "probe").PID
	dev := open(t, h)
	write(t, dev, "do", "flood 20000")
	if n := read(t, dev, "pid").Value.String(); n == "" {
		t.Error("the plugin does not answer")
	}
	_ = dev.Write(t.Context(), "do", drivers.TextValue("exit")) // it dies of it
	await(t, h, "probe", "restarted", func(st plugins.PluginStatus) bool {
		return st.State == plugins.Running && st.PID != pid
	})
	if n := strings.Count(log.String(), "text=flood"); n == 0 || n > 100 {
		t.Errorf("%d lines of the flood were logged", n)
	}
	if !strings.Contains(log.String(), "plugin writes too much") {
		t.Error("nothing says that lines were dropped")
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	install(t, dir, "thermostat", "thermostat", "drivers: [thermostat]")
	h := start(t, dir, quick(&logs{}))
	probe, thermostat := running(t, h, "probe"), running(t, h, "thermostat")
	driver := find(t, h, "probe")

	// A change restarts its plugin only, and changes the driver.
	manifest(t, dir, "extra", "name: extra")
	install(t, dir, "probe", "probe", "drivers: [probe, probe.two]")
	if err := h.Load(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "extra/plugin.yaml:1:1: \"command\" is missing") {
		t.Errorf("Load = %v", err)
	}
	await(t, h, "probe", "restarted", func(st plugins.PluginStatus) bool {
		return st.State == plugins.Running && st.PID != probe.PID
	})
	if find(t, h, "probe") == driver {
		t.Error("the driver is the same after the manifest changed")
	}
	find(t, h, "probe.two")
	if st := running(t, h, "thermostat"); st.PID != thermostat.PID {
		t.Error("a plugin that did not change was restarted")
	}
	if st := status(h, "extra"); st.State != plugins.Broken {
		t.Errorf("extra is %s", st)
	}

	// A manifest that breaks leaves its plugin running; one that is gone stops it.
	manifest(t, dir, "thermostat", "name: [")
	must(t, os.RemoveAll(dir+"/probe"))
	must(t, os.RemoveAll(dir+"/extra"))
	if err := h.Load(t.Context(), dir); err == nil {
		t.Error("Load took a broken manifest")
	}
	st := running(t, h, "thermostat")
	if st.PID != thermostat.PID || !strings.Contains(st.LastError, "plugin.yaml:1:") {
		t.Errorf("thermostat is %s", st)
	}
	if _, ok := h.Lookup("probe"); ok {
		t.Error("a driver of a plugin that is gone was found")
	}
	if names := len(h.Status()); names != 1 {
		t.Errorf("%d plugins are left", names)
	}
	if _, err := driver.Open(t.Context(), config(t, "driver: probe")); err == nil || !strings.Contains(err.Error(), "not installed any more") {
		t.Errorf("Open = %v", err)
	}
}

func TestFormerProgramOffersNothing(t *testing.T) {
	former := &plugins.Manifest{Name: "p", Command: "p", Drivers: []string{"one"}, Enabled: true}
	now := &plugins.Manifest{Name: "p", Command: "q", Drivers: []string{"one"}, Enabled: true}
	if plugins.LateStart(former, now) {
		t.Error("a driver is offered by a manifest whose program has never run")
	}
}

func TestDisabledPluginDoesNotRun(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]", "enabled: false")
	h := start(t, dir, quick(&logs{}))
	if st := status(h, "probe"); st.State != plugins.Stopped || st.PID != 0 {
		t.Errorf("status = %s", st)
	}
	install(t, dir, "probe", "probe", "drivers: [probe]", "enabled: true")
	must(t, h.Load(t.Context(), dir))
	running(t, h, "probe")
}

func TestMissingFolderIsEmpty(t *testing.T) {
	h := start(t, t.TempDir()+"/none", quick(&logs{}))
	if n := len(h.Status()) + len(h.Drivers()); n != 0 {
		t.Errorf("%d things in an empty host", n)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]plugins.Options{
		"negative timeout": {StartTimeout: -1},
		"pauses reversed":  {RestartFirst: time.Hour, RestartMost: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := plugins.New(o); err == nil {
				t.Error("New took it")
			}
		})
	}
}

func TestStopClosesDevices(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	h, err := plugins.New(quick(&logs{}))
	must(t, err)
	must(t, h.Load(t.Context(), dir))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	pid := running(t, h, "probe").PID
	open(t, h, "mark: "+filepath.Join(dir, ".closed"))
	cancel()
	must(t, <-done)
	if !closed(dir) {
		t.Error("the device was not closed")
	}
	if alive(pid) {
		t.Error("the plugin is alive")
	}
	if st := status(h, "probe"); st.State != plugins.Stopped || st.PID != 0 || st.LastError != "" {
		t.Errorf("status = %s", st)
	}
}

func TestPluginStartedByHandSaysWhatItIs(t *testing.T) {
	out, err := exec.Command(bin(t, "thermostat")).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(string(out), "thermostat 1.0.0 is a plugin of Gatehouse") {
		t.Errorf("%v: %q", err, out)
	}
}

func TestRunTwice(t *testing.T) {
	h, err := plugins.New(plugins.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, h.Run(ctx))
	if err := h.Run(ctx); err == nil {
		t.Error("Run ran twice")
	}
}
