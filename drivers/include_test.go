package drivers_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// scripted is a fake whose device files name a script, which is wrong if it says so.
type scripted struct {
	*fake
	ran string // the script of the device that was opened last
}

func (s *scripted) Includes(drivers.Config) []string { return []string{"scripts/a.js", "../b.js"} }

func (s *scripted) Check(cfg drivers.Config) ([]drivers.Point, error) {
	script := cfg.Included["scripts/a.js"]
	switch outside := cfg.Included["../b.js"]; {
	case outside.Err == nil || !strings.Contains(outside.Err.Error(), "is not a file in the folder"):
		return nil, cfg.Errorf("$", "a file somewhere else can be read")
	case script.Err != nil:
		return nil, cfg.Errorf("$.driver", "%v", script.Err)
	case strings.Contains(script.Text, "wrong"):
		return nil, cfg.Errorf("$.driver", "a.js:1:1: wrong")
	}
	return s.fake.Check(cfg)
}

func (s *scripted) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	if _, err := s.Check(cfg); err != nil {
		return nil, err
	}
	s.ran = cfg.Included["scripts/a.js"].Text
	return s.fake.Open(ctx, cfg)
}

// A device file is judged anew when a file that it names has changed.
func TestReloadOfWhatDeviceFilesName(t *testing.T) {
	f := &scripted{fake: &fake{}}
	o := drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}
	a := device("topic: home/a", "x")
	inHouse(t, o, files("a.yaml", a, "scripts/a.js", "one"), func(h *house) {
		wants := func(what string, opens int, ran, wrong string) {
			t.Helper()
			synctest.Wait()
			if f.opens != opens || f.ran != ran {
				t.Errorf("%s: want it opened %d times, with %q, got %d, %q", what, opens, ran, f.opens, f.ran)
			}
			if got := h.status("a").FileError; (got == "") != (wrong == "") || !strings.HasPrefix(got, wrong) {
				t.Errorf("%s: want %q, got %q", what, wrong, got)
			}
		}
		h.load(files("a.yaml", a, "scripts/a.js", "one", "scripts/c.js", "new"))
		wants("nothing that it names is different", 1, "one", "")
		h.load(files("a.yaml", a, "scripts/a.js", "two"))
		wants("another script", 2, "two", "")
		for what, script := range map[string]string{"a wrong script": "wrong", "a script that is too long": strings.Repeat("x", drivers.MaxIncludedBytes+1)} {
			if err := h.tryLoad(files("a.yaml", a, "scripts/a.js", script)); err == nil {
				t.Errorf("%s: want an error", what)
			}
			wants(what, 2, "two", "a.yaml:1:9: ")
		}
		if err := h.tryLoad(files("a.yaml", a)); err == nil {
			t.Error("want an error of a script that is gone")
		}
		wants("no script", 2, "two", "a.yaml:1:9: ")
		f.change(func(f *fake) { f.readErr = drivers.ErrLost })
		h.after(time.Second)
		f.change(func(f *fake) { f.readErr = nil })
		h.after(time.Minute)
		wants("lost while the script is wrong", 3, "two", "a.yaml:1:9: ")
		h.load(files("a.yaml", a, "scripts/a.js", "two"))
		wants("what it was", 3, "two", "")
		h.load(files("a.yaml", a, "scripts/a.js", "three"))
		wants("a third one", 4, "three", "")
	})
}
