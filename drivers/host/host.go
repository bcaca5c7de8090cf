package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// defaultEvery is how often points are read when the file does not say.
const defaultEvery = 10 * time.Second

// firstSpan is the time that a rate is taken over when there is no reading before.
const firstSpan = 250 * time.Millisecond

// Driver opens the computer. Its methods may be called by any goroutine.
type Driver struct {
	root  root
	looks looks
}

// New returns the driver. Root is the folder that "proc", "sys" and the paths of disks
// are in; empty means "/".
func New(folder string) *Driver {
	if folder == "" {
		folder = "/"
	}
	return &Driver{root: root(folder)}
}

// root is where the files are.
type root string

func (r root) path(name string) string { return filepath.Join(string(r), name) }

// text is a file of one value, without the space around it.
func (r root) text(name string) (string, error) {
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return "", fmt.Errorf("cannot read /%s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// glob are the names that match a pattern, sorted.
func (r root) glob(pattern string) []string {
	found, err := filepath.Glob(r.path(pattern))
	if err != nil {
		return nil // never: the patterns are ours
	}
	for i := range found {
		found[i] = strings.TrimPrefix(strings.TrimPrefix(found[i], string(r)), "/")
	}
	return found
}

// deviceFile is what a device file may say.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	// Paths are those of the file systems that are told of without points; left out
	// it is "/".
	Paths  []string             `yaml:"paths"`
	Points map[string]pointFile `yaml:"points"`
}

type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Reads               string `yaml:"reads"`
	Path                string `yaml:"path"`
	Interface           string `yaml:"interface"`
	Disk                string `yaml:"disk"`
	Zone                string `yaml:"zone"`
}

// of is the instance that a point is of.
func (p pointFile) of(key string) string {
	return map[string]string{"path": p.Path, "interface": p.Interface, "disk": p.Disk, "zone": p.Zone}[key]
}

// Check implements drivers.Driver.
func (d *Driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	dev, err := d.build(cfg)
	if err != nil {
		return nil, err
	}
	return dev.Points(), nil
}

// Open implements drivers.Driver.
func (d *Driver) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	dev, err := d.build(cfg)
	if err != nil {
		return nil, err
	}
	return dev, nil
}

func (d *Driver) build(cfg drivers.Config) (*device, error) {
	var file deviceFile
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	if file.Every == 0 {
		file.Every = defaultEvery
	}
	dev := &device{driver: d, points: make(map[string]*point)}
	names := cfg.Keys("$.points")
	for _, name := range names {
		if err := dev.add(cfg, name, file.Points[name], file.Common); err != nil {
			return nil, err
		}
	}
	switch {
	case len(names) > 0 && file.Paths != nil:
		return nil, cfg.Errorf("$.paths", "paths are for a file without points; a point has its own path")
	case len(names) == 0:
		dev.addAll(file)
	}
	return dev, nil
}

// add adds a point of the file.
func (d *device) add(cfg drivers.Config, name string, f pointFile, common drivers.Common) error {
	reads := f.Reads
	if reads == "" {
		reads = name
	}
	q, known := quantities[reads]
	switch {
	case !known:
		return cfg.Errorf(drivers.PointPath(name), "point %q: %q is none of %s", name, reads, strings.Join(slices.Sorted(maps.Keys(quantities)), ", "))
	case f.Writable:
		return cfg.Errorf(drivers.PointPath(name, "writable"), "point %q: nothing of the computer can be written", name)
	case q.of != "" && f.of(q.of) == "" && !q.any:
		return cfg.Errorf(drivers.PointPath(name), "point %q: the key %q is missing", name, q.of)
	}
	for _, key := range []string{"path", "interface", "disk", "zone"} {
		if key != q.of && f.of(key) != "" {
			return cfg.Errorf(drivers.PointPath(name, key), "point %q: %s has no %s", name, reads, key)
		}
	}
	if of := f.of(q.of); q.of != "path" && (strings.Contains(of, "/") || of == "..") {
		return cfg.Errorf(drivers.PointPath(name, q.of), "point %q: %q is not the name of one", name, of)
	}
	p := &point{Point: f.Polled(name, common), quantity: q, of: f.of(q.of)}
	if p.Unit == "" {
		p.Unit = q.unit
	}
	d.points[name], d.order = p, append(d.order, p)
	return nil
}

// addAll adds a point for all that the computer tells now.
func (d *device) addAll(file deviceFile) {
	for _, path := range file.Paths {
		d.driver.look(path) // all at once, so that they hang together
	}
	for _, reads := range slices.Sorted(maps.Keys(quantities)) {
		q := quantities[reads]
		instances := []string{""}
		switch {
		case q.of == "path" && len(file.Paths) > 0:
			instances = file.Paths
		case q.of == "path":
			instances = []string{"/"}
		case q.of == "interface":
			instances = d.driver.root.interfaces()
		case q.of == "disk":
			instances = d.driver.root.disks()
		}
		for _, of := range instances {
			name := reads
			if of != "" {
				name += "/" + label(of)
			}
			p := &point{Point: drivers.PointCommon{Unit: q.unit}.Polled(name, file.Common), quantity: q, of: of}
			var hangs errHangs // which is no reason to think that there is none
			s := p.sample(context.Background(), d.driver)
			if s.err != nil && !errors.As(s.err, &hangs) || d.points[name] != nil {
				continue
			}
			d.points[name], d.order = p, append(d.order, p)
		}
	}
}

// label is a path as part of a point's name: "/" is "root".
func label(of string) string {
	of = strings.Trim(of, "/")
	if of == "" {
		return "root"
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/+# ", r) {
			return '_'
		}
		return r
	}, of)
}

// point is one point and what it was read as before.
type point struct {
	drivers.Point
	quantity quantity
	of       string // the path, interface, disk or zone
	look     *look  // at its file system, which was begun ahead
	before   sample
}

// device is the computer.
type device struct {
	driver *Driver
	points map[string]*point
	order  []*point
}

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point {
	all := make([]drivers.Point, len(d.order))
	for i, p := range d.order {
		all[i] = p.Point
	}
	return all
}

// Read implements drivers.Device.
func (d *device) Read(ctx context.Context, points []string) ([]drivers.Reading, error) {
	all := make([]drivers.Reading, 0, len(points))
	for _, name := range points {
		if p := d.points[name]; p != nil && p.quantity.disk != nil {
			p.look = d.driver.look(p.of) // all at once, so that they hang together
		}
	}
	d.begin(ctx, points)
	for _, name := range points {
		r := drivers.Reading{Point: name}
		if p := d.points[name]; p == nil {
			r.Err = fmt.Errorf("there is no point %q", name)
		} else {
			r.Value, r.Err = p.read(ctx, d.driver)
		}
		if r.At = time.Now(); r.Err != nil {
			r.Value, r.Quality = drivers.Value{}, drivers.Bad
		}
		all = append(all, r)
	}
	return all, nil
}

// begin takes the first sample of what is a rate, and waits a little.
func (d *device) begin(ctx context.Context, points []string) {
	first := false
	for _, name := range points {
		if p := d.points[name]; p != nil && p.quantity.rate != nil && p.before.at.IsZero() {
			p.before, first = p.sample(ctx, d.driver), true
		}
	}
	if !first {
		return
	}
	timer := time.NewTimer(firstSpan)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sample reads what the point is of, now.
func (p *point) sample(ctx context.Context, d *Driver) sample {
	if p.quantity.disk == nil {
		return p.quantity.read(d.root, p.of)
	}
	one := p.look
	if p.look = nil; one == nil {
		one = d.look(p.of)
	}
	info, err := one.result(ctx, p.of)
	if err != nil {
		return sample{err: err}
	}
	return sample{value: p.quantity.disk(info)}
}

func (p *point) read(ctx context.Context, d *Driver) (drivers.Value, error) {
	now := p.sample(ctx, d)
	before := p.before
	p.before = now
	switch {
	case now.err != nil || p.quantity.rate == nil:
		return now.value, now.err
	case before.err != nil:
		return drivers.Value{}, errors.New("it was not there the last time")
	case now.count < before.count || now.of < before.of:
		return drivers.Value{}, errors.New("it began to count anew")
	}
	return p.quantity.rate(before, now)
}

// Write implements drivers.Device.
func (d *device) Write(_ context.Context, name string, _ drivers.Value) error {
	return fmt.Errorf("point %q is not writable", name)
}

// Close implements drivers.Device. It waits for a look at a file system as long as a
// reading does: the device of the next file, which may do without that one, waits for it.
func (d *device) Close() error {
	for _, p := range d.order {
		if p.quantity.disk != nil {
			d.driver.looks.wait(d.driver.root.path(p.of))
		}
	}
	return nil
}
