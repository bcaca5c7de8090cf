package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse/gatehouse/drivers"
)

// Driver opens simulated devices. Its methods may be called by any goroutine.
type Driver struct {
	compile drivers.Formula
}

// New returns the driver. Formula compiles the formulas; with nil, points can have
// initial values only.
func New(formula drivers.Formula) *Driver { return &Driver{compile: formula} }

// deviceFile is what a device file may say.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	Points         map[string]pointFile `yaml:"points"`
}

type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Formula             string        `yaml:"formula"`
	Initial             any           `yaml:"initial"`
	Hold                time.Duration `yaml:"hold"`
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
func (d *Driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	dev, err := d.build(cfg)
	if err != nil {
		return nil, err
	}
	dev.opened = time.Now()
	for _, p := range dev.order {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cannot open the simulation: %w", ctx.Err())
		}
		dev.work(p)
	}
	return dev, nil
}

func (d *Driver) build(cfg drivers.Config) (*device, error) {
	var file deviceFile
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	dev := &device{points: make(map[string]*point), vars: make(map[string]any)}
	for _, name := range cfg.Keys("$.points") {
		p, err := d.point(cfg, name, file)
		if err != nil {
			return nil, err
		}
		dev.points[name] = p
		dev.order = append(dev.order, p)
		dev.vars[p.variable] = variable(p.last)
	}
	if len(dev.order) == 0 {
		return nil, cfg.Errorf("$", `the key "points" is missing or empty`)
	}
	return dev, nil
}

func (d *Driver) point(cfg drivers.Config, name string, file deviceFile) (*point, error) {
	f := file.Points[name]
	p := &point{Point: f.Polled(name, file.Common), variable: identifier(name), hold: f.Hold}
	switch {
	case f.Formula == "" && f.Initial == nil:
		return nil, cfg.Errorf(drivers.PointPath(name), "point %q needs a formula or an initial value", name)
	case f.Hold < 0:
		return nil, cfg.Errorf(drivers.PointPath(name, "hold"), "point %q: hold must not be negative", name)
	case f.Hold > 0 && (f.Formula == "" || !f.Writable):
		return nil, cfg.Errorf(drivers.PointPath(name, "hold"), "point %q: hold is for a writable point with a formula", name)
	}
	if f.Initial != nil {
		v, err := valueOf(f.Initial)
		if err != nil {
			return nil, cfg.Errorf(drivers.PointPath(name, "initial"), "point %q: initial: %v", name, err)
		}
		p.last, p.initial = v, v
	}
	if f.Formula == "" {
		return p, nil
	}
	if d.compile == nil {
		return nil, cfg.Errorf(drivers.PointPath(name, "formula"), "point %q: there are no formulas here", name)
	}
	run, err := d.compile(f.Formula)
	if err != nil {
		return nil, cfg.Errorf(drivers.PointPath(name, "formula"), "point %q: %v", name, err)
	}
	p.formula = run
	return p, nil
}

// point is one point and what it is now.
type point struct {
	drivers.Point
	variable string
	formula  func(map[string]any) (any, error) // nil if it only holds a value
	hold     time.Duration
	initial  drivers.Value

	last    drivers.Value
	err     error // why the formula gave no value
	worked  time.Time
	written bool      // what was written stands
	until   time.Time // so long; zero is for good
}

// device is an open simulation.
type device struct {
	opened time.Time
	points map[string]*point
	order  []*point
	vars   map[string]any
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
func (d *device) Read(_ context.Context, points []string) ([]drivers.Reading, error) {
	all := make([]drivers.Reading, 0, len(points))
	for _, name := range points {
		p := d.points[name]
		if p == nil {
			all = append(all, drivers.Reading{
				Point: name, Quality: drivers.Bad, At: time.Now(), Err: fmt.Errorf("there is no point %q", name),
			})
			continue
		}
		d.work(p)
		r := drivers.Reading{Point: name, Value: p.last, At: p.worked}
		if p.err != nil {
			r.Value, r.Quality, r.Err = drivers.Value{}, drivers.Bad, p.err
		}
		all = append(all, r)
	}
	return all, nil
}

// work brings a point up to date.
func (d *device) work(p *point) {
	now := time.Now()
	dt := 0.0
	if !p.worked.IsZero() {
		dt = now.Sub(p.worked).Seconds()
	}
	p.worked = now
	if p.written && !p.until.IsZero() && !now.Before(p.until) {
		p.written = false
	}
	if p.formula == nil || p.written {
		return
	}
	since := now.Sub(d.opened)
	d.vars["t"] = int(since / time.Second)
	d.vars["ms"] = int(since / time.Millisecond)
	d.vars["dt"] = dt
	d.vars["value"] = variable(p.last)
	out, err := p.formula(d.vars)
	if err != nil {
		p.err = err
		return
	}
	v, err := valueOf(out)
	if err != nil {
		p.err = fmt.Errorf("the formula %w", err)
		return
	}
	p.err = nil
	d.set(p, v)
}

func (d *device) set(p *point, v drivers.Value) {
	p.last = v
	d.vars[p.variable] = variable(v)
}

// Write implements drivers.Device.
func (d *device) Write(_ context.Context, name string, v drivers.Value) error {
	p := d.points[name]
	switch {
	case p == nil:
		return fmt.Errorf("there is no point %q", name)
	case !p.Writable:
		return fmt.Errorf("point %q is not writable", name)
	}
	v, err := p.accept(v)
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	p.err, p.written, p.until = nil, true, time.Time{}
	if p.hold > 0 {
		p.until = time.Now().Add(p.hold)
	}
	d.set(p, v)
	return nil
}

// accept makes a written value one of the kind that the point began with.
func (p *point) accept(v drivers.Value) (drivers.Value, error) {
	_, number := v.Float()
	switch p.initial.Kind() {
	case drivers.Bool:
		if b, ok := v.Bool(); ok {
			return drivers.BoolValue(b), nil
		}
		return v, fmt.Errorf("%s is not true or false", v)
	case drivers.Int, drivers.Uint, drivers.Float, drivers.Decimal:
		if !number || v.Kind() == drivers.Bool {
			return v, fmt.Errorf("%s is not a number", v)
		}
	case drivers.Text:
		if v.Kind() != drivers.Text {
			return v, fmt.Errorf("%s is not text", v)
		}
	case drivers.Null, drivers.JSON:
	}
	return v, nil
}

// Close implements drivers.Device.
func (d *device) Close() error { return nil }

// valueOf makes a value of a formula's result or an initial value.
func valueOf(x any) (drivers.Value, error) {
	switch x := x.(type) {
	case nil:
		return drivers.Value{}, errors.New("gave nothing")
	case bool:
		return drivers.BoolValue(x), nil
	case int:
		return drivers.IntValue(int64(x)), nil
	case int64:
		return drivers.IntValue(x), nil
	case uint64:
		if x <= math.MaxInt64 {
			return drivers.IntValue(int64(x)), nil
		}
		return drivers.UintValue(x), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return drivers.Value{}, errors.New("gave no finite number")
		}
		return drivers.FloatValue(x), nil
	case string:
		return drivers.TextValue(x), nil
	}
	return drivers.Value{}, fmt.Errorf("gave neither true, false, a number nor text but a %T", x)
}

// variable is a value as formulas see it.
func variable(v drivers.Value) any {
	switch v.Kind() {
	case drivers.Bool:
		b, _ := v.Bool()
		return b
	case drivers.Int, drivers.Uint:
		if n, ok := v.Int(); ok && int64(int(n)) == n {
			return int(n)
		}
		f, _ := v.Float()
		return f
	case drivers.Float, drivers.Decimal:
		f, _ := v.Float()
		return f
	case drivers.Text, drivers.JSON:
		return v.String()
	case drivers.Null:
	}
	return nil
}

// identifier is a point's name as a variable.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return '_'
	}, name)
}
