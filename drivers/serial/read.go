package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

func (p *point) unasked() bool { return !p.asked() }

// Read implements drivers.Device: points with a request are asked for, once a
// request; of the others it gives what they were last told to be, if that was after
// they were last written.
func (d *device) Read(ctx context.Context, points []string) ([]drivers.Reading, error) {
	all, groups := d.sort(points)
	if d.silent && len(groups) > 1 { // one request is enough, each in its turn
		d.probe++
		i := d.probe % len(groups)
		groups[0], groups[i] = groups[i], groups[0]
	}
	retries, answered := d.talk.retries, 0
	var failed error
	for _, group := range groups {
		if d.silent || failed != nil {
			retries = 0 // it is not there, or it is, and the line is not held up for long
		}
		readings, err := d.request(ctx, group, retries)
		switch {
		case err == nil:
			answered++
			d.silent = false
			all = append(all, readings...)
		case !errors.Is(err, errNoAnswer) || d.silent:
			return all, err
		default:
			failed = err
			all = append(all, unread(group, err)...)
		}
	}
	if failed != nil && answered == 0 {
		d.silent = true
		return nil, failed
	}
	return all, nil
}

// sort sorts points by their request.
func (d *device) sort(points []string) (told []drivers.Reading, groups [][]*point) {
	d.mu.Lock()
	defer d.mu.Unlock()
next:
	for _, name := range points {
		i, known := d.index[name]
		if !known {
			continue
		}
		p := &d.points[i]
		if !p.asked() {
			if r, ok := d.told[name]; ok {
				told = append(told, r)
			}
			continue
		}
		for j := range groups {
			if bytes.Equal(groups[j][0].request, p.request) {
				groups[j] = append(groups[j], p)
				continue next
			}
		}
		groups = append(groups, []*point{p})
	}
	return told, groups
}

// unread are the readings of points whose request was not answered by a device that
// answers others.
func unread(points []*point, why error) []drivers.Reading {
	all := make([]drivers.Reading, len(points))
	for i, p := range points {
		all[i] = drivers.Reading{Point: p.Name, Quality: drivers.Bad, At: time.Now(), Err: why}
	}
	return all
}

// request asks for points that have the same request.
func (d *device) request(ctx context.Context, points []*point, retries int) (readings []drivers.Reading, err error) {
	send := points[0].request
	if !d.raw {
		if send, err = d.reader.encode(nil, send); err != nil {
			return nil, err
		}
	}
	mine := func(p *point) bool { return bytes.Equal(p.request, points[0].request) }
	err = d.ask(ctx, send, retries, points[0].answer, func(frame []byte) bool {
		var err error
		readings, err = d.readings(frame, time.Now(), mine)
		return err == nil && len(readings) > 0
	})
	return pick(readings, points), err
}

// pick leaves out what was not asked for.
func pick(readings []drivers.Reading, points []*point) []drivers.Reading {
	wanted := make(map[string]bool, len(points))
	for _, p := range points {
		wanted[p.Name] = true
	}
	kept := readings[:0]
	for _, r := range readings {
		if wanted[r.Point] {
			kept = append(kept, r)
		}
	}
	return kept
}

// readings is what a frame says of the points that are meant. None and no error is
// that it is about something else.
func (d *device) readings(frame []byte, now time.Time, meant func(*point) bool) ([]drivers.Reading, error) {
	if d.coder != nil {
		return d.decoded(frame, now, meant)
	}
	return d.spec.readings(frame, now, meant)
}

// decoded is what the codec makes of a frame.
func (d *device) decoded(frame []byte, now time.Time, meant func(*point) bool) ([]drivers.Reading, error) {
	d.coding.Lock()
	defer d.coding.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), d.talk.timeout)
	defer cancel()
	values, err := d.coder.Decode(ctx, frame)
	if err != nil {
		return nil, fmt.Errorf("the codec: %w", err)
	}
	return d.judge(frame, now, meant, func(p *point) (field, bool, error) {
		v, ok := values[p.field]
		return field{text: v.String(), value: v, typed: true}, ok, nil
	}), nil
}

// readings is what a frame says of the points that are meant, without a codec.
func (s *spec) readings(frame []byte, now time.Time, meant func(*point) bool) ([]drivers.Reading, error) {
	if s.parse == nil {
		return s.judge(frame, now, meant, func(p *point) (field, bool, error) {
			v, err := p.layout.decode(frame)
			return field{text: v.String(), value: v, typed: true}, true, err
		}), nil
	}
	if err := readable(frame); err != nil {
		return nil, err
	}
	find, err := s.parse(frame)
	if err != nil {
		return nil, err
	}
	all := s.judge(frame, now, meant, func(p *point) (field, bool, error) {
		f, ok := find(p.field)
		return f, ok, nil
	})
	if len(all) == 0 && !s.selective() {
		return nil, errors.New("the line has no field of a point")
	}
	return all, nil
}

// selective reports whether frames that say nothing of any point are to be expected.
func (s *spec) selective() bool {
	for i := range s.points {
		if len(s.points[i].begins) > 0 {
			return true
		}
	}
	return s.nmea
}

// judge makes readings of what find finds.
func (s *spec) judge(frame []byte, now time.Time, meant func(*point) bool, find func(*point) (field, bool, error)) []drivers.Reading {
	var all []drivers.Reading
	for i := range s.points {
		p := &s.points[i]
		if !meant(p) || !p.mine(frame) {
			continue
		}
		f, ok, err := find(p)
		if !ok {
			continue
		}
		r := drivers.Reading{Point: p.Name, At: now, Err: err}
		if err == nil {
			r.Value, r.Err = convert(f, p.kind, p.words)
		}
		if r.Err != nil {
			r.Quality, r.Value = drivers.Bad, drivers.Value{}
		}
		all = append(all, r)
	}
	return all
}
