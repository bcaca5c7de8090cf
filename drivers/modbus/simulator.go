package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxPushed is how many writes of clients may wait to be published; a further one is
// seen at the next poll.
const maxPushed = 256

var errNoValue = errors.New("the formula gives no value")

// Simulator returns the driver "modbus-simulator".
func (d *Driver) Simulator() drivers.Driver {
	return simDriver{d}
}

// simDriver opens simulators.
type simDriver struct{ driver *Driver }

// Check implements drivers.Driver.
func (d simDriver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	spec, err := decodeSimulator(cfg, d.driver.opts.Formula)
	if err != nil {
		return nil, err
	}
	return spec.list(), nil
}

func (s *simSpec) list() []drivers.Point {
	points := make([]drivers.Point, len(s.points))
	for i, p := range s.points {
		points[i] = p.Point
	}
	return points
}

// Open implements drivers.Driver: it listens, or opens the line.
func (d simDriver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	spec, err := decodeSimulator(cfg, d.driver.opts.Formula)
	if err != nil {
		return nil, err
	}
	if spec.tape != nil {
		return openPlayer(ctx, spec, d.driver)
	}
	s := newSimulator(spec, d.driver.opts.Log)
	if err := s.open(ctx, d.driver, spec.place, everybody(s.answer), s.lost); err != nil {
		return nil, err
	}
	return s, nil
}

// simulator is a server with registers of its own. It implements
// drivers.Pusher.
type simulator struct {
	spec   *simSpec
	log    *slog.Logger
	list   []drivers.Point
	index  map[string]int
	vars   []string // the points' names as variables
	begun  time.Time
	pushed chan drivers.Pushed
	*station

	*registers            // its mutex guards state, too
	state      []simState // by point
}

// simState is what a point is at the moment.
type simState struct {
	value drivers.Value // as the formula gave it, not rounded to a step
	last  time.Time     // when its formula was evaluated
}

func newSimulator(spec *simSpec, log *slog.Logger) *simulator {
	s := &simulator{
		spec: spec, log: log, list: spec.list(), begun: time.Now(),
		index: map[string]int{}, pushed: make(chan drivers.Pushed, maxPushed), station: newStation(),
	}
	specs := make([]pointSpec, len(spec.points))
	for i, p := range spec.points {
		specs[i] = p.pointSpec
	}
	s.registers = newRegisters(specs)
	s.registers.store = s.store
	for i, p := range spec.points {
		s.index[p.Name] = i
		s.vars = append(s.vars, variable(p.Name))
		wire, err := p.encodeRounded(p.initial, true)
		if err != nil { // the check has done the same
			panic(err)
		}
		s.state = append(s.state, simState{value: p.initial, last: s.begun})
		s.wires[i] = wire
	}
	return s
}

// variable is the name of a point in a formula.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 127 {
			return r
		}
		return '_'
	}, name)
}

// Points implements drivers.Device.
func (s *simulator) Points() []drivers.Point { return s.list }

// Pushed implements drivers.Pusher: what clients write is told at once.
func (s *simulator) Pushed() <-chan drivers.Pushed { return s.pushed }

// Close implements drivers.Device.
func (s *simulator) Close() error {
	if s.stop() {
		close(s.pushed)
	}
	return nil
}

// lost tells that the line is gone.
func (s *simulator) lost(err error) {
	select {
	case s.pushed <- drivers.Pushed{Err: err}:
	case <-s.ctx.Done():
	}
}

// Read implements drivers.Device. It evaluates the formulas of the points.
func (s *simulator) Read(_ context.Context, names []string) ([]drivers.Reading, error) {
	out := make([]drivers.Reading, 0, len(names))
	now := time.Now()
	for _, name := range names {
		i, ok := s.index[name]
		if !ok {
			return out, fmt.Errorf("%w: %q", errNoPoint, name)
		}
		if err := s.evaluate(i, now); err != nil {
			out = append(out, drivers.Reading{Point: name, Quality: drivers.Bad, At: now, Err: err})
			continue
		}
		s.mu.Lock()
		out = append(out, s.reading(i, now))
		s.mu.Unlock()
	}
	return out, nil
}

// reading is what a client would read; mu is held.
func (s *simulator) reading(i int, now time.Time) drivers.Reading {
	r := drivers.Reading{Point: s.list[i].Name, At: now}
	if r.Value, r.Err = s.spec.points[i].decode(s.wires[i]); r.Err != nil {
		r.Quality = drivers.Bad
	}
	return r
}

// evaluate gives a point its next value.
func (s *simulator) evaluate(i int, now time.Time) error {
	p := &s.spec.points[i]
	if p.formula == nil {
		return nil
	}
	s.mu.Lock()
	before := s.state[i].value
	vars := make(map[string]any, len(s.vars)+3)
	for k, name := range s.vars {
		vars[name] = plain(s.state[k].value)
	}
	vars["t"] = now.Sub(s.begun).Seconds()
	vars["dt"] = now.Sub(s.state[i].last).Seconds()
	vars["value"] = plain(before)
	s.state[i].last = now
	s.mu.Unlock()

	result, err := p.formula(vars)
	if err != nil {
		return fmt.Errorf("cannot evaluate the formula: %w", err)
	}
	v, err := valueOf(result)
	if err != nil {
		return err
	}
	wire, err := p.encodeRounded(v, true)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state[i].value.Equal(before) { // else a client has written meanwhile
		s.state[i].value, s.wires[i] = v, wire
	}
	return nil
}

// plain is a value as a formula sees it.
func plain(v drivers.Value) any {
	if b, ok := v.Bool(); ok && v.Kind() == drivers.Bool {
		return b
	}
	if n, ok := v.Int(); ok && v.Kind() == drivers.Int {
		return n
	}
	f, _ := v.Float()
	return f
}

// valueOf is a formula's result as a value.
func valueOf(result any) (drivers.Value, error) {
	switch r := result.(type) {
	case bool:
		return drivers.BoolValue(r), nil
	case int:
		return drivers.IntValue(int64(r)), nil
	case int64:
		return drivers.IntValue(r), nil
	case float64:
		if v := drivers.FloatValue(r); !v.IsNull() {
			return v, nil
		}
	}
	return drivers.Value{}, errNoValue
}

// Write implements drivers.Device: it sets a writable point.
func (s *simulator) Write(_ context.Context, name string, v drivers.Value) error {
	i, ok := s.index[name]
	if !ok {
		return fmt.Errorf("%w: %q", errNoPoint, name)
	}
	p := &s.spec.points[i]
	if !p.Writable {
		return fmt.Errorf("%w: %q", errReadOnly, name)
	}
	wire, err := p.encode(v)
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[i].value, s.wires[i] = v, wire
	return nil
}

// answer adds the answer to a request to b. It may be called by any goroutine.
func (s *simulator) answer(b []byte, unit uint8, pdu []byte) []byte {
	switch line := s.spec.place.line(); {
	case unit == s.spec.unit, line && unit == broadcast:
	case line: // nobody answers for others
		return b
	case unit != 0 && unit != 255:
		return append(b, pdu[0]|exceptionBit, byte(GatewayPath))
	}
	return s.registers.answer(b, pdu, false)
}

// store is that of the registers. It tells of the points.
func (s *simulator) store(to span, data, mask []byte) Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed, code := s.owned(to)
	if code != 0 {
		return code
	}
	for _, i := range changed {
		s.wires[i] = s.written(i, to, data, mask)
	}
	s.tell(changed)
	return 0
}

// tell makes values of what was written, and publishes them; the mutex is held.
func (s *simulator) tell(points []int) {
	now := time.Now()
	var said drivers.Pushed
	for _, i := range points {
		r := s.reading(i, now)
		s.state[i].value = r.Value
		said.Readings = append(said.Readings, r)
	}
	select {
	case s.pushed <- said:
	default: // the next poll tells
	}
}
