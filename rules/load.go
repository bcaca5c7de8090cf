package rules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/message"
)

// file is what is known of one file of the folder. A file never changes: each Load
// makes new ones.
type file struct {
	name string
	lane int
	unit *unit  // the version in force; nil if there never was one
	err  *Error // what is wrong with the newest version; nil if it is in force
	all  error  // everything that is wrong
}

// found is one file as Load reads it.
type found struct {
	lane int
	text []byte
	err  error // it could not be read
	dir  bool  // it is a folder, which could not be
}

// Load compiles the folder and swaps the new set in between two messages.
//
// Files in sub folders count; those that begin with a dot, tests (*.test.yaml) and
// type declarations (*.d.ts) do not; a folder that is missing is empty. A file with
// the same content keeps its program, its timers and its counters. A file that is
// broken keeps the version that was in force, or, in a new process, the one that was if
// the folder is a [FormerFS], while the changes of the other files
// take effect. A file that is gone is taken out; its state stays.
//
// The error joins an [Error] for each thing that is wrong with a file. If the
// folder cannot be read, or the bus refuses the filters, nothing changes.
func (e *Engine) Load(ctx context.Context, fsys fs.FS) error {
	select {
	case e.loading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.loading }()
	recalled := sync.OnceValue(func() error { return e.recall(ctx) })
	texts, err := e.scan(fsys)
	if err != nil {
		return fmt.Errorf("cannot read the folder of rules: %w", err)
	}
	files, fresh := e.compileAll(ctx, &library{engine: e, fsys: fsys, recalled: recalled}, texts)
	if err := recalled(); err != nil {
		e.abandon(fresh)
		return fmt.Errorf("cannot load what rules keep: %w", err)
	}
	if err := ctx.Err(); err != nil {
		e.abandon(fresh)
		return err
	}
	if err := e.swap(ctx, files, fresh); err != nil {
		e.abandon(fresh)
		return err
	}
	if !e.loaded {
		e.loaded = true
		e.oneReady()
	}
	signal(e.told)
	e.reap()
	return e.loadError(files)
}

// scan reads the files of the folder, by name.
func (e *Engine) scan(fsys fs.FS) (map[string]found, error) {
	texts := make(map[string]found)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // no folder, or gone while we look
			return nil
		case err != nil:
			texts[name] = found{err: err, dir: true}
			return fs.SkipDir
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		lane, ok := e.laneOf(d.Name())
		if !ok || d.IsDir() || e.skips(lane, name) {
			return nil
		}
		text, skip, err := e.readFile(fsys, name)
		if skip {
			return nil
		}
		texts[name] = found{lane: lane, text: text, err: err}
		if len(texts) > e.opts.Limits.Files {
			return fmt.Errorf("more than %d files", e.opts.Limits.Files)
		}
		return nil
	})
	return texts, err
}

// laneOf tells which language compiles a file of that name.
func (e *Engine) laneOf(base string) (lane int, ok bool) {
	if strings.HasSuffix(base, ".d.ts") {
		return 0, false
	}
	longest := 0
	for i, l := range e.lanes {
		for _, ending := range l.lang.Extensions() {
			if len(ending) > longest && len(base) > len(ending) && strings.HasSuffix(base, ending) {
				lane, longest = i, len(ending)
			}
		}
	}
	if longest == 0 || strings.HasSuffix(strings.TrimSuffix(base, base[len(base)-longest:]), ".test") {
		return 0, false
	}
	return lane, true
}

// skips reports whether the language leaves the file out.
func (e *Engine) skips(lane int, name string) bool {
	s, ok := e.lanes[lane].lang.(Selective)
	return ok && s.Skips(name)
}

// readFile reads a file; skip says that it is not one, or is gone again.
func (e *Engine) readFile(fsys fs.FS, name string) (text []byte, skip bool, err error) {
	info, err := fs.Stat(fsys, name) // to open a pipe would wait for who writes it
	if err != nil || !info.Mode().IsRegular() {
		return nil, err == nil || errors.Is(err, fs.ErrNotExist), err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, errors.Is(err, fs.ErrNotExist), err
	}
	defer func() { _ = f.Close() }() // it was only read
	limit := e.opts.Limits.FileSize
	text, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return text, false, err
}

// compileAll makes a file of each text; fresh are the units that are new.
func (e *Engine) compileAll(ctx context.Context, lib *library, texts map[string]found) (files map[string]*file, fresh []*unit) {
	e.mu.Lock()
	old := e.files
	e.mu.Unlock()
	keepBelow(texts, old)
	files = make(map[string]*file, len(texts))
	names := make([]string, 0, len(texts))
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	made := make([]*file, len(names))
	eachAtOnce(1+len(names), func(i int) {
		if i == 0 { // it counts as one of them, so that a start leaves the store a processor
			_ = lib.recalled() // Load tells the error
			return
		}
		i--
		made[i] = e.makeFile(ctx, lib, names[i], texts[names[i]], old[names[i]])
		if made[i].unit == nil && ctx.Err() == nil {
			made[i].unit = e.makeFormer(ctx, lib, names[i], texts[names[i]].lane)
		}
	})
	for i, name := range names {
		f := made[i]
		if f.unit != nil && (old[name] == nil || old[name].unit != f.unit) {
			fresh = append(fresh, f.unit)
		}
		files[name] = f
	}
	return files, fresh
}

// eachAtOnce calls do for the numbers below n, as many at once as there are processors, and
// returns when all have returned.
func eachAtOnce(n int, do func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wait.Wait()
}

// keepBelow adds the files of former times that are below a folder that cannot be
// read now: their versions before go on.
func keepBelow(texts map[string]found, old map[string]*file) {
	for dir, f := range texts {
		if !f.dir {
			continue
		}
		for name, was := range old {
			_, there := texts[name]
			if !there && was.unit != nil && (dir == "." || strings.HasPrefix(name, dir+"/")) {
				texts[name] = found{lane: was.lane, err: f.err}
			}
		}
	}
}

func (e *Engine) makeFile(ctx context.Context, lib *library, name string, text found, old *file) *file {
	f := &file{name: name, lane: text.lane}
	if old != nil {
		f.unit = old.unit
	}
	if text.err != nil {
		return f.broken(fmt.Errorf("cannot be read: %w", text.err))
	}
	sum := sha256.Sum256(text.text)
	hash := hex.EncodeToString(sum[:])
	if f.unit != nil && f.unit.hash == hash && f.unit.lane == f.lane && lib.same(f.unit.reads) && !f.unit.outdated() {
		return f
	}
	unit, err := e.makeUnit(ctx, lib, name, text)
	if err != nil {
		return f.broken(err)
	}
	f.unit = unit
	return f
}

func (e *Engine) makeUnit(ctx context.Context, lib *library, name string, text found) (u *unit, err error) {
	sum := sha256.Sum256(text.text)
	reads := make(map[string]string)
	prog, err := e.compile(ctx, lib, name, text, reads)
	if err != nil {
		return nil, err
	}
	err = guarded(ctx, func(context.Context) error {
		u = newUnit(name, text.lane, hex.EncodeToString(sum[:]), prog, e.stateOf(name))
		u.reads = reads
		return nil
	})
	return u, err
}

// broken notes what is wrong with the newest version.
func (f *file) broken(err error) *file {
	if !errors.As(err, &f.err) {
		f.err = &Error{File: f.name, Msg: err.Error()}
		err = f.err
	}
	f.all = err
	return f
}

func (e *Engine) compile(ctx context.Context, lib *library, name string, text found, reads map[string]string) (prog Program, err error) {
	defer recovered(&err)
	prog, err = e.lanes[text.lane].lang.Compile(ctx, Source{
		Name:  name,
		Text:  text.text,
		State: e.stateOf(name),
		Kept: func() map[string][]byte {
			_ = lib.recalled() // Load tells the error
			return e.keptOf(name)
		},
		Read:  lib.reader(reads),
		Log:   e.log.With("file", name),
		Place: e.opts.Place,
		Zone:  e.opts.Zone,
		Funcs: e.opts.Funcs,
	})
	if err != nil {
		return nil, err
	}
	if err := checkRules(name, prog.Rules()); err != nil {
		return nil, errors.Join(err, closeProgram(prog))
	}
	return prog, nil
}

// checkRules is the net below the languages, which say it better.
func checkRules(file string, rules []Rule) error {
	names := make(map[string]bool, len(rules))
	for _, r := range rules {
		at := func(err error) error { return &Error{File: file, Line: r.Line, Msg: err.Error()} }
		switch {
		case r.Name == "":
			return at(errors.New("a rule has no name"))
		case names[r.Name]:
			return at(fmt.Errorf("two rules are named %q", r.Name))
		case r.QoS > message.ExactlyOnce:
			return at(fmt.Errorf("rule %q: no QoS %d", r.Name, r.QoS))
		}
		names[r.Name] = true
		for _, filter := range r.Filters {
			if err := CheckFilter(filter); err != nil {
				return at(fmt.Errorf("rule %q: %w", r.Name, err))
			}
		}
	}
	return nil
}

// swap puts the files in force: filters of both sets stand while it does, so that
// no message falls between them.
func (e *Engine) swap(ctx context.Context, files map[string]*file, fresh []*unit) error {
	now := e.clock.Now()
	for _, u := range fresh {
		u.loaded = now
	}
	var units []*unit
	for _, f := range files {
		if f.unit != nil {
			units = append(units, f.unit)
		}
	}
	next := newSet(units, len(e.lanes))
	for i, l := range e.lanes {
		for at, ear := range l.ears {
			both := slices.Concat(e.set.Load().stage(i, at).filters, next.stage(i, at).filters)
			slices.Sort(both)
			if err := ear.hear(ctx, slices.Compact(both)); err != nil {
				for _, u := range units {
					u.refs.Add(-1)
				}
				return fmt.Errorf("cannot subscribe to what the new rules hear, so the old ones go on: %w", err)
			}
		}
	}
	primed := e.prime(ctx, fresh)
	e.mu.Lock()
	e.files = files
	e.mu.Unlock()
	e.release(e.set.Swap(next))
	if !primed { // Run may have begun meanwhile, and primed those before
		e.prime(ctx, fresh)
	}
	for i, l := range e.lanes {
		for at, ear := range l.ears {
			if err := ear.hear(ctx, next.stage(i, at).filters); err != nil {
				e.log.Warn("filters of rules that are gone are still heard", "lane", ear.name, "error", err)
			}
		}
		signal(l.kick)
	}
	return nil
}

// abandon closes programs that never came into force.
func (e *Engine) abandon(fresh []*unit) {
	for _, u := range fresh {
		if err := closeProgram(u.prog); err != nil {
			e.log.Warn("rule file did not close", "file", u.file, "error", err)
		}
	}
}

// loadError joins what is wrong with the files, in their order, and logs what
// changed.
func (e *Engine) loadError(files map[string]*file) error {
	names := make([]string, 0, len(files))
	rules := 0
	for name, f := range files {
		names = append(names, name)
		if f.unit != nil {
			rules += len(f.unit.rules)
		}
	}
	slices.Sort(names)
	var all []error
	for _, name := range names {
		if err := files[name].all; err != nil {
			all = append(all, err)
		}
	}
	e.log.Info("rules loaded", "files", len(files), "rules", rules, "broken", len(all))
	return errors.Join(all...)
}
