package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// versionRules count the messages of each topic, and say which version they are.
func versionRules(version int) *ruleset {
	return &ruleset{
		files: map[string]string{"count.yaml": yaml("  - name: count\n    on: bench/in/+\n    windows:\n      n: {count: payload.open == true, by: topic}\n" +
			"    do:\n      - publish: bench/out/${parts[2]}\n        payload: {stamp: \"${payload.stamp}\", value: \"${windows.n}\"" + fmt.Sprintf(", version: %d}\n", version))},
		flows: versionFlows(version),
	}
}

// versionScript is versionRules in JavaScript.
func versionScript(version int) *ruleset {
	return &ruleset{
		files: map[string]string{"count.js": "on('bench/in/+', (msg) => {\n  const n = (state.get(msg.topic) || 0) + 1\n  state.set(msg.topic, n)\n" +
			fmt.Sprintf("  publish('bench/out/' + msg.parts[2], { stamp: msg.payload.stamp, value: n, version: %d })\n})\n", version) + readyJS},
		flows: versionFlows(version),
	}
}

func versionFlows(version int) []node {
	return []node{mqttIn("in", ruleFilter, "count"), function("count", "const n = (context.get(msg.topic) || 0) + 1\ncontext.set(msg.topic, n)\n"+
		fmt.Sprintf("return { topic: msg.topic.replace('in', 'out'), payload: { stamp: msg.payload.stamp, value: n, version: %d } }", version), "out"), mqttOut("out")}
}

// reloadTime is how long another version of the rules may take to be in force.
const reloadTime = 10 * time.Second

// reloadBounds are that nothing is lost.
func reloadBounds(o *options) []bound {
	return []bound{{reloads, atLeast, float64(o.reloads)}, {lost, atMost, 0}, {doubled, atMost, 0}, {forgotten, atMost, 0}}
}

// reload has messages come at a rate, and writes another version of the rules as soon
// as the one before has acted.
type reload struct {
	*test
	o         *options
	of        func(int) *ruleset
	version   int           // that acted last
	counts    []float64     // what the count of a publisher is to be above
	forgotten int           // how often it was not
	worst     time.Duration // from the writing of a version to its first action
	done      int
}

func prepareReloads(ctx context.Context, p *process, o *options) (trial, error) {
	r := &reload{o: o, of: versionRules}
	if _, ok := p.needs.rules.files["count.js"]; ok {
		r.of = versionScript
	}
	l := load{publishers: 10, subscribers: 1, filter: ruleHeard, burst: 1, rate: 1000, rules: &ruled{check: r.saw}}
	r.counts = make([]float64, l.publishers)
	var err error
	if r.test, err = newTest(l, p, o); err != nil {
		return nil, err
	}
	if err := r.connect(ctx, o.size); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// saw notes what a message tells of the rule that made it: the version, and whether
// the count goes on.
func (r *reload) saw(publisher int, _ uint64, payload []byte) bool {
	version, ok := numberOf(payload, "version")
	count, counts := numberOf(payload, "value")
	if !ok || !counts || publisher >= len(r.counts) {
		return false
	}
	r.version = max(r.version, int(version))
	if count < r.counts[publisher] {
		r.forgotten++
	}
	r.counts[publisher] = count
	return true
}

func (r *reload) slice(ctx context.Context, _ time.Duration) error {
	const step = 2 * time.Millisecond
	r.test.next = time.Now()
	for r.done < r.o.reloads {
		version := r.done + 1
		given := make(chan error, 1)
		begin := time.Now()
		go func() { given <- r.give(ctx, version) }()
		var err error
		for waiting := true; err == nil && (waiting || r.version < version); {
			select {
			case err = <-given:
				given, waiting = nil, false
			default:
			}
			if err == nil {
				err = r.work(ctx, time.Now().Add(step))
			}
			if err == nil && time.Since(begin) > reloadTime {
				err = fmt.Errorf("version %d of the rules did nothing within %v", version, reloadTime)
			}
		}
		if given != nil {
			err = errors.Join(err, <-given)
		}
		if err != nil {
			return err
		}
		r.worst = max(r.worst, time.Since(begin))
		r.done++
	}
	return r.settle(ctx)
}

// give makes a version that in force.
func (r *reload) give(ctx context.Context, version int) error {
	rules := r.of(version)
	if r.p.beside != nil {
		return r.p.deploy(ctx, rules)
	}
	return rules.write(filepath.Join(r.p.folder, rulesFolder))
}

func (r *reload) result(ctx context.Context) (result, error) {
	res, err := r.test.result(ctx)
	if err != nil {
		return res, err
	}
	res.values = map[metric]float64{
		reloads: float64(r.done), lost: float64(res.faults.lost), doubled: float64(res.faults.twice), forgotten: float64(r.forgotten),
	}
	return res, nil
}
