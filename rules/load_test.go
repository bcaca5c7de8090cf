package rules_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// echo publishes what it hears to out/NAME.
func echo(name, filter string) toyProgram {
	return after(filter, func(c rules.Call) rules.Outcome { return publish("out/"+name, string(c.Message.Payload)) })
}

func TestLoadChoosesFiles(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": {}}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "p", "sub/deep/b.toy", "p", ".hidden.toy", "p", ".git/c.toy", "p", "a.test.toy", "p", "x.d.ts", "p", "y.txt", "p", ".toy", "p")
	var got []string
	for _, f := range h.engine.Status() {
		got = append(got, f.File)
	}
	if diff := cmp.Diff([]string{"a.toy", "sub/deep/b.toy"}, got); diff != "" {
		t.Error(diff)
	}
}

// selective leaves out files of a folder lib.
type selective struct{ *toy }

func (selective) Skips(name string) bool { return strings.HasPrefix(name, "lib/") }

func TestLoadLeavesOutWhatALanguageSkips(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": {}}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{selective{lang}}})
	h.load("a.toy", "p", "lib/b.toy", "this would be broken")
	if files := h.engine.Status(); len(files) != 1 || files[0].File != "a.toy" {
		t.Errorf("files %v", files)
	}
}

// meeting is a language whose files are compiled two at a time, or not at all.
type meeting struct {
	*toy
	met chan struct{}
}

func (m meeting) Compile(ctx context.Context, src rules.Source) (rules.Program, error) {
	select {
	case m.met <- struct{}{}:
	case <-m.met:
	case <-time.After(time.Minute):
		return nil, errors.New("no other file is compiled")
	}
	return m.toy.Compile(ctx, src)
}

func TestLoadCompilesFilesAtTheSameTime(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("there is one processor")
	}
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": {reads: "lib/both"}}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{meeting{lang, make(chan struct{})}}})
	err := h.engine.Load(t.Context(), folder("a.toy", "p", "b.toy", "q", "c.toy", "q", "d.toy", "p", "lib/both", ""))
	if want := "b.toy:1:3: no program q\nq\nc.toy:1:3: no program q\nq"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var got []string
	for _, f := range h.engine.Status() {
		got = append(got, fmt.Sprint(f.File, " ", f.Err == nil))
	}
	if diff := cmp.Diff([]string{"a.toy true", "b.toy false", "c.toy false", "d.toy true"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadOfAMissingFolderIsEmpty(t *testing.T) {
	h := newHouse(t, rules.Options{})
	missing, err := fs.Sub(fstest.MapFS{}, "scripts")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Load(t.Context(), missing); err != nil || len(h.engine.Status()) != 0 {
		t.Errorf("Load returned %v, the status %v", err, h.engine.Status())
	}
}

func TestLoadKeepsTheOldVersionOfABrokenFile(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"v1": echo("v1", "in"), "v2": echo("v2", "in"), "other": echo("other", "in"),
	}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "v1", "b.toy", "v1")
	h.run()
	err := h.engine.Load(t.Context(), folder("a.toy", "broken", "b.toy", "v2", "c.toy", "worse", "d.toy", "other"))
	var first *rules.Error
	if !errors.As(err, &first) || first.File != "a.toy" || first.Line != 1 || first.Column != 3 {
		t.Fatalf("Load returned %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "a.toy:1:3: no program broken") || !strings.Contains(text, "c.toy:1:3: no program worse") {
		t.Errorf("the error is %q", text)
	}
	h.publish(msg("in", "x"))
	h.bus.Await(t.Context(), "out/#", 3)
	var got []string
	for _, m := range h.bus.Routed("out/#") {
		got = append(got, m.Topic)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"out/other", "out/v1", "out/v2"}, got); diff != "" {
		t.Error(diff)
	}
	status := h.engine.Status()
	if status[0].Err == nil || len(status[0].Rules) != 1 || status[1].Err != nil || status[2].Err == nil || len(status[2].Rules) != 0 {
		t.Errorf("the status is %+v", status)
	}
	h.load("a.toy", "v1") // back to what is in force
	if s := h.engine.Status(); len(s) != 1 || s[0].Err != nil {
		t.Errorf("after the repair: %+v", s)
	}
}

func TestLoadKeepsUnchangedFiles(t *testing.T) { synctest.Test(t, testLoadKeepsUnchangedFiles) }

func testLoadKeepsUnchangedFiles(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": echo("p", "in"), "q": echo("q", "in")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "p", "b.toy", "p")
	h.run()
	h.publish(msg("in", "1"))
	h.bus.Await(t.Context(), "out/#", 2)
	h.load("a.toy", "p", "b.toy", "q")
	synctest.Wait()
	compiled, closed := lang.seen()
	slices.Sort(compiled) // at the same time
	if diff := cmp.Diff([]string{"a.toy", "b.toy", "b.toy"}, compiled); diff != "" {
		t.Errorf("compiled: %s", diff)
	}
	if diff := cmp.Diff([]string{"p"}, closed); diff != "" {
		t.Errorf("closed: %s", diff)
	}
	if n := h.status("a.toy").Counters.Heard; n != 1 {
		t.Errorf("the counters of the unchanged file begin anew: %d", n)
	}
	h.stop()
}

func TestLoadClosesEveryProgramOnce(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": echo("p", "in"), "q": echo("q", "in")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "p\n1")
	h.load("a.toy", "q\n2", "b.toy", "p\n3")
	h.load()
	h.load("a.toy", "p\n4")
	if err := h.engine.Close(); err != nil {
		t.Fatal(err)
	}
	_, closed := lang.seen()
	slices.Sort(closed)
	if diff := cmp.Diff([]string{"p\n1", "p\n3", "p\n4", "q\n2"}, closed); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefusesWhatALanguageMustNotGive(t *testing.T) {
	for name, list := range map[string][]rules.Rule{
		"no name":    {{Filters: []string{"a"}}},
		"two alike":  {{Name: "a"}, {Name: "a"}},
		"bad filter": {{Name: "a", Filters: []string{"a/#/b"}}},
		"bad QoS":    {{Name: "a", QoS: 3}},
	} {
		lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": {rules: list}}}
		h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
		var e *rules.Error
		if err := h.engine.Load(t.Context(), folder("a.toy", "p")); !errors.As(err, &e) || e.File != "a.toy" {
			t.Errorf("%s: Load returned %v", name, err)
		}
		if _, closed := lang.seen(); len(closed) != 1 {
			t.Errorf("%s: the program is not closed", name)
		}
	}
}

// badLanguage panics.
type badLanguage struct{ toy }

func (*badLanguage) Compile(context.Context, rules.Source) (rules.Program, error) { panic("oops") }

func TestLoadSurvivesACompilerThatPanics(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&badLanguage{toy{name: "bad", ending: ".bad"}}}})
	if err := h.engine.Load(t.Context(), folder("a.bad", "")); err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("Load returned %v", err)
	}
}

func TestLoadBoundsTheFolder(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": {}}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}, Limits: rules.Limits{Files: 2, FileSize: 10}})
	if err := h.engine.Load(t.Context(), folder("a.toy", "p\n2345678901")); err == nil || !strings.Contains(err.Error(), "longer than 10 bytes") {
		t.Errorf("a long file: %v", err)
	}
	if err := h.engine.Load(t.Context(), folder("a.toy", "p", "b.toy", "p", "c.toy", "p")); err == nil || !strings.Contains(err.Error(), "more than 2 files") {
		t.Errorf("many files: %v", err)
	}
}

func TestNewRefusesLanguagesThatClash(t *testing.T) {
	for name, langs := range map[string][]rules.Language{
		"names":   {&toy{name: "a", ending: ".a"}, &toy{name: "a", ending: ".b"}},
		"endings": {&toy{name: "a", ending: ".a"}, &toy{name: "b", ending: ".a"}},
		"no dot":  {&toy{name: "a", ending: "a"}},
	} {
		if _, err := rules.New(rules.Options{Languages: langs}); err == nil {
			t.Errorf("%s: New takes them", name)
		}
	}
}

// TestReloadUnderLoad: while rules are reloaded, moved between files and filters
// widened, each message is judged exactly once, by one version.
func TestReloadUnderLoad(t *testing.T) {
	const publishers, messages = 4, 400
	programs := make(map[string]toyProgram)
	for i, filters := range [][]string{{"in/#"}, {"in/+/x", "more/#"}, {"in/0/#", "in/1/#", "in/2/#", "in/3/#"}, {"#"}} {
		v := fmt.Sprint("v", i)
		programs[v] = toyProgram{
			rules: []rules.Rule{{Name: v, Line: 1, Filters: filters}},
			run: func(_ context.Context, _ rules.Source, c rules.Call) rules.Outcome {
				if c.Trigger != rules.OnMessage || !strings.HasPrefix(c.Message.Topic, "in/") {
					return rules.Outcome{}
				}
				return publish("judged/"+string(c.Message.Payload), v)
			},
		}
	}
	lang := &toy{name: "toy", ending: ".toy", programs: programs}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("a.toy", "v0")
	h.run()
	var group sync.WaitGroup
	for p := range publishers {
		group.Go(func() {
			for i := range messages {
				if err := h.bus.Publish(t.Context(), msg(fmt.Sprintf("in/%d/x", p), fmt.Sprintf("%d-%d", p, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reloads := 0
	for ; len(h.bus.Routed("in/#")) < publishers*messages; reloads++ {
		h.load(fmt.Sprintf("%c.toy", 'a'+reloads%2), fmt.Sprintf("v%d\n%d", reloads%4, reloads))
	}
	group.Wait()
	h.bus.Await(t.Context(), "judged/#", publishers*messages)
	h.load("a.toy", "v0") // a later turn of the lane: whatever is judged twice is out now
	h.publish(msg("in/0/x", "last"))
	h.bus.Await(t.Context(), "judged/last", 1)
	times := make(map[string]int)
	for _, m := range h.bus.Routed("judged/#") {
		times[m.Topic]++
	}
	if len(times) != publishers*messages+1 {
		t.Errorf("%d messages were judged, of %d", len(times), publishers*messages+1)
	}
	for topic, n := range times {
		if n != 1 {
			t.Errorf("%s: %d times", topic, n)
		}
	}
	t.Logf("%d reloads", reloads)
}

// recordingBus notes the filters of each Resubscribe.
type recordingBus struct {
	message.Bus
	filters []string
}

func (b *recordingBus) Resubscribe(ctx context.Context, name string, filters []string) error {
	b.filters = append(b.filters, name+" "+strings.Join(filters, " "))
	return b.Bus.Resubscribe(ctx, name, filters)
}

func TestReloadKeepsBothFilterSetsWhileItSwaps(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"a": echo("a", "in/a"), "b": echo("b", "in/b")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("x.toy", "a")
	bus := &recordingBus{Bus: h.bus}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.engine.Run(ctx, bus) }()
	<-h.engine.Ready()
	h.load("x.toy", "b")
	h.load("x.toy", "b\nthe same filters")
	if diff := cmp.Diff([]string{"rules/toy in/a in/b", "rules/toy in/b"}, bus.filters); diff != "" {
		t.Error(diff)
	}
	cancel()
	if err := errors.Join(<-done, h.engine.Close()); err != nil {
		t.Error(err)
	}
}

// refusingBus cannot resubscribe.
type refusingBus struct{ message.Bus }

func (refusingBus) Resubscribe(context.Context, string, []string) error { return errors.New("no") }

func TestReloadThatTheBusRefusesChangesNothing(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"a": echo("a", "in/a"), "b": echo("b", "in/b")}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	h.load("x.toy", "a")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.engine.Run(ctx, refusingBus{h.bus}) }()
	<-h.engine.Ready()
	if err := h.engine.Load(ctx, folder("x.toy", "b")); err == nil {
		t.Error("Load is satisfied")
	}
	h.publish(msg("in/a", "1"))
	if h.bus.Await(ctx, "out/a", 1) == nil {
		t.Error("the old rule does not go on")
	}
	if _, closed := lang.seen(); !slices.Equal(closed, []string{"b"}) {
		t.Errorf("closed programs: %q", closed)
	}
	cancel()
	if err := errors.Join(<-done, h.engine.Close()); err != nil {
		t.Error(err)
	}
}

func TestReadyWaitsForTheFirstLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"a": echo("a", "in")}}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.engine.Run(ctx, h.bus) }()
		synctest.Wait()
		select {
		case <-h.engine.Ready():
			t.Error("ready without rules")
		default:
		}
		h.load("a.toy", "a")
		<-h.engine.Ready()
		if got := h.bus.Filters("rules/toy"); !slices.Equal(got, []string{"in"}) {
			t.Errorf("ready with the filters %q", got)
		}
		if err := h.engine.Run(ctx, h.bus); err == nil {
			t.Error("it runs twice")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLoadPassesOverWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.toy"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy"}}})
	loaded := make(chan error, 1)
	go func() { loaded <- h.engine.Load(t.Context(), os.DirFS(dir)) }()
	select {
	case err := <-loaded:
		if err != nil || len(h.engine.Status()) != 0 {
			t.Errorf("Load returned %v, the status %v", err, h.engine.Status())
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Load waits for a pipe that nobody writes")
	}
}

// closed is a file system one of whose folders cannot be read.
type closed struct {
	fstest.MapFS
	dir string
}

func (c closed) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == c.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrPermission}
	}
	return c.MapFS.ReadDir(name)
}

func TestLoadGoesOnBesideAFolderThatCannotBeRead(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"p": echo("p", "in")}}
	files := fstest.MapFS{"a.toy": {Data: []byte("p")}, "sub/b.toy": {Data: []byte("p")}}
	for _, dir := range []string{"sub", "."} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("folder %q, readable before: %v", dir, before), func(t *testing.T) {
				h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
				if before {
					if err := h.engine.Load(t.Context(), files); err != nil {
						t.Fatal(err)
					}
				}
				err := h.engine.Load(t.Context(), closed{files, dir})
				var told *rules.Error
				if !errors.As(err, &told) || !strings.Contains(err.Error(), "permission") {
					t.Errorf("Load returned %v", err)
				}
				var serving []string
				for _, f := range h.engine.Status() {
					if f.Hash != "" {
						serving = append(serving, f.File)
					}
				}
				want := []string{"a.toy", "sub/b.toy"}
				if !before {
					want = want[:1]
				}
				if !before && dir == "." {
					want = nil
				}
				if diff := cmp.Diff(want, serving); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestAFileIsCompiledAgainWhenOneThatItReadChanges(t *testing.T) {
	lang := &toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
		"reader": {reads: "lib/part.txt"}, "lost": {reads: "lib/none.txt"}, "outside": {reads: "../etc/passwd"},
	}}
	h := newHouse(t, rules.Options{Languages: []rules.Language{lang}})
	load := func(files ...string) error {
		lang.mu.Lock()
		lang.compiled = nil
		lang.mu.Unlock()
		return h.engine.Load(t.Context(), folder(files...))
	}
	steps := []struct {
		files    []string
		compiled int
		broken   string
	}{
		{[]string{"a.toy", "reader", "lib/part.txt", "1"}, 1, ""},
		{[]string{"a.toy", "reader", "lib/part.txt", "1"}, 0, ""},
		{[]string{"a.toy", "reader", "lib/part.txt", "2"}, 1, ""},
		{[]string{"a.toy", "reader"}, 1, `a.toy:1: there is no file "lib/part.txt" in the folder of rules`},
		{[]string{"a.toy", "reader", "lib/part.txt", "2"}, 0, ""}, // as it is in force
		{[]string{"a.toy", "reader", "lib/part.txt", ""}, 1, ""},
		{[]string{"b.toy", "lost"}, 1, `b.toy:1: there is no file "lib/none.txt" in the folder of rules`},
		{[]string{"b.toy", "lost", "lib/none.txt", "x"}, 1, ""},
		{[]string{"c.toy", "outside"}, 1, `c.toy:1: "../etc/passwd" is no path in the folder of rules`},
	}
	for i, s := range steps {
		err := load(s.files...)
		if got := fmt.Sprint(err); s.broken == "" && err != nil || s.broken != "" && got != s.broken {
			t.Errorf("step %d: Load returned %v, want %q", i, err, s.broken)
		}
		if compiled, _ := lang.seen(); len(compiled) != s.compiled {
			t.Errorf("step %d: compiled %v, want %d", i, compiled, s.compiled)
		}
	}
}

// askedKeeper says what is kept when answer does.
type askedKeeper struct {
	*keeper
	answer func() error
}

func (k askedKeeper) Load(ctx context.Context) ([]rules.Record, error) {
	if err := k.answer(); err != nil {
		return nil, err
	}
	return k.keeper.Load(ctx)
}

// curious tells what it finds when it compiles, and asks for what was kept if it has to.
type curious struct {
	*toy
	asks  bool
	found chan string
}

func (c curious) Compile(ctx context.Context, src rules.Source) (rules.Program, error) {
	found := src.Name
	if c.asks {
		kept := src.Kept()
		found = fmt.Sprintf("%s %s %s", src.Name, kept["m"], src.State.Snapshot()["s"])
	}
	c.found <- found
	return c.toy.Compile(ctx, src)
}

func TestLoadCompilesWhileTheKeeperLoads(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("there is one processor")
	}
	programs := map[string]toyProgram{"p": {}}
	found := make(chan string, 2)
	eager := curious{toy: &toy{name: "eager", ending: ".eager", programs: programs}, found: make(chan string, 2)}
	asking := curious{toy: &toy{name: "asking", ending: ".asking", programs: programs}, asks: true, found: found}
	k := askedKeeper{
		&keeper{kept: []rules.Record{
			{Kind: "memory", File: "b.asking", Key: "m", Value: []byte("1")}, {Kind: "state", File: "b.asking", Key: "s", Value: []byte("2")},
		}},
		func() error {
			select {
			case <-eager.found:
				return errors.New("not yet")
			case <-time.After(time.Minute):
				return errors.New("nothing is compiled meanwhile")
			}
		},
	}
	h := newHouse(t, rules.Options{Languages: []rules.Language{eager, asking}, Keeper: &k})
	files := folder("a.eager", "p", "b.asking", "p")
	if err := h.engine.Load(t.Context(), files); err == nil || !strings.Contains(err.Error(), "what rules keep: not yet") {
		t.Fatal(err)
	}
	if got := <-found; got != "b.asking  " {
		t.Errorf("without what is kept: %q", got)
	}
	for _, lang := range []curious{eager, asking} {
		if _, closed := lang.seen(); len(closed) != 1 {
			t.Errorf("%s: closed %q", lang.name, closed)
		}
	}
	k.answer = func() error { return nil }
	if err := h.engine.Load(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	if got := <-found; got != "b.asking 1 2" {
		t.Errorf("with what is kept: %q", got)
	}
}
