package jsvm_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

const declaring = `
const { topic } = require('./lib/a')
filter(topic, { on_error: 'reject' }, (msg) => msg.payload.ok)
on('b', { qos: 1 }, (msg) => publish('c', msg.payload))
at('07:30', () => {})
window({ last: 3 })
log.info('read')
publish('began', 1)`

func build(name string) func(*jsvm.Options) { return func(o *jsvm.Options) { o.Build = name } }

func sourceOf(text, lib string, kept map[string][]byte) rules.Source {
	return rules.Source{Name: "a.js", Text: []byte(text), Kept: func() map[string][]byte { return kept }, State: rules.NewState(nil), Read: func(name string) ([]byte, error) {
		if name != "lib/a.js" {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return []byte(lib), nil
	}}
}

const lib = `exports.topic = 'a'`

// saved is what a program has to keep.
func saved(t testing.TB, p rules.Program) map[string][]byte {
	t.Helper()
	kept := make(map[string][]byte)
	saveTo(t, p, false, func(key string, value []byte) { kept[key] = slices.Clone(value) })
	return kept
}

// declaredBefore is what a former process keeps of a script.
func declaredBefore(t *testing.T, src rules.Source) (map[string][]byte, []rules.Rule) {
	t.Helper()
	s := start(t, build("1"))
	p, err := s.lang.Compile(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	kept := saved(t, p)
	if again := saved(t, p); len(again) > 0 {
		t.Errorf("it is saved again: %q", again)
	}
	if err := s.lang.Close(); err != nil {
		t.Fatal(err)
	}
	return kept, p.Rules()
}

// TestWhatAScriptDeclaresIsRemembered: the next process has its rules before there is a
// worker, and the script does what it would have done.
func TestWhatAScriptDeclaresIsRemembered(t *testing.T) {
	kept, declared := declaredBefore(t, sourceOf(declaring, lib, nil))
	s := start(t, build("1"))
	p, err := s.lang.Compile(t.Context(), sourceOf(declaring, lib, kept))
	if err != nil {
		t.Fatal(err)
	}
	if pids := workers(t); len(pids) > 0 {
		t.Errorf("workers %v for what is known", pids)
	}
	if diff := cmp.Diff(declared, p.Rules(), cmp.Comparer(func(a, b rules.Schedule) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
	if len(saved(t, p)) > 0 {
		t.Error("what was kept is kept again")
	}
	if o := s.hear(t, p, 0, "a", `{"ok":false}`); o.Verdict.Action != message.Drop || o.Err != nil {
		t.Errorf("its filter, before it starts: %s", show(o))
	}
	o := s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	if !o.Fired || len(o.Publish) != 1 || o.Publish[0].Topic != "began" || len(o.Logs) != 1 {
		t.Errorf("its start: %s", show(o))
	}
	if o := s.hear(t, p, 1, "b", `5`); len(o.Publish) != 1 || string(o.Publish[0].Payload) != "5" {
		t.Errorf("its rule: %s", show(o))
	}
	if p.(rules.Provisional).Outdated() {
		t.Error("it is outdated")
	}
}

// TestWhatIsNotRemembered: by any difference, or damage, the worker is asked.
func TestWhatIsNotRemembered(t *testing.T) {
	kept, _ := declaredBefore(t, sourceOf(declaring, lib, nil))
	of := func(value string) map[string][]byte { return map[string][]byte{"declared": []byte(value)} }
	whole := string(kept["declared"])
	for name, c := range map[string]struct {
		build string
		src   rules.Source
	}{
		"another text":   {"1", sourceOf(declaring+"\n", lib, kept)},
		"another module": {"1", sourceOf(declaring, lib+"\n", kept)},
		"another build":  {"2", sourceOf(declaring, lib, kept)},
		"no build":       {"", sourceOf(declaring, lib, kept)},
		"nothing":        {"1", sourceOf(declaring, lib, nil)},
		"no JSON":        {"1", sourceOf(declaring, lib, of(whole[:len(whole)-9]))},
		"cut":            {"1", sourceOf(declaring, lib, of(whole[:len(whole)-9]+`"`))},
		"empty":          {"1", sourceOf(declaring, lib, of(`""`))},
		"more":           {"1", sourceOf(declaring, lib, of(strings.TrimRight(whole[:len(whole)-1], "=")+`AAAA"`))},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, build(c.build))
			p, err := s.lang.Compile(t.Context(), c.src)
			if err != nil {
				t.Fatal(err)
			}
			worker(t)
			if len(p.Rules()) != 3 {
				t.Errorf("rules %+v", p.Rules())
			}
		})
	}
}

// TestWhatVariesIsNotSaved: what a top level declares may hang on what it asks for.
func TestWhatVariesIsNotSaved(t *testing.T) {
	s := start(t, build("1"))
	for text, saves := range map[string]bool{
		`on('a', () => {})`: true,
		`on('a', () => { state.set('n', Math.random() + Date.now()) })`:   true,
		`on(state.get('topic') ?? 'a', () => {})`:                         false,
		`on(new Date().getHours() ? 'a' : 'b', () => {})`:                 false,
		`if (Date.now() % 2) on('a', () => {})`:                           false,
		`if (Math.random() < 0.5) on('a', () => {})`:                      false,
		`if (state.keys().length) filter('a', () => {})`:                  false,
		`state.set('n', 1)`:                                               false,
		`const w = window({ last: 2 }); if (w.count()) on('a', () => {})`: false,
		`watch('a'); if (last('a')) on('b', () => {})`:                    false,
	} {
		_, got := saved(t, s.compile(t, "a.js", text))["declared"]
		if got != saves {
			t.Errorf("%s: saved %v, want %v", text, got, saves)
		}
	}
}

// TestADeclarationThatIsWrong: until the file is compiled again its filters let nothing
// pass, and who compiles it again is not told the same.
func TestADeclarationThatIsWrong(t *testing.T) {
	s := start(t, build("1"))
	const text = `filter('x', (m) => {})`
	forged := jsvm.Forged(s.compile(t, "a.js", `filter('a', () => {})`), text)
	state := rules.NewState(nil)
	src := rules.Source{Name: "a.js", Text: []byte(text), State: state, Kept: func() map[string][]byte { return map[string][]byte{"declared": forged} }}
	p, err := s.lang.Compile(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Rules()[0].Filters; got[0] != "a" {
		t.Fatalf("it hears %q, not what was forged", got)
	}
	if o := s.hear(t, p, 0, "a", ""); o.Err == nil || o.Verdict.Action != message.Reject {
		t.Errorf("its filter: %s", show(o))
	}
	if p.(rules.Provisional).Outdated() {
		t.Error("it is outdated before it starts")
	}
	if o := s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now}); o.Err == nil || !p.(rules.Provisional).Outdated() {
		t.Errorf("its start: %s", show(o))
	}
	again, err := s.lang.Compile(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Rules()[0].Filters; got[0] != "x" {
		t.Errorf("compiled again it hears %q", got)
	}
}

// TestShippedScriptsAreKnown: what was written for scripts that come with the program is
// good for them alone.
func TestShippedScriptsAreKnown(t *testing.T) {
	varying := sourceOf(`on(state.get('t') ?? 'a', () => {})`, lib, nil)
	shipped, err := start(t).lang.Declared(t.Context(), []rules.Source{varying, sourceOf(declaring, lib, nil)})
	if err != nil || strings.Count(string(shipped), "\n") != 1 {
		t.Fatalf("%q, %v", shipped, err)
	}
	before := workers(t)
	s := start(t, build("9"), func(o *jsvm.Options) { o.Shipped = append([]byte("damaged\n"), shipped...) })
	p, err := s.lang.Compile(t.Context(), sourceOf(declaring, lib, nil))
	if err != nil || len(p.Rules()) != 3 || len(workers(t)) != len(before) {
		t.Errorf("%v: rules %+v, workers %v", err, p.Rules(), workers(t))
	}
	if _, err := s.lang.Compile(t.Context(), sourceOf(declaring+" ", lib, nil)); err != nil || len(workers(t)) == len(before) {
		t.Errorf("another script: %v, workers %v", err, workers(t))
	}
	if kept := saved(t, p); len(kept) > 0 {
		t.Errorf("it is kept, too: %q", slices.Collect(maps.Keys(kept)))
	}
}
