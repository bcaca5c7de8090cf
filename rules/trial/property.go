package trial

import (
	"fmt"

	"github.com/gatehouse/gatehouse/broker/message"
)

// property is one of MQTT 5.0 that a step names.
type property struct{ key, user, value string }

// properties takes those of a step.
func (s *stepReader) properties() (all []property) {
	for _, key := range []string{"content_type", "response_topic", "correlation_data"} {
		if n, found := s.take(key); found {
			all = append(all, property{key: key, value: s.text(n, key)})
		}
	}
	if n, found := s.take("user_properties"); found {
		fields, _ := s.reader.fields(n, "user_properties")
		for _, f := range fields {
			all = append(all, property{"user property", f.key, s.text(f.value, "a user property")})
		}
	}
	return all
}

// set gives a message the property.
func (p *property) set(m *message.Message) {
	switch p.key {
	case "content_type":
		m.ContentType = p.value
	case "response_topic":
		m.ResponseTopic = p.value
	case "correlation_data":
		m.CorrelationData = []byte(p.value)
	default:
		m.UserProperties = append(m.UserProperties, message.Property{Key: p.user, Value: p.value})
	}
}

// of is what a message has, "" for nothing.
func (p *property) of(m *message.Message) (value string) {
	switch p.key {
	case "content_type":
		return m.ContentType
	case "response_topic":
		return m.ResponseTopic
	case "correlation_data":
		return string(m.CorrelationData)
	}
	for _, u := range m.UserProperties {
		if u.Key == p.user {
			value = u.Value
		}
	}
	return value
}

// differs says that a message has another one.
func (p *property) differs(m *message.Message) string {
	got, name := p.of(m), p.key
	if p.user != "" {
		name += " " + p.user
	}
	if got == p.value {
		return ""
	}
	return fmt.Sprintf("the message on %s has the %s %q, not %q", m.Topic, name, got, p.value)
}
