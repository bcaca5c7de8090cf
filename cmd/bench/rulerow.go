package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const rulePublishers = 100

// ruleRows are those with rules, with what the gateway is to keep in each.
func ruleRows(o *options) []row {
	of := func(name string, r *ruleset, prepare preparer, bounds ...bound) row {
		return row{name: name, needs: needs{nodelay: true, rules: r}, prepare: prepare, bounds: bounds}
	}
	above := func(us float64) bound { return bound{overStraight, atMost, us} }
	check := func(f func(int, uint64, []byte) bool) preparer {
		return ruleLoad(&ruled{check: f}).beside
	}
	open := load{publishers: 10, subscribers: 1, filter: ruleHeard, burst: 1, rate: 2000, rules: &ruled{}}
	rows := []row{
		of("R0 no rule", nil, ruleLoad(&ruled{straight: true}).prepare),
		of("R1 open == true -> publish", doorRules(), check(nil), above(1.5)),
		of("R3 100 rules on 100 topics", topicRules(rulePublishers), check(nil), above(2)),
		of("R4 100 rules on one wildcard, one fires", wildcardRules(rulePublishers), check(nil), above(5)),
		of("R6 mean of the last 10 a room", meanRules(), check(rightMean), above(3)),
		of("R7 JavaScript, a 50-step loop and state", countScript(), check(rightCount), bound{cpuPerMessage, atMost, 26}),
		of("publish -> action at 2,000/s, YAML", doorRules(), open.prepare, bound{p50, atMost, 200}),
		of("publish -> action at 2,000/s, JavaScript", doorScript(), open.prepare, bound{p50, atMost, 400}),
		of(fmt.Sprintf("%d reloads at 1,000/s, YAML", o.reloads), versionRules(0), prepareReloads, reloadBounds(o)...),
		of(fmt.Sprintf("%d reloads at 1,000/s, JavaScript", o.reloads), versionScript(0), prepareReloads, reloadBounds(o)...),
		of("start to first firing, YAML", doorRules(), prepareFirst),
		of("start to first firing, JavaScript", doorScript(), prepareFirst),
		of("1,000 YAML rules against none", manyRules(1000), prepareMany, bound{moreMegabytes, atMost, 8}),
		of("100 scripts against none", manyScripts(100), prepareMany, bound{workMegabytes, atMost, 20}),
	}
	for i := range rows {
		rows[i].alone = !slices.ContainsFunc(rows[i].bounds, func(b bound) bool { return b.metric == overStraight || b.metric == cpuPerMessage || b.metric == p50 })
	}
	rows[0].alone = false
	return rows
}

type preparer = func(context.Context, *process, *options) (trial, error)

func ruleLoad(r *ruled) load {
	l := load{publishers: rulePublishers, subscribers: 1, filter: ruleHeard, burst: windowSize, window: windowSize, rules: r}
	if r.straight {
		l.filter = ruleFilter
	}
	return l
}

// beside is the load on a broker with rules, and on one without by turns, which is
// what the rules cost compared with.
func (l load) beside(ctx context.Context, p *process, o *options) (_ trial, err error) {
	b := &besides{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.with, err = l.prepare(ctx, p, o); err != nil {
		return nil, err
	}
	n := p.needs
	n.rules = nil
	if b.plain, err = start(ctx, p.side, n); err != nil {
		return nil, err
	}
	b.without, err = ruleLoad(&ruled{straight: true}).prepare(ctx, b.plain, o)
	return b, err
}

type besides struct {
	with, without trial
	plain         *process
	turn          int
}

func (b *besides) slice(ctx context.Context, d time.Duration) error {
	both := []trial{b.with, b.without}
	b.turn++
	for i := range both {
		if err := both[(b.turn+i)%2].slice(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (b *besides) result(ctx context.Context) (result, error) {
	r, err := b.with.result(ctx)
	if err != nil {
		return r, err
	}
	plain, err := b.without.result(ctx)
	r.faults.add(plain.faults)
	if us, ok := plain.values[cpuPerMessage]; ok && r.values[cpuPerMessage] > 0 {
		r.values[straight], r.values[overStraight] = us, r.values[cpuPerMessage]-us
	}
	return r, err
}

func (b *besides) close() error {
	var errs []error
	for _, t := range []trial{b.with, b.without} {
		if t != nil {
			errs = append(errs, t.close())
		}
	}
	if b.plain != nil {
		errs = append(errs, b.plain.stop())
	}
	return errors.Join(errs...)
}

// first is the time from the start of what runs the rules to their first action. The
// broker of Node-RED goes on running.
type first struct {
	p     *process
	times []float64
}

func prepareFirst(_ context.Context, p *process, _ *options) (trial, error) {
	return &first{p: p}, nil
}

func (t *first) slice(ctx context.Context, _ time.Duration) error {
	again := t.p
	if t.p.beside != nil {
		again = t.p.beside
	}
	if err := again.end(); err != nil {
		return err
	}
	begin := time.Now()
	if err := again.launch(); err != nil {
		return err
	}
	if !t.p.up(ctx) {
		return fmt.Errorf("takes no connections; it said:\n%s", t.p.said.String())
	}
	if err := firing(ctx, t.p, time.Millisecond); err != nil {
		return err
	}
	t.times = append(t.times, time.Since(begin).Seconds()*1e3)
	return nil
}

func (t *first) result(context.Context) (result, error) {
	slices.Sort(t.times)
	return result{values: map[metric]float64{firstFiring: middle(t.times)}}, nil
}

func (t *first) close() error { return nil }

// many is the resident memory with rules and without.
type many struct {
	p      *process
	values map[metric]float64
}

func prepareMany(_ context.Context, p *process, _ *options) (trial, error) {
	return &many{p: p, values: map[metric]float64{}}, nil
}

func (t *many) slice(ctx context.Context, _ time.Duration) error {
	with, work, err := t.memory(ctx, t.p)
	if err != nil {
		return err
	}
	n := t.p.needs
	n.rules = nil
	plain, err := start(ctx, t.p.side, n)
	if err != nil {
		return err
	}
	without, _, err := t.memory(ctx, plain)
	if err := errors.Join(err, plain.stop()); err != nil {
		return err
	}
	t.values[moreMegabytes] = with - without
	if work > 0 {
		t.values[workMegabytes] = work
	}
	return nil
}

// memory is that of the gateway, and of the worker of its scripts, in MiB; of the
// others it is that of all their processes.
func (t *many) memory(ctx context.Context, p *process) (whole, work float64, err error) {
	all, err := p.settled(ctx)
	if err != nil || !p.side.ours {
		return float64(all) / (1 << 20), 0, err
	}
	own, err := resident(p.cmd.Process.Pid)
	return float64(own) / (1 << 20), float64(all-own) / (1 << 20), err
}

func (t *many) result(context.Context) (result, error) { return result{values: t.values}, nil }

func (t *many) close() error { return nil }
