package drivers_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestReload(t *testing.T) {
	a, b := device("topic: home/a", "x"), device("topic: home/b", "x: {writable: true}")
	t.Run("an unchanged file keeps its device open", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("a.yaml", a, "b.yaml", b), func(h *house) {
			h.load(files("a.yaml", a, "b.yaml", b+"# changed\n"))
			synctest.Wait()
			if f.opens != 3 || f.closes != 1 {
				t.Errorf("want 3 opens and 1 close, got %d and %d", f.opens, f.closes)
			}
			h.want("home/+/status", "online", "online") // b has not been away
		})
	})
	t.Run("a removed file closes its device, which is offline", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("a.yaml", a, "b.yaml", b), func(h *house) {
			h.load(files("b.yaml", b))
			synctest.Wait()
			h.want("home/a/status", "online", "offline")
			if f.closes != 1 || len(h.host.Status()) != 1 {
				t.Errorf("want one closed and one left, got %d, %+v", f.closes, h.host.Status())
			}
			h.load(files("a.yaml", a, "b.yaml", b))
			synctest.Wait()
			h.want("home/a/status", "online", "offline", "online")
		})
	})
	t.Run("a changed topic moves the device and its control topics", func(t *testing.T) {
		inHouse(t, one(&fake{}), files("b.yaml", b), func(h *house) {
			h.load(files("b.yaml", strings.Replace(b, "home/b", "attic", 1)))
			synctest.Wait()
			h.want("home/b/status", "online", "offline")
			h.want("attic/status", "online")
			if got := h.bus.Filters(drivers.SubscriptionName); !slices.Equal(got, []string{"attic/x/set"}) {
				t.Errorf("want the new control topic, got %q", got)
			}
			if got := h.set("attic/x/set", "1"); got != `{"ok":true,"value":1}` {
				t.Errorf("want ok, got %s", got)
			}
		})
	})
	t.Run("a renamed file hands the topic over", func(t *testing.T) {
		inHouse(t, one(&fake{}), files("a.yaml", a), func(h *house) {
			h.load(files("z.yaml", a))
			h.after(time.Second)
			if got := h.bus.Retained("home/a/status"); got != "online" {
				t.Errorf("want it online, got %s", got)
			}
		})
	})
	t.Run("a broken file leaves the old device, and the other changes come", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("a.yaml", a, "b.yaml", b), func(h *house) {
			err := h.tryLoad(files("a.yaml", a+"bogus: 1\n", "b.yaml", b+"# changed\n", "c.yaml", device("", "x"), "d.yaml", "driver: [\n"))
			synctest.Wait()
			var at *drivers.ConfigError
			if !errors.As(err, &at) || at.File != "a.yaml" || at.Line != 5 || at.Column != 1 || !strings.Contains(err.Error(), "d.yaml:1:9: ") {
				t.Errorf("want errors of a.yaml:5:1 and d.yaml:1:9, got %v", err)
			}
			if !strings.Contains(at.Snippet, ">  5 | bogus: 1\n       ^") {
				t.Errorf("want the line and a caret, got\n%s", at.Snippet)
			}
			if f.opens != 4 || f.closes != 1 || !h.status("a").Online || !h.status("c").Online {
				t.Errorf("want a untouched, b reopened, c opened, got %d opens, %d closes", f.opens, f.closes)
			}
			if got := h.status("a").FileError; !strings.HasPrefix(got, `a.yaml:5:1: unknown field "bogus"`) {
				t.Errorf("want the error in the status, got %q", got)
			}
			if d := h.status("d"); d.Online || d.FileError == "" || d.File != "d.yaml" {
				t.Errorf("want d shown with its error, got %+v", d)
			}
			h.load(files("a.yaml", a))
			synctest.Wait()
			if f.opens != 4 || h.status("a").FileError != "" {
				t.Errorf("want the former file to be no change, got %d opens, %+v", f.opens, h.status("a"))
			}
		})
	})
	t.Run("a slow device does not hold up a reload", func(t *testing.T) {
		slow := &fake{delay: 20 * time.Second}
		o := drivers.Options{Drivers: map[string]drivers.Driver{"slow": slow, "fake": &fake{}}}
		inHouse(t, o, files("s.yaml", "driver: slow\npoints: {x: {}}\n"), func(h *house) {
			h.load(files("a.yaml", a))
			h.after(time.Millisecond)
			h.want("home/a/status", "online")
		})
	})
}

func TestLoad(t *testing.T) {
	good := device("topic: home/a", "x")
	for _, c := range []struct{ name, text, want string }{
		{"an empty file", "", "z.yaml:1:1: the file is empty"},
		{"a file of comments", "# nothing\n", "z.yaml:1:1: the file is empty"},
		{"a list", "- a\n", "z.yaml:1:1: "},
		{"two documents", good + "---\na: 1\n", "z.yaml:6:1: a device file is one YAML document"},
		{"no driver", "points: {}\n", `z.yaml:1:1: the key "driver" is missing`},
		{"a tag", "driver: !fake fake\n", `z.yaml:1:9: YAML tags such as "!fake" are not allowed`},
		{"an alias", "driver: fake\npoints:\n  x: &x {}\n  y: *x\n", `z.yaml:3:6: YAML anchors and aliases such as "&x" are not allowed`},
		{"an alias of nothing", "driver: fake\npoints:\n  y: *x\n", `z.yaml:3:6: YAML anchors and aliases such as "*x" are not allowed`},
		{"an alias that is merged", "driver: fake\npoints:\n  y:\n    <<: *x\n", `z.yaml:4:9: YAML anchors and aliases such as "*x" are not allowed`},
		{"an alias in a list", "driver: fake\nlist: [1, *x]\n", `z.yaml:2:11: YAML anchors and aliases such as "*x" are not allowed`},
		{"an alias for a key", "driver: fake\npoints:\n  *x : {}\n", `z.yaml:3:3: YAML anchors and aliases such as "*x" are not allowed`},
		{"an anchor without a name", "driver: fake\nx: &\n", `z.yaml:`},
		{"an alias without a name", "driver: fake\nx: *\n", `z.yaml:`},
		{"an interval without a unit", "driver: fake\nevery: 0\n", `z.yaml:2:8: this must be a duration such as "500ms" or "5s"`},
		{"a key that is no text", "driver: fake\npoints:\n  true: {}\n", "z.yaml:3:3: the key true must be quoted"},
		{"a key twice", "driver: fake\npoints:\n  x: {}\n  x: {}\n", `z.yaml:4:3: mapping key "x" already defined at [3:3]`},
		{"a number for a duration", "driver: fake\nevery: 5\n", `z.yaml:2:8: this must be a duration such as "500ms" or "5s"`},
		{"a bad duration", "driver: fake\nevery: 5 parsecs\n", `z.yaml:2:8: time: unknown unit " parsecs" in duration "5 parsecs"`},
		{"a text for a switch", "driver: fake\ntogether: maybe\n", "z.yaml:2:11: this must be true or false"},
		{"a text for a number", "driver: fake\npoints:\n  x: {deadband: big}\n", "z.yaml:3:17: this must be a number"},
		{"a short interval", "driver: fake\npoints:\n  x: {every: 1ms}\n", `z.yaml:3:14: point "x": every must be at least 10ms`},
		{"a point's interval of nothing", "driver: fake\npoints:\n  y: {every: 1s}\n  x: {every: 0s}\n", `z.yaml:4:14: point "x": every must be at least 10ms`},
		{"a point's negative interval", "driver: fake\npoints:\n  x:\n    every: '-1s'\n", `z.yaml:4:12: point "x": every must be at least 10ms`},
		{"a device's interval of nothing", "driver: fake\nevery: 0s\npoints:\n  x: {every: 1s}\n", `z.yaml:2:8: every must be at least 10ms`},
		{"a device's negative interval", "driver: fake\nevery: -1m\npoints: {x: {}}\n", `z.yaml:2:8: every must be at least 10ms`},
		{"a device's short interval", "driver: fake\npoints:\n  x: {}\nevery: 1ns\n", `z.yaml:4:8: every must be at least 10ms`},
		{"a negative longest", "driver: fake\npoints:\n  x: {longest: -1s}\n", `z.yaml:3:16: point "x": longest must not be negative`},
		{"a deadband that is no number", "driver: fake\npoints:\n  x: {deadband: .nan}\n", `z.yaml:3:17: point "x": deadband must be a number from 0`},
		{"a topic with a wildcard", "driver: fake\ntopic: home/+\n", `z.yaml:2:8: "home/+" cannot be a topic`},
		{"a topic of the system", "driver: fake\ntopic: $SYS/x\n", `z.yaml:2:8: "$SYS/x" cannot be a topic`},
		{"a point with a wildcard", "driver: fake\npoints:\n  'a#': {}\n", `z.yaml:3:9: "a#" cannot be part of a topic`},
		{"a point that is called status", "driver: fake\npoints:\n  status: {}\n", `z.yaml:3:11: topic "z/status" belongs to this device already`},
		{"a point that is another's control topic", "driver: fake\npoints:\n  x: {}\n  x/set: {}\n", `z.yaml:4:10: topic "z/x/set" belongs to this device already`},
		{"the topic of another device", "driver: fake\ntopic: home/a\npoints: {y: {}}\n", `z.yaml:2:8: topic "home/a/status" belongs to device "a" already`},
		{"a topic within another device", "driver: fake\ntopic: home\ntogether: true\npoints: {a/x: {}}\n", `z.yaml:2:8: topic "home/a/x" belongs to device "a" already`},
		{"a file that is too long", "driver: fake #" + strings.Repeat("x", 1<<20), "z.yaml:1:1: the file is over 1048576 bytes"},
	} {
		t.Run(c.name+" has its place in the error", func(t *testing.T) {
			host, err := drivers.NewHost(one(&fake{}))
			if err != nil {
				t.Fatal(err)
			}
			fsys := fstest.MapFS{"a.yaml": {Data: []byte(good)}, "z.yaml": {Data: []byte(c.text)}}
			err = host.Load(t.Context(), fsys)
			if err == nil || !errors.Is(err, drivers.ErrConfig) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
			var at *drivers.ConfigError
			if !errors.As(err, &at) {
				t.Errorf("want a *drivers.ConfigError, got %T", err)
			}
			if errCheck := host.Check(t.Context(), fsys); errCheck == nil || errCheck.Error() != err.Error() {
				t.Errorf("want Check to say the same, got %v", errCheck)
			}
		})
	}
	t.Run("an interval that is left empty is the default", func(t *testing.T) {
		inHouse(t, one(&fake{}), files("a.yaml", "driver: fake\nevery:\npoints:\n  x: {every: }\n"), func(h *house) {
			h.after(time.Second)
			if !h.status("a").Online {
				t.Errorf("want it online, got %+v", h.status("a"))
			}
		})
	})
	t.Run("what is no device file is passed over", func(t *testing.T) {
		host, err := drivers.NewHost(one(&fake{}))
		if err != nil {
			t.Fatal(err)
		}
		bad := &fstest.MapFile{Data: []byte("?")}
		fsys := fstest.MapFS{"a.yaml": {Data: []byte(good)}, ".b.yaml": bad, "c.yml": bad, "d.yaml~": bad, "e/f.yaml": bad}
		if err := host.Load(t.Context(), fsys); err != nil {
			t.Errorf("Load: %v", err)
		}
		if all := host.Status(); len(all) != 1 || all[0].Name != "a" || all[0].Reason != "not started" {
			t.Errorf("want device a, not started, got %+v", all)
		}
	})
	t.Run("a folder that is missing is empty", func(t *testing.T) {
		host, err := drivers.NewHost(one(&fake{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Load(t.Context(), os.DirFS(filepath.Join(t.TempDir(), "missing"))); err != nil {
			t.Errorf("Load: %v", err)
		}
	})
	t.Run("a folder that cannot be read changes nothing", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("a.yaml", good), func(h *house) {
			if err := h.host.Load(t.Context(), brokenFS{}); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("want fs.ErrPermission, got %v", err)
			}
			h.after(time.Second)
			if !h.status("a").Online || f.closes != 0 {
				t.Errorf("want a untouched, got %+v", h.status("a"))
			}
		})
	})
	t.Run("a driver that panics in its check is an error of the file", func(t *testing.T) {
		host, err := drivers.NewHost(one(&fake{panics: "check"}))
		if err != nil {
			t.Fatal(err)
		}
		err = host.Load(t.Context(), fstest.MapFS{"a.yaml": {Data: []byte(good)}})
		if err == nil || !strings.Contains(err.Error(), "a.yaml:1:1: the driver panicked: the fake was told to panic in check") {
			t.Errorf("want the panic, got %v", err)
		}
	})
	t.Run("an ended context loads nothing", func(t *testing.T) {
		host, err := drivers.NewHost(one(&fake{}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := host.Load(ctx, fstest.MapFS{"a.yaml": {Data: []byte(good)}}); !errors.Is(err, context.Canceled) {
			t.Errorf("want context.Canceled, got %v", err)
		}
	})
}

type brokenFS struct{}

func (brokenFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestDriverThatComes(t *testing.T) {
	f := &fake{}
	var there atomic.Bool
	o := drivers.Options{Lookup: func(name string) (drivers.Driver, bool) { return f, name == "late" && there.Load() }}
	text := "driver: late\ntopic: home/a\npoints: {x: {writable: true}}\n"
	inHouse(t, o, files("a.yaml", text), func(h *house) {
		h.after(time.Hour)
		if d := h.status("a"); d.Online || d.Reason != `driver "late" is not available (yet)` || d.Driver != "late" {
			t.Errorf("want it to wait, got %+v", d)
		}
		h.want("home/a/status", "offline")
		if err := h.host.Check(t.Context(), h.fs); err == nil || !strings.HasPrefix(err.Error(), `a.yaml:1:9: driver "late" is not available`) {
			t.Errorf("Check: want it not available, got %v", err)
		}

		there.Store(true)
		if err := h.host.Refresh(); err != nil {
			t.Errorf("Refresh: %v", err)
		}
		synctest.Wait()
		if got := h.set("home/a/x/set", "1"); got != `{"ok":true,"value":1}` || !h.status("a").Online {
			t.Errorf("want it to work, got %s, %+v", got, h.status("a"))
		}
		if err := h.host.Refresh(); err != nil {
			t.Errorf("Refresh: %v", err)
		}
		synctest.Wait()
		if f.opens != 1 {
			t.Errorf("want it opened once, got %d", f.opens)
		}

		there.Store(false)
		if err := h.host.Refresh(); err != nil {
			t.Errorf("Refresh: %v", err)
		}
		h.after(time.Second)
		if d := h.status("a"); d.Online || f.closes != 1 {
			t.Errorf("want it closed, got %+v", d)
		}
		h.want("home/a/status", "offline", "online", "offline")
	})
}

func TestRun(t *testing.T) {
	t.Run("says that each device is offline when it stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			h := startHouse(t, one(f), files("a.yaml", device("", "x"), "b.yaml", device("", "x")))
			h.after(time.Second)
			h.end()
			if h.bus.Retained("a/status") != "offline" || h.bus.Retained("b/status") != "offline" || f.closes != 2 {
				t.Errorf("want both offline and closed, got %v", h.bus.Payloads("+/status"))
			}
		})
	})
	t.Run("says so before it closes them, which may take long, and names the late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{closing: 7 * time.Second}
			h := startHouse(t, one(f), files("a.yaml", device("", "x")))
			h.after(time.Second)
			h.stop()
			synctest.Wait()
			if got := h.bus.Retained("a/status"); got != "offline" {
				t.Errorf("want it offline at once, got %s", got)
			}
			h.end()
			if !strings.Contains(h.log.String(), `msg="devices are slow to stop" devices=[a]`) {
				t.Errorf("want device a named, got\n%s", h.log)
			}
		})
	})
	t.Run("ends with an error when the bus takes the subscription away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			host, err := drivers.NewHost(one(&fake{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Run(t.Context(), deafBus{drivertest.NewBus()}); err == nil || err.Error() != "cannot hear the control topics: deaf" {
				t.Errorf("want deaf, got %v", err)
			}
			if err := host.Run(t.Context(), drivertest.NewBus()); err == nil {
				t.Error("want a second Run refused")
			}
		})
	})
	t.Run("hears what was loaded before it, and while it starts", func(t *testing.T) {
		inHouse(t, one(&fake{}), lamp(), func(h *house) {
			want := []string{"home/lamp/level/set", "home/lamp/on/set", "home/lamp/watts/set"}
			if got := h.bus.Filters(drivers.SubscriptionName); !slices.Equal(got, want) {
				t.Errorf("want %q, got %q", want, got)
			}
		})
	})
	t.Run("can be asked by anybody at any time", func(t *testing.T) {
		inHouse(t, one(&fake{}), lamp(), func(h *house) {
			done := make(chan error, 2)
			go func() {
				for range 50 {
					h.host.Status()
				}
				done <- h.host.Refresh()
			}()
			go func() {
				var err error
				for i := range 20 {
					m := maps.Clone(h.fs)
					m["lamp.yaml"] = &fstest.MapFile{Data: append(slices.Clone(m["lamp.yaml"].Data), strings.Repeat("\n", i)...)}
					err = errors.Join(err, h.host.Load(t.Context(), m))
				}
				done <- err
			}()
			if err := errors.Join(<-done, <-done); err != nil {
				t.Error(err)
			}
			h.after(time.Second)
			if !h.status("lamp").Online {
				t.Errorf("want it online, got %+v", h.status("lamp"))
			}
		})
	})
}

type deafBus struct{ *drivertest.Bus }

func TestNewHost(t *testing.T) {
	for name, o := range map[string]drivers.Options{
		"negative limits":       {Queue: -1},
		"a nil driver":          {Drivers: map[string]drivers.Driver{"x": nil}},
		"pauses the wrong way":  {RetryFirst: time.Minute, RetryMost: time.Second},
		"negative call timeout": {CallTimeout: -1},
	} {
		t.Run(name+" are refused", func(t *testing.T) {
			if _, err := drivers.NewHost(o); err == nil {
				t.Error("want an error")
			}
		})
	}
}

func (deafBus) Subscribe(context.Context, message.Subscription, message.Handler) error {
	return errors.New("deaf")
}
