package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// entrant is a broker in one run of one row.
type entrant struct {
	side    side
	process *process
	trial   trial
	result  result
	err     error // what kept it from a result
}

// run does one run of a row: the brokers stand beside each other, one works while
// the others have nothing to do, and who begins changes.
func (b *bench) run(ctx context.Context, r row, run int) error {
	var entrants []*entrant
	for i := range b.sides {
		s := b.sides[(run+i)%len(b.sides)]
		if !b.table.failed(r.name, s.name) { // else it would again
			entrants = append(entrants, &entrant{side: s})
		}
	}
	groups := [][]*entrant{entrants}
	if r.alone {
		groups = slices.Collect(slices.Chunk(entrants, 1))
	}
	for _, group := range groups {
		if err := b.group(ctx, r, run, group); err != nil {
			return err
		}
		for _, e := range group {
			b.table.add(r.name, e.side.name, run, e.result, e.err)
		}
	}
	return nil
}

// group lets some brokers take turns. An error of one is kept with it and is no
// error of the others.
func (b *bench) group(ctx context.Context, r row, run int, group []*entrant) error {
	for _, e := range group {
		progress("%s: %s, run %d", r.name, e.side.name, run+1)
		b.enter(ctx, r, run, e)
		defer func() { e.err = errors.Join(e.err, e.leave()) }()
	}
	n := b.o.slices
	if r.alone {
		n = 1 // of the whole time
	}
	for k := range n {
		for i := range group {
			if e := group[(k+i)%len(group)]; e.err == nil {
				e.err = e.trial.slice(ctx, b.o.time/time.Duration(n))
			}
		}
	}
	for _, e := range group {
		if e.err == nil {
			e.result, e.err = e.trial.result(ctx)
		}
	}
	return ctx.Err()
}

func (b *bench) enter(ctx context.Context, r row, run int, e *entrant) {
	if e.process, e.err = start(ctx, e.side, r.needs); e.err != nil {
		return
	}
	if e.trial, e.err = r.prepare(ctx, e.process, b.o); e.err != nil {
		return
	}
	if b.o.profile != "" && run == 0 && e.side.ours {
		e.err = e.process.record(b.o.profile, r.name, e.side)
	}
}

func (e *entrant) leave() error {
	var errs []error
	if e.trial != nil {
		errs = append(errs, e.trial.close())
	}
	if e.process != nil {
		errs = append(errs, e.process.stop())
	}
	return errors.Join(errs...)
}

// progress replaces the last line of a terminal.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	}
}
