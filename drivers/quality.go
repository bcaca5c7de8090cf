package drivers

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// The user properties of a reading: how far it can be trusted, of which time it is,
// and why it is not good.
const (
	PropertyQuality = "quality"
	PropertyAt      = "at"
	PropertyReason  = "reason"
)

// PropertySince is the user property of a status: since when it is.
const PropertySince = "since"

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

func appendTime(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, timeFormat) }

// told is the quality that was published last; the zero value is none.
type told uint8

func toldAs(q Quality) told { return told(q) + 1 }

// properties makes the user properties of readings. Those of one poll mostly have one
// time, and share them.
type properties struct {
	at   int64 // Unix time in ms of good
	good []message.Property
}

func (c *properties) of(p *pointState) []message.Property {
	if p.quality == Good {
		if ms := p.at.UnixMilli(); c.good == nil || ms != c.at {
			c.at, c.good = ms, []message.Property{
				{Key: PropertyQuality, Value: Good.String()},
				{Key: PropertyAt, Value: string(appendTime(nil, p.at))},
			}
		}
		return c.good
	}
	props := []message.Property{{Key: PropertyQuality, Value: p.quality.String()}}
	if p.known {
		props = append(props, message.Property{Key: PropertyAt, Value: string(appendTime(nil, p.valueAt))})
	}
	return append(props, message.Property{Key: PropertyReason, Value: p.reason()})
}

// reason is why the point is not good.
func (p *pointState) reason() string {
	if p.err == "" {
		return "no reading yet"
	}
	return valid(p.err)
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// appendObject adds the reading as PayloadObject has it: the last known value, and
// what is to be thought of it.
func (p *pointState) appendObject(b []byte) []byte {
	b = p.value.AppendJSON(append(b, `{"value":`...))
	b = append(append(append(b, `,"quality":"`...), p.quality.String()...), '"')
	if p.known {
		b = append(appendTime(append(b, `,"at":"`...), p.valueAt), '"')
	}
	if p.quality != Good {
		b = appendText(append(b, `,"reason":`...), p.reason())
	}
	return append(b, '}')
}

// reading is the message of one point. s.mu is held.
func (s *slot) reading(e *entry, i int, from origin) message.Message {
	p := &s.state.points[i]
	b := make([]byte, 0, 16)
	if e.object {
		b = p.appendObject(b)
	} else {
		b = p.value.AppendJSON(b)
	}
	m := s.retained(e.topics[i], b, from)
	m.UserProperties = s.props.of(p)
	return m
}

// together is the message of all points. s.mu is held.
func (s *slot) together(e *entry, from origin, now time.Time) message.Message {
	m := s.retained(e.topic, s.object(e), from)
	if !e.object {
		m.UserProperties = s.props.of(&pointState{at: now})
	}
	return m
}

// object is the JSON object of all points, in their order: of their good values or,
// with PayloadObject, of what all are. s.mu is held.
func (s *slot) object(e *entry) []byte {
	b := append(make([]byte, 0, s.objectSize+s.objectSize/8+16), '{')
	for i := range e.points {
		p := &s.state.points[i]
		switch {
		case e.object:
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = p.appendObject(append(appendText(b, e.points[i].Name), ':'))
		case p.known && p.quality == Good:
			b = appendMember(b, e.points[i].Name, p.value)
		}
	}
	s.objectSize = len(b)
	return append(b, '}')
}

// isWorth reports whether a reading that was kept is to be published: a good one that is
// news, and one that is not good where that is told. s.mu is held.
func (p *pointState) isWorth(e *entry, pt *Point, from origin, now time.Time) bool {
	switch {
	case p.quality == Good:
		tells := e.object || e.together
		return from.command || p.isNews(pt, now) || tells && p.told != toldAs(Good)
	case e.object:
		return p.told != toldAs(p.quality)
	case e.together:
		return p.told == toldAs(Good)
	}
	return false
}

// fallen publishes that points are not good any more, other than by a reading, where
// that is told.
func (s *slot) fallen(ctx context.Context, e *entry) {
	n := s.noteFallen(e)
	for len(n.msgs) > 0 {
		most := min(len(n.msgs), maxBatch)
		s.publish(ctx, n.msgs[:most], n.indexes[:most])
		n.msgs, n.indexes = n.msgs[most:], n.indexes[most:]
	}
}

// maxBatch is how many messages are published at once.
const maxBatch = 1000

func (s *slot) noteFallen(e *entry) (n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.object && (!e.together || !s.state.online) {
		return n
	}
	for i := range s.state.points {
		p := &s.state.points[i]
		if p.quality == Good || p.told == toldAs(p.quality) || !e.object && p.told != toldAs(Good) || e.points[i].Feed.Topic != "" {
			continue
		}
		p.told = toldAs(p.quality)
		if !e.together {
			n.msgs, n.indexes = append(n.msgs, s.reading(e, i, origin{})), append(n.indexes, i)
		} else if len(n.msgs) == 0 {
			n.indexes = append(n.indexes, -1)
			n.msgs = append(n.msgs, message.Message{})
		}
	}
	if e.together && len(n.msgs) > 0 {
		n.msgs[0] = s.together(e, origin{}, time.Now())
	}
	return n
}

// maxShown is how many points without a good value the detail of a status names.
const maxShown = 100

// detail is the status with its reason and the points that are not good; ok is false
// if nothing changed since it was last asked for.
func (s *slot) detail(e *entry) (payload []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.dirty {
		return nil, false
	}
	s.state.dirty = false
	status := statusOffline
	if s.state.online {
		status = statusOnline
	}
	b := append([]byte(`{"status":"`), status...)
	b = append(appendTime(append(b, `","since":"`...), s.state.since), '"')
	if s.state.reason != "" {
		b = appendText(append(b, `,"reason":`...), valid(s.state.reason))
	}
	b = appendText(append(b, `,"driver":`...), valid(e.driverName))
	if s.state.online {
		b = s.appendFallen(b, e)
	}
	return append(b, '}'), true
}

// appendFallen adds the points that are not good. s.mu is held.
func (s *slot) appendFallen(b []byte, e *entry) []byte {
	shown, more := 0, 0
	for i := range s.state.points {
		p := &s.state.points[i]
		if p.quality == Good {
			continue
		}
		if shown == maxShown {
			more++
			continue
		}
		if shown++; shown == 1 {
			b = append(b, `,"points":{`...)
		} else {
			b = append(b, ',')
		}
		b = append(appendText(b, e.points[i].Name), `:{"quality":"`...)
		b = append(append(b, p.quality.String()...), '"')
		if p.known {
			b = append(appendTime(append(b, `,"at":"`...), p.valueAt), '"')
		}
		b = append(appendText(append(b, `,"reason":`...), p.reason()), '}')
	}
	if shown > 0 {
		b = append(b, '}')
	}
	if more > 0 {
		b = IntValue(int64(more)).AppendJSON(append(b, `,"more":`...))
	}
	return b
}

// announce publishes online or offline, unless that is what the status topic says, and
// the detail if that changed.
func (s *slot) announce(ctx context.Context, e *entry, status string) {
	if s.announced != status || s.statusOf != e.topic {
		m := s.retained(e.topic+"/status", []byte(status), origin{})
		m.UserProperties = s.statusProperties()
		if !s.say(ctx, m) {
			s.announced = ""
			return
		}
		s.announced, s.statusOf, s.detailed = status, e.topic, nil
	}
	payload, changed := s.detail(e)
	if !changed || bytes.Equal(payload, s.detailed) {
		return
	}
	m := s.retained(e.topic+"/status/detail", payload, origin{})
	m.ContentType = "application/json"
	if s.say(ctx, m) {
		s.detailed = payload
	}
}

func (s *slot) statusProperties() []message.Property {
	s.mu.Lock()
	defer s.mu.Unlock()
	props := []message.Property{{Key: PropertySince, Value: string(appendTime(nil, s.state.since))}}
	if s.state.reason != "" {
		props = append(props, message.Property{Key: PropertyReason, Value: valid(s.state.reason)})
	}
	return props
}

// say publishes a message of the status.
func (s *slot) say(ctx context.Context, m message.Message) bool {
	err := s.bus.Publish(ctx, m)
	if err == nil {
		return true
	}
	s.soil()
	if n, due := s.reports.due("publish"); due {
		s.log.Warn("device status was not published", "topic", m.Topic, "error", err, "count", n)
	}
	return false
}

// soil has the detail of the status be made again.
func (s *slot) soil() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.dirty = true
}
