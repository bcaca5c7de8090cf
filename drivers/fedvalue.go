package drivers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// fedReading is what a message says of a point that shows its topic.
func fedReading(pt *Point, m *message.Message) Reading {
	r := Reading{Point: pt.Name, At: m.At}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	for _, p := range m.UserProperties {
		switch p.Key {
		case PropertyQuality:
			_ = r.Quality.UnmarshalText([]byte(p.Value)) // another's word for something else
		case PropertyAt:
			r.setTime(p.Value)
		case PropertyReason:
			r.Err = errors.New(p.Value)
		}
	}
	err := r.parse(m.Payload, pt.Feed.Field)
	switch {
	case err != nil:
		r.Quality, r.Err = Bad, err
	case r.Quality == Bad && r.Err == nil:
		r.Err = errors.New("it was published as bad")
	case r.Quality != Bad:
		r.Err = nil
	}
	if r.Quality == Bad {
		r.Value = Value{}
	}
	return r
}

func (r *Reading) setTime(s string) {
	if at, err := time.Parse(time.RFC3339, s); err == nil && at.Before(r.At.Add(time.Minute)) {
		r.At = at
	}
}

// parse reads the value of a payload.
func (r *Reading) parse(payload []byte, field string) (err error) {
	switch {
	case len(payload) == 0:
		return errors.New("the topic was cleared")
	case len(payload) > MaxCommandBytes:
		return fmt.Errorf("the payload is over %d bytes", MaxCommandBytes)
	}
	if r.Value, err = ParseValue(payload); errors.Is(err, ErrNotJSON) {
		r.Value, err = TextValue(string(payload)), nil
	}
	if err != nil {
		return err
	}
	if field == "" {
		r.unwrap()
	} else {
		err = r.dig(field)
	}
	if err == nil && r.Value.IsNull() && r.Quality != Bad {
		return errors.New("the value is null")
	}
	return err
}

// unwrap takes a reading apart that was published as an object.
func (r *Reading) unwrap() {
	var object struct {
		Value   json.RawMessage `json:"value"`
		Quality *Quality        `json:"quality"`
		At      string          `json:"at"`
		Reason  string          `json:"reason"`
	}
	if r.Value.Kind() != JSON || json.Unmarshal([]byte(r.Value.text), &object) != nil || object.Value == nil || object.Quality == nil {
		return
	}
	v, err := ParseValue(object.Value)
	if err != nil {
		return
	}
	r.Value, r.Quality = v, *object.Quality
	if object.Reason != "" {
		r.Err = errors.New(object.Reason)
	}
	r.setTime(object.At)
}

// dig goes to a member of an object, through objects in it.
func (r *Reading) dig(field string) error {
	for _, name := range strings.Split(field, ".") {
		var object map[string]json.RawMessage
		if r.Value.Kind() != JSON || json.Unmarshal([]byte(r.Value.text), &object) != nil || object[name] == nil {
			return fmt.Errorf("there is no field %q", field)
		}
		v, err := ParseValue(object[name])
		if err != nil {
			return err
		}
		r.Value = v
	}
	return nil
}
