package drivers

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// What a status topic says.
const (
	statusOnline  = "online"
	statusOffline = "offline"
)

// origin is what stands behind readings: nothing, or a command, which has them
// published even if they did not change.
type origin struct {
	command bool
	hops    uint8 // of the command, so that a loop through a device ends
}

// news is what readings are worth.
type news struct {
	msgs    []message.Message
	indexes []int    // of the points of msgs; -1 is all
	samples []Sample // for the history
	bad     *Reading // one that is bad, if any
}

// Sample is a number that a point was, for the history.
type Sample struct {
	Series string // TOPIC/POINT or, of a device with its points together, TOPIC#POINT
	At     time.Time
	Value  float64 // false and true are 0 and 1
}

// take notes readings and publishes those that are news.
func (s *slot) take(ctx context.Context, e *entry, readings []Reading, from origin) {
	if len(readings) == 0 {
		return
	}
	n := s.note(e, readings, from)
	if n.bad != nil {
		if count, due := s.reports.due("bad"); due {
			s.log.Warn("point has no good value", "point", n.bad.Point, "error", n.bad.Err, "count", count)
		}
	}
	if len(n.samples) > 0 {
		s.host.opts.History(n.samples)
	}
	if len(n.msgs) > 0 {
		s.publish(ctx, n.msgs, n.indexes)
		s.reuse(n)
	}
}

// maxReused is how many messages the memory of is kept of, for the next readings.
const maxReused = 4096

// reuse keeps the memory of what was published.
func (s *slot) reuse(n news) {
	clear(n.msgs)
	if s.spare = (news{}); cap(n.msgs) <= maxReused {
		s.spare = news{msgs: n.msgs[:0], indexes: n.indexes[:0]}
	}
}

// publish publishes messages of readings; the indexes are those of their points.
func (s *slot) publish(ctx context.Context, msgs []message.Message, indexes []int) {
	err := s.bus.Publish(ctx, msgs...)
	if err == nil {
		s.count(func(c *Counters) { c.Published += uint64(len(msgs)) })
		return
	}
	s.publishSingly(ctx, msgs, indexes, err)
}

// missing notes that the values of points that were asked for are stale, if the
// readings have nothing of them, and whether there are such: the device answers, but
// not for these.
func (s *slot) missing(e *entry, asked []string, readings []Reading) (some bool) {
	if len(readings) >= len(asked) {
		return false
	}
	told := make(map[string]bool, len(readings))
	for i := range readings {
		told[readings[i].Point] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range asked {
		if p := &s.state.points[e.index[name]]; !told[name] {
			p.grow("the device answers, but not for this point")
			s.state.dirty, some = true, true
		}
	}
	return some
}

// grow makes a good value stale, and tells why of any that is not good.
func (p *pointState) grow(reason string) {
	if p.known && p.quality == Good {
		p.quality = Stale
	}
	if p.quality == Stale || !p.known {
		p.err = reason
	}
}

// publishSingly publishes messages whose batch was refused, but for those that are known
// to be accepted, so that one refusal keeps no other back. What is refused again is
// offered again with the next reading.
func (s *slot) publishSingly(ctx context.Context, msgs []message.Message, indexes []int, err error) {
	accepted := 0
	var refused *message.RefusedError
	if errors.As(err, &refused) {
		accepted = refused.Index
	}
	for i, m := range msgs {
		switch {
		case i < accepted:
			err = nil
		case len(msgs) > 1:
			err = s.bus.Publish(ctx, m)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s.count(func(c *Counters) { c.Published++ })
			continue
		}
		s.unpublished(indexes[i])
		if n, due := s.reports.due("publish"); due {
			s.log.Warn("reading was not published", "topic", m.Topic, "error", err, "count", n)
		}
	}
}

// unpublished forgets that a point was published; -1 is all of them.
func (s *slot) unpublished(index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.counters.PublishErrors++
	for i := range s.state.points {
		if i == index || index < 0 {
			s.state.points[i].isPublished, s.state.points[i].told = false, 0
		}
	}
}

// note keeps readings and returns what they are worth.
func (s *slot) note(e *entry, readings []Reading, from origin) (n news) {
	now := time.Now()
	n.msgs, n.indexes = s.spare.msgs, s.spare.indexes
	s.mu.Lock()
	defer s.mu.Unlock()
	changed, index, known := false, -1, false
	for i := range readings {
		r := &readings[i]
		if index, known = e.find(r.Point, index+1); !known {
			s.state.counters.Malformed++
			continue
		}
		pt, p := &e.points[index], &s.state.points[index]
		if r.Quality == Bad {
			n.bad = r
		}
		s.keep(pt, p, r, now)
		if !p.isWorth(e, pt, from, now) {
			continue
		}
		changed, p.told = true, toldAs(p.quality)
		if p.quality == Good {
			p.published, p.publishedAt, p.isPublished = p.value, now, true
			if v, ok := p.raw.Float(); ok && pt.History && s.host.opts.History != nil {
				n.samples = append(n.samples, Sample{Series: e.series[index], At: p.at, Value: v})
			}
		}
		if !e.together {
			n.msgs, n.indexes = append(n.msgs, s.reading(e, index, from)), append(n.indexes, index)
		}
	}
	if e.together && changed {
		n.msgs, n.indexes = append(n.msgs, s.together(e, from, now)), append(n.indexes, -1)
	}
	return n
}

// keep notes one reading. s.mu is held.
func (s *slot) keep(pt *Point, p *pointState, r *Reading, now time.Time) {
	was, why := p.quality, p.err
	p.at, p.quality, p.err = r.At, r.Quality, ""
	if p.at.IsZero() {
		p.at = now
	}
	switch r.Quality {
	case Good:
		p.hold(pt, r.Value)
	case Stale:
		p.hold(pt, r.Value)
		p.err = "the device has only an old value"
	case Bad:
		s.state.counters.Bad++
		p.err = "the device gave no value"
	}
	if r.Err != nil {
		p.err = r.Err.Error()
	}
	if p.quality != was || p.err != why {
		s.state.dirty = true
	}
}

// hold keeps a value that was read.
func (p *pointState) hold(pt *Point, v Value) {
	switch {
	case len(pt.Names) == 0 && len(pt.Flags) == 0:
		p.value = v
	case !p.known || p.raw != v:
		p.value = pt.shown(v)
	}
	p.raw, p.known, p.valueAt = v, true, p.at
}

// isNews reports whether the value is to be published: it was not yet, it went
// beyond the deadband of what was, or that was published too long ago.
func (p *pointState) isNews(pt *Point, now time.Time) bool {
	if !p.isPublished || differ(p.value, p.published, pt.Deadband) {
		return true
	}
	// Half an interval early, or a poll that comes a little early misses its turn.
	return pt.Longest > 0 && now.Sub(p.publishedAt)+pt.Every/2 >= pt.Longest
}

// differ reports whether two values are apart by more than the deadband.
func differ(a, b Value, deadband float64) bool {
	if a.Equal(b) {
		return false
	}
	if !isNumber(a) || !isNumber(b) || a.Kind() == b.Kind() && deadband == 0 {
		return true // integers above 2^53 that share a float64, too
	}
	x, _ := a.Float()
	y, _ := b.Float()
	if x == y && deadband == 0 { // perhaps of different kinds on both sides of 2^63
		return rational(a).Cmp(rational(b)) != 0
	}
	// The rounding of binary fractions must not carry 21.3 beyond 21.2 + 0.1.
	return math.Abs(x-y) > deadband+1e-9*deadband
}

func isNumber(v Value) bool {
	switch v.Kind() {
	case Int, Uint, Float, Decimal:
		return true
	case Null, Bool, Text, JSON:
	}
	return false
}

// appendMember adds a member to an object that has been opened.
func appendMember(b []byte, name string, v Value) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return v.AppendJSON(append(appendText(b, name), ':'))
}

func (s *slot) retained(topic string, payload []byte, from origin) message.Message {
	return message.Message{
		Topic: topic, Payload: payload, QoS: message.AtLeastOnce, Retain: true,
		UTF8: true, Origin: s.origin, Hops: from.hops,
	}
}
