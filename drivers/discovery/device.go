package discovery

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// kind is what the values of a point have been so far.
type kind uint8

const (
	unknown  kind = iota // none has been seen
	boolean              // true or false
	integer              // of 64 bits with a sign
	unsigned             // of 64 bits, above the range with a sign
	number               // with a fraction
	text                 // or of several kinds
	object               // a JSON object or array
)

// kindOf is the kind of a value; a null has none.
func kindOf(v drivers.Value) kind {
	switch v.Kind() {
	case drivers.Bool:
		return boolean
	case drivers.Int:
		return integer
	case drivers.Uint:
		if _, fits := v.Int(); fits {
			return integer
		}
		return unsigned
	case drivers.Float, drivers.Decimal:
		return number
	case drivers.Text:
		return text
	case drivers.JSON:
		return object
	case drivers.Null:
	}
	return unknown
}

// widen is the kind that holds the values of both.
func (k kind) widen(other kind) kind {
	switch {
	case other == unknown || k == other:
		return k
	case k == unknown:
		return other
	case k.numeric() && other.numeric():
		if k != number && other != number {
			return unsigned // one of them is; a negative one is not seen beside it
		}
		return number
	}
	return text
}

func (k kind) numeric() bool { return k == integer || k == unsigned || k == number }

// device is a device as it is published by conventions. The loop of [Publisher.Run]
// alone touches it.
type device struct {
	drivers.Description
	conventions []string
	online      bool
	points      []*point // in the order of the file
	byName      map[string]*point
}

// point is a point and what was last heard of it.
type point struct {
	drivers.Point
	topic   string
	kind    kind
	value   drivers.Value // the last one that was good
	quality drivers.Quality
	at      time.Time
}

// settable reports whether commands may come by a convention.
func (p *point) settable() bool { return p.Writable && !p.Confirm }

func newDevice(d drivers.Description, conventions []string, before *device) *device {
	n := &device{Description: d, conventions: conventions, byName: make(map[string]*point, len(d.Points))}
	for i := range d.Points {
		p := &point{Point: d.Points[i], topic: d.Topic + "/" + d.Points[i].Name}
		if before != nil && before.Driver == d.Driver && before.byName[p.Name] != nil {
			old := before.byName[p.Name]
			p.kind, p.value, p.quality, p.at = old.kind, old.value, old.quality, old.at
		}
		n.points, n.byName[p.Name] = append(n.points, p), p
	}
	if before != nil {
		n.online = before.online
	}
	return n
}

// known are the points whose kind is known.
func (d *device) known() []*point {
	var all []*point
	for _, p := range d.points {
		if p.kind != unknown {
			all = append(all, p)
		}
	}
	return all
}

func (d *device) has(convention string) bool { return slices.Contains(d.conventions, convention) }

// names are the points' names.
func (d *device) names() []string {
	all := make([]string, len(d.points))
	for i, p := range d.points {
		all[i] = p.Name
	}
	return all
}

// command is the message that writes a point: what somebody else said by a convention,
// on the control topic. Who said it stays its origin.
func (d *device) command(p *point, v drivers.Value, from *message.Message) message.Message {
	payload := v.AppendJSON(nil)
	topic := p.topic + "/set"
	if d.Together {
		name, err := json.Marshal(p.Name)
		if err != nil {
			name = []byte(`""`) // never: it is text
		}
		payload = slices.Concat([]byte{'{'}, name, []byte{':'}, payload, []byte{'}'})
		topic = d.Topic + "/set"
	}
	return message.Message{
		Topic: topic, Payload: payload, QoS: message.AtLeastOnce, UTF8: true, ContentType: "application/json",
		Origin: from.Origin, Hops: from.Hops, Expires: from.Expires,
	}
}

// news are points of a device that were heard of.
type news struct {
	changed []*point // those with a new value, quality or time
	widened bool     // a kind has become known, or another one
}

// hear takes a message on a value topic of the device. What is not understood is
// somebody else's and is passed over.
func (d *device) hear(m *message.Message, n *news) {
	if !d.Together {
		if p := d.byName[strings.TrimPrefix(m.Topic, d.Topic+"/")]; p != nil {
			d.take(p, m.Payload, m, n)
		}
		return
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(m.Payload, &members) != nil {
		return
	}
	for _, p := range d.points {
		if raw, told := members[p.Name]; told {
			d.take(p, raw, m, n)
		}
	}
}

// hearDetail takes the status in detail, which names the points that are not good.
func (d *device) hearDetail(m *message.Message, n *news) {
	var detail struct {
		Status string `json:"status"`
		Points map[string]struct {
			Quality drivers.Quality `json:"quality"`
		} `json:"points"`
	}
	if json.Unmarshal(m.Payload, &detail) != nil || detail.Status != "online" {
		return // of a device that is offline nothing is good
	}
	for _, p := range d.points {
		if quality := detail.Points[p.Name].Quality; p.kind != unknown && p.quality != quality {
			p.quality, p.at = quality, m.At
			n.changed = append(n.changed, p)
		}
	}
}

// objectPayload is a reading of a device whose payloads are objects.
type objectPayload struct {
	Value   json.RawMessage `json:"value"` // nil if there is none, "null" if it is not known
	Quality drivers.Quality `json:"quality"`
	At      time.Time       `json:"at"`
}

// take takes what was said of one point: its value, and beside it how good it is and of
// when, in the payload or in user properties.
func (d *device) take(p *point, payload []byte, m *message.Message, n *news) {
	v, err := drivers.ParseValue(payload)
	if err != nil {
		return
	}
	quality, at := drivers.Good, m.At
	var o objectPayload
	if d.Object && json.Unmarshal(payload, &o) == nil && o.Value != nil {
		if v, err = drivers.ParseValue(o.Value); err != nil {
			return
		}
		quality = o.Quality
		if !o.At.IsZero() {
			at = o.At
		}
	}
	for _, u := range m.UserProperties {
		switch u.Key {
		case "quality":
			if quality.UnmarshalText([]byte(u.Value)) != nil {
				return
			}
		case "at":
			if told, err := time.Parse(time.RFC3339Nano, u.Value); err == nil {
				at = told
			}
		}
	}
	if p.at.Equal(at) && p.value.Equal(v) && p.quality == quality && p.kind != unknown {
		return // the retained message again
	}
	wide := p.kind.widen(kindOf(v))
	n.widened = n.widened || wide != p.kind
	n.changed = append(n.changed, p)
	p.kind, p.quality, p.at = wide, quality, at
	if quality == drivers.Good || !v.IsNull() {
		p.value = v
	}
}
