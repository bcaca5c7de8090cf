package jsvm_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// attack is a file of testdata/hostile: its first line says what it does, its second
// what comes of it: harmless, anything, fails (with some error), refused (when it is
// compiled), or a part of the error.
type attack struct {
	name, text, expect string
}

func attacks(t *testing.T) []attack {
	t.Helper()
	names, err := filepath.Glob("testdata/hostile/[^_]*")
	if err != nil {
		t.Fatal(err)
	}
	var list []attack
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitN(string(text), "\n", 3)
		expect, ok := strings.CutPrefix(lines[1], "// expect: ")
		if !ok || !strings.HasPrefix(lines[0], "// ") {
			t.Fatalf("%s does not say what it expects", name)
		}
		list = append(list, attack{filepath.Base(name), string(text), expect})
	}
	if len(list) < 60 {
		t.Fatalf("%d hostile scripts, want 60", len(list))
	}
	return list
}

func (a *attack) compile(t *testing.T, s *suite) (rules.Program, error) {
	t.Helper()
	folder := os.DirFS("testdata/hostile")
	return s.lang.Compile(t.Context(), rules.Source{
		Name: a.name, Text: []byte(a.text), State: rules.NewState(nil),
		Read: func(name string) ([]byte, error) { return fs.ReadFile(folder, name) },
	})
}

// attackRule is the index of the rule that attacks.
func attackRule(p rules.Program) int {
	return slices.IndexFunc(p.Rules(), func(r rules.Rule) bool { return r.Name == "on attack" })
}

// judge compares what came of the attack with what was expected.
func (a *attack) judge(t *testing.T, o rules.Outcome) {
	t.Helper()
	switch a.expect {
	case "anything":
	case "harmless":
		if o.Err != nil {
			t.Errorf("an error: %v", o.Err)
		}
	case "fails":
		if o.Err == nil {
			t.Errorf("no error: %.300s", show(o))
		}
	default:
		if o.Err == nil || !strings.Contains(o.Err.Error(), a.expect) {
			t.Errorf("want an error with %q: %.300s", a.expect, show(o))
		}
	}
	if o.Err != nil && len(o.Publish)+len(o.Timers)+len(o.State)+len(o.Requests) > 0 {
		t.Errorf("an event with an error has effects: %.300s", show(o))
	}
	for _, m := range o.Publish {
		if m.Retain || m.QoS != 0 || strings.Contains(string(m.Payload), "secret") {
			t.Errorf("it reached %s", showMessage(&m))
		}
	}
}

// TestHostileCorpus runs every attack beside a script that means well, which goes on
// whatever becomes of the worker, and looks at the memory of this process.
func TestHostileCorpus(t *testing.T) {
	const good = `state.share('open'); state.set('secret', 'secret'); let n = 0; on('a', () => publish('n', ++n))`
	hasty, slow := start(t, roomy), start(t, patient)
	bystanders := map[*suite]rules.Program{}
	for _, s := range []*suite{hasty, slow} {
		bystanders[s] = s.compile(t, "good.js", good)
		s.run(t, bystanders[s], rules.Call{Trigger: rules.OnStart, Now: s.now})
	}
	list := attacks(t)
	debug.FreeOSMemory()
	before := rss(t, os.Getpid())
	most := 0
	for _, a := range list {
		t.Run(a.name, func(t *testing.T) {
			s := slow // on a busy machine the deadline could come before another limit
			switch a.expect {
			case "anything", "fails", "an error that cannot be shown":
				s = hasty
			default:
				if strings.Contains(a.expect, "did not return") {
					s = hasty
				}
			}
			bystander := bystanders[s]
			p, err := a.compile(t, s)
			if want, refused := strings.CutPrefix(a.expect, "refused: "); refused || err != nil {
				if err == nil || !refused || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if err == nil {
				beside := make(chan rules.Outcome, 1)
				go func() { beside <- bystander.Run(t.Context(), []rules.Call{s.call(0, "a", "")})[0] }()
				a.judge(t, s.hear(t, p, attackRule(p), "attack", `{"__proto__":{"polluted":1},"n":1}`))
				if o := <-beside; o.Err != nil || len(o.Publish) != 1 {
					t.Errorf("a script beside it: %s", show(o))
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			if o := s.hear(t, bystander, 0, "a", ""); o.Err != nil || len(o.Publish) != 1 {
				t.Errorf("another script does not go on: %s", show(o))
			}
			most = max(most, rss(t, os.Getpid()))
		})
	}
	debug.FreeOSMemory()
	after := rss(t, os.Getpid())
	const mib = 1 << 20
	t.Logf("the gateway's memory: %.1f MiB before, %.1f at most, %.1f after", float64(before)/mib, float64(most)/mib, float64(after)/mib)
	if !raceEnabled && (most > before+64*mib || after > before+8*mib) {
		t.Errorf("the gateway's memory moved: %d before, %d at most, %d after", before, most, after)
	}
}

// TestHostileScriptsAreQuarantined: three deaths, and a script is not run for a while,
// until it changes.
func TestHostileScriptsAreQuarantined(t *testing.T) {
	list := attacks(t)
	a := list[slices.IndexFunc(list, func(a attack) bool { return a.name == "memory-string.js" })]
	s := start(t, patient)
	bystander := s.compile(t, "good.js", `let n = 0; on('a', () => publish('n', ++n))`)
	p, err := a.compile(t, s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if o := s.hear(t, p, 0, "attack", ""); o.Err == nil || strings.Contains(o.Err.Error(), "not run before") {
			t.Fatalf("attack %d: %.300s", i+1, show(o))
		}
	}
	if o := s.hear(t, p, 0, "attack", ""); o.Err == nil || !strings.Contains(o.Err.Error(), "it ended the script worker 3 times in a minute") {
		t.Errorf("the fourth attack: %.300s", show(o))
	}
	if o := s.hear(t, bystander, 0, "a", ""); o.Err != nil {
		t.Errorf("another script does not go on: %s", show(o))
	}
	changed, err := s.lang.Compile(t.Context(), rules.Source{Name: a.name, Text: []byte("on('attack', () => publish('a', 1))")})
	if err != nil {
		t.Fatal(err)
	}
	if o := s.hear(t, changed, 0, "attack", ""); o.Err != nil {
		t.Errorf("after a change: %s", show(o))
	}
	s.lang.Later(61 * time.Second)
	if o := s.hear(t, p, 0, "attack", ""); o.Err == nil || strings.Contains(o.Err.Error(), "not run before") {
		t.Errorf("after the pause: %.300s", show(o))
	}
}
