package drivers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// Bounds of a device file.
const (
	MaxFileBytes  = 1 << 20
	MaxPoints     = 10_000
	ShortestEvery = 10 * time.Millisecond
)

// deviceFile is a device file as it was last read.
type deviceFile struct {
	path string
	text []byte
	hash [sha256.Size]byte
	err  error // why it could not be read
}

// folder is the device files as they were last read.
type folder struct {
	fsys  fs.FS
	files map[string]deviceFile // by device
}

// entry is a device file that was understood. It never changes.
type entry struct {
	name       string
	hash       [sha256.Size]byte
	cfg        Config
	driverName string
	driver     Driver // nil while it is not available
	topic      string
	together   bool
	object     bool     // payloads are of PayloadObject
	discovery  []string // nil: the file does not say
	points     []Point
	topics     []string       // of points, in their order
	series     []string       // likewise: what their history is called
	index      map[string]int // of points, by name
	claims     []string       // every topic that is the device's own
}

// find is the index of a point, which mostly is the next one.
func (e *entry) find(name string, next int) (index int, known bool) {
	if next < len(e.points) && e.points[next].Name == name {
		return next, true
	}
	index, known = e.index[name]
	return index, known
}

// target is what a control topic means.
type target struct {
	device string
	point  string // empty: an object of several points
}

// Load reads a folder of device files: one *.yaml file a device, whose name is the
// file's without the ending. A folder that is not there is empty.
//
// A file that did not change, nor any that it names ([Includer]), leaves its device alone; a new one opens a device, a
// changed one closes it and opens it again, a removed one closes it. A file that is
// not right leaves the device of the former version running, and holds up no other
// change; the error joins a *[ConfigError] for each such file. A file whose driver
// is not available is not an error: its device waits for it.
//
// Load returns when all files are judged; [Host.Run] then makes the changes.
func (h *Host) Load(ctx context.Context, fsys fs.FS) error {
	h.loading.Lock()
	defer h.loading.Unlock()
	files, err := h.readFiles(ctx, fsys)
	if err != nil {
		return err
	}
	h.folder = files
	return h.settle()
}

// Check judges a folder as [Host.Load] does, without any effect. A driver that is
// not available is an error.
func (h *Host) Check(ctx context.Context, fsys fs.FS) error {
	h.loading.Lock()
	defer h.loading.Unlock()
	files, err := h.readFiles(ctx, fsys)
	if err != nil {
		return err
	}
	p := h.plan(files, nil)
	h.checked = p.entries
	for name, e := range p.entries {
		if e.driver == nil {
			p.errs[name] = e.cfg.Errorf("$.driver", "driver %q is not available (there are: %s)", e.driverName, h.driverNames())
		}
	}
	return joined(p.errs)
}

// Refresh asks again for the driver of each device, after [Options].Lookup came to
// know other ones. A device whose driver has come, gone or changed is closed and,
// if it can be, opened again.
func (h *Host) Refresh() error {
	h.loading.Lock()
	defer h.loading.Unlock()
	return h.settle()
}

// settle makes the files that were read last the wanted devices. The caller holds
// h.loading.
func (h *Host) settle() error {
	h.mu.Lock()
	current := maps.Clone(h.wanted)
	h.mu.Unlock()

	p := h.plan(h.folder, current)
	for name, e := range p.entries {
		if e.driver == nil && current[name] != e {
			h.opts.Log.Warn("device waits for its driver", "device", name, "driver", e.driverName)
		}
	}

	h.mu.Lock()
	h.wanted, h.errs, h.targets = p.entries, p.errs, p.targets()
	close(h.moved)
	h.moved = make(chan struct{})
	h.mu.Unlock()
	h.setLines(p.entries)
	select {
	case h.kick <- struct{}{}:
	default:
	}
	return joined(p.errs)
}

func joined(errs map[string]error) error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		all = append(all, errs[name])
	}
	return errors.Join(all...)
}

// readFiles reads the folder. Only a folder that cannot be listed is an error.
func (h *Host) readFiles(ctx context.Context, fsys fs.FS) (folder, error) {
	list, err := fs.ReadDir(fsys, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return folder{}, fmt.Errorf("cannot read the device files: %w", err)
	}
	files := make(map[string]deviceFile)
	for _, item := range list {
		if err := ctx.Err(); err != nil {
			return folder{}, fmt.Errorf("cannot read the device files: %w", err)
		}
		name := item.Name()
		switch {
		case item.IsDir() || strings.HasPrefix(name, "."):
		case path.Ext(name) == ".yaml":
			files[strings.TrimSuffix(name, ".yaml")] = readFile(fsys, name)
		case path.Ext(name) == ".yml":
			h.opts.Log.Warn("file is not a device, whose name ends in .yaml", "file", name)
		}
	}
	return folder{fsys: fsys, files: files}, nil
}

func readFile(fsys fs.FS, name string) deviceFile {
	f := deviceFile{path: name}
	wrong := func(format string, args ...any) deviceFile {
		f.err = &ConfigError{File: name, Line: 1, Column: 1, Msg: fmt.Sprintf(format, args...)}
		return f
	}
	info, err := fs.Stat(fsys, name)
	switch {
	case err != nil:
		return wrong("the file cannot be read: %v", err)
	case !info.Mode().IsRegular(): // to open a pipe would wait for who writes it
		return wrong("it is not a regular file")
	case info.Size() > MaxFileBytes:
		return wrong("the file is over %d bytes", MaxFileBytes)
	}
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return wrong("the file cannot be read: %v", err)
	}
	f.text, f.hash = text, sha256.Sum256(text)
	return f
}

// plan is what a set of files amounts to.
type plan struct {
	entries map[string]*entry
	errs    map[string]error
	claims  map[string]string // the device of each topic
}

// plan judges the files. Where a file is broken, the current entry stays.
func (h *Host) plan(from folder, current map[string]*entry) *plan {
	p := &plan{entries: make(map[string]*entry), errs: make(map[string]error), claims: make(map[string]string)}
	var changed []*entry
	for _, name := range slices.Sorted(maps.Keys(from.files)) {
		e, err := h.entry(name, from, current[name])
		switch {
		case err != nil:
			p.errs[name] = err
			if old := current[name]; old != nil {
				p.keep(h.kept(old))
			}
		case e == current[name]:
			p.keep(e)
		default:
			changed = append(changed, e)
		}
	}
	for _, e := range changed {
		if err := p.add(e); err != nil {
			p.errs[e.name] = err
			if old := current[e.name]; old != nil {
				p.keep(h.kept(old))
			}
		}
	}
	return p
}

// kept is the entry of a former version, which must not outlive its driver.
func (h *Host) kept(old *entry) *entry {
	driver, _ := h.driver(old.driverName)
	if sameDriver(driver, old.driver) {
		return old
	}
	e := *old
	e.driver = driver
	return &e
}

// keep adds an entry that was running, unless its topics are taken by now.
func (p *plan) keep(e *entry) {
	if err := p.add(e); err != nil && p.errs[e.name] == nil {
		p.errs[e.name] = err
	}
}

// add adds an entry if its topics are free.
func (p *plan) add(e *entry) error {
	for _, t := range e.claims {
		if other, taken := p.claims[t]; taken {
			return e.cfg.Errorf("$.topic", "topic %q belongs to device %q already", t, other)
		}
	}
	for _, t := range e.claims {
		p.claims[t] = e.name
	}
	p.entries[e.name] = e
	return nil
}

// targets are the control topics of all entries.
func (p *plan) targets() map[string]*target {
	all := make(map[string]*target)
	for name, e := range p.entries {
		for i, pt := range e.points {
			if pt.Feed.Topic == "" {
				all[e.topics[i]+"/set"] = &target{device: name, point: pt.Name}
			}
		}
		if e.together {
			all[e.topic+"/set"] = &target{device: name}
		}
	}
	return all
}

// controlTopics are the topics of the commands, sorted. A point that is not
// writable has one, too, so that who writes it gets an answer.
func (h *Host) controlTopics() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.targets))
}

// entry understands one file, or returns the current entry if nothing changed.
func (h *Host) entry(name string, from folder, current *entry) (*entry, error) {
	f := from.files[name]
	if f.err != nil {
		return nil, f.err
	}
	if current != nil && current.hash == f.hash && unchanged(from.fsys, current.cfg.Included) {
		if d, _ := h.driver(current.driverName); sameDriver(d, current.driver) {
			return current, nil
		}
	}
	cfg, err := ParseConfig(name, f.path, f.text)
	if err != nil {
		return nil, err
	}
	if h.opts.Folder != nil {
		cfg.Folder = h.opts.Folder()
	}
	common, err := cfg.Common()
	if err != nil {
		return nil, err
	}
	if err := cfg.checkEvery(); err != nil {
		return nil, err
	}
	if common.Payload != "" && common.Payload != PayloadValue && common.Payload != PayloadObject {
		return nil, cfg.Errorf("$.payload", "payload is %s or %s, not %q", PayloadValue, PayloadObject, common.Payload)
	}
	if common.Driver == "" {
		return nil, cfg.Errorf("$.driver", `the key "driver" is missing`)
	}
	e := &entry{name: name, hash: f.hash, cfg: cfg, driverName: common.Driver, topic: common.Topic, together: common.Together, object: common.Payload == PayloadObject}
	e.driver, _ = h.driver(common.Driver)
	e.cfg.Included = include(from.fsys, e.driver, cfg)
	if err := e.checkTopic(); err != nil {
		return nil, err
	}
	if err := h.checkDiscovery(cfg, common.Discovery); err != nil {
		return nil, err
	}
	e.discovery = common.Discovery
	if e.driver != nil {
		if e.points, err = check(e.driver, e.cfg); err != nil {
			return nil, err
		}
	}
	return e, e.claim()
}

// driver finds a driver by its name.
func (h *Host) driver(name string) (Driver, bool) {
	if d, ok := h.opts.Drivers[name]; ok {
		return d, true
	}
	if h.opts.Lookup == nil {
		return nil, false
	}
	if d, ok := h.opts.Lookup(name); ok && d != nil {
		return d, true
	}
	return nil, false
}

func (h *Host) driverNames() string {
	return strings.Join(slices.Sorted(maps.Keys(h.opts.Drivers)), ", ")
}

// sameDriver compares drivers, of which one may be of a type that == panics on.
func sameDriver(a, b Driver) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	return !reflect.ValueOf(a).Comparable() || a == b
}

// check asks the driver for the points; whatever goes wrong is a *ConfigError.
func check(d Driver, cfg Config) (points []Point, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = cfg.Errorf("$", "the driver panicked: %v\n%s", p, debug.Stack())
		}
	}()
	points, err = d.Check(cfg)
	var known *ConfigError
	if err != nil && !errors.As(err, &known) {
		err = cfg.Errorf("$", "%v", err)
	}
	return points, err
}

func (e *entry) checkTopic() error {
	if e.topic == "" {
		e.topic = e.name
	}
	if strings.HasPrefix(e.topic, "$") || !topic.ValidName(e.topic+"/status") {
		return e.cfg.Errorf("$.topic", "%q cannot be a topic", e.topic)
	}
	return nil
}

// claim judges the points and lists the device's topics.
func (e *entry) claim() error {
	if len(e.points) > MaxPoints {
		return e.cfg.Errorf("$.points", "more than %d points", MaxPoints)
	}
	e.index = make(map[string]int, len(e.points))
	own := map[string]bool{e.topic + "/status": true, e.topic + "/status/detail": true}
	if e.together {
		own[e.topic], own[e.topic+"/set"], own[e.topic+"/set/result"] = true, true, true
	}
	for i, p := range e.points {
		if err := e.checkPoint(p); err != nil {
			return err
		}
		e.index[p.Name] = i
		t := e.topic + "/" + p.Name
		if p.Feed.Topic != "" {
			e.topics, e.series = append(e.topics, p.Feed.Topic), append(e.series, "")
			continue
		}
		e.topics = append(e.topics, t)
		if e.together {
			e.series = append(e.series, e.topic+"#"+p.Name)
		} else {
			e.series = append(e.series, t)
		}
		for _, t := range []string{t, t + "/set", t + "/set/result"} {
			if own[t] {
				return e.cfg.Errorf(PointPath(p.Name), "topic %q belongs to this device already", t)
			}
			own[t] = true
		}
	}
	e.claims = slices.Sorted(maps.Keys(own))
	return nil
}

func (e *entry) checkPoint(p Point) error {
	switch {
	case p.Name == "" || !topic.ValidName(e.topic+"/"+p.Name+"/set/result"):
		return e.cfg.Errorf(PointPath(p.Name), "%q cannot be part of a topic", p.Name)
	case p.Every < 0 || (p.Every > 0 && p.Every < ShortestEvery):
		return e.cfg.Errorf(PointPath(p.Name, "every"), "point %q: every must be at least %v", p.Name, ShortestEvery)
	case p.Longest < 0:
		return e.cfg.Errorf(PointPath(p.Name, "longest"), "point %q: longest must not be negative", p.Name)
	case !(p.Deadband >= 0): // NaN, too
		return e.cfg.Errorf(PointPath(p.Name, "deadband"), "point %q: deadband must be a number from 0", p.Name)
	}
	if key, err := p.checkFeed(); err != nil {
		return e.cfg.Errorf(PointPath(p.Name, key), "point %q: %v", p.Name, err)
	}
	if e.together && p.Feed.Topic != "" {
		return e.cfg.Errorf("$.together", "together is for points that are published")
	}
	if key, err := p.check(); err != nil {
		return e.cfg.Errorf(PointPath(p.Name, key), "point %q: %v", p.Name, err)
	}
	return nil
}
