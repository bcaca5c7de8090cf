package main

import "time"

// sum is what a broker used for what it did, over several periods.
type sum struct {
	cpu, took time.Duration
	done      int64
}

// measure adds a period, in which f lets the broker work and done counts what it does.
func (s *sum) measure(p *process, done *int64, f func() error) error {
	before, err := p.cpu()
	if err != nil {
		return err
	}
	start, had := time.Now(), *done
	if err := f(); err != nil {
		return err
	}
	after, err := p.cpu()
	s.took += time.Since(start)
	s.cpu += after - before
	s.done += *done - had
	return err
}

// each is the microseconds of processor time of one.
func (s *sum) each() float64 { return float64(s.cpu.Nanoseconds()) / 1e3 / float64(s.done) }

func (s *sum) perSecond() float64 { return float64(s.done) / s.took.Seconds() }

var began = time.Now()

// clock is nanoseconds by a clock that nobody sets.
func clock() int64 { return int64(time.Since(began)) }
