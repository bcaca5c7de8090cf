package exprlang

import (
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// userFields is the one of propertyKeys that has names of its own.
const userFields = "user_properties"

// property is what stands below "properties" of the message at hand, in the words of where
// one is published; nil is absent.
func (e *evaluator) property(path []step) any {
	m := e.msg
	switch path[0].key {
	case "content_type":
		return present(m.ContentType)
	case "response_topic":
		return present(m.ResponseTopic)
	case "correlation_data":
		return present(string(m.CorrelationData))
	case userFields:
		return walk(userProperty(m.UserProperties, path[1:]))
	case "expiry":
		if !m.Expires.IsZero() {
			return max(m.Expires.Sub(e.now), 0).Seconds()
		}
	}
	return nil
}

// present is a text, nil if it is empty.
func present(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// userProperty is the last user property of a name, or all of them, and the rest of the
// path.
func userProperty(all []message.Property, path []step) (any, []step) {
	if len(path) > 0 {
		for i := len(all) - 1; i >= 0; i-- {
			if path[0].index < 0 && all[i].Key == path[0].key {
				return all[i].Value, path[1:]
			}
		}
		return nil, path
	}
	if len(all) == 0 {
		return nil, path
	}
	object := make(map[string]any, len(all))
	for _, p := range all {
		object[p.Key] = p.Value
	}
	return object, path
}

// appendProperties writes the properties of a message as the last member of an object, if
// it has any. An expiry has none: it is another one at each time.
func appendProperties(b []byte, m *message.Message) []byte {
	from := len(b)
	member := func(name string) {
		if len(b) == from {
			b = append(b, `,"properties":{`...)
		} else {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, name), ':')
	}
	for _, p := range [...]struct{ name, value string }{
		{"content_type", m.ContentType},
		{"response_topic", m.ResponseTopic},
		{"correlation_data", string(m.CorrelationData)},
	} {
		if p.value != "" {
			member(p.name)
			b = appendQuoted(b, p.value)
		}
	}
	if len(m.UserProperties) > 0 {
		member(userFields)
		for i, p := range m.UserProperties {
			b = append(b, "{,"[min(i, 1)])
			b = append(appendQuoted(b, p.Key), ':')
			b = appendQuoted(b, p.Value)
		}
		b = append(b, '}')
	}
	if len(b) > from {
		b = append(b, '}')
	}
	return b
}

// keptProperties are those of a message in the store.
type keptProperties struct {
	ContentType     string             `json:"c,omitempty"`
	ResponseTopic   string             `json:"r,omitempty"`
	CorrelationData []byte             `json:"d,omitempty"`
	User            []message.Property `json:"u,omitempty"`
	Expires         time.Time          `json:"x,omitzero"`
}

// keepProperties is nil for a message without properties.
func keepProperties(m *message.Message) *keptProperties {
	if m.ContentType == "" && m.ResponseTopic == "" && len(m.CorrelationData) == 0 && len(m.UserProperties) == 0 && m.Expires.IsZero() {
		return nil
	}
	return &keptProperties{m.ContentType, m.ResponseTopic, m.CorrelationData, m.UserProperties, m.Expires}
}

// size is how many bytes they have.
func (k *keptProperties) size() int {
	if k == nil {
		return 0
	}
	n := len(k.ContentType) + len(k.ResponseTopic) + len(k.CorrelationData)
	for _, p := range k.User {
		n += len(p.Key) + len(p.Value)
	}
	return n
}

// set sets them.
func (k *keptProperties) set(m *message.Message) {
	if k != nil {
		m.ContentType, m.ResponseTopic, m.CorrelationData, m.UserProperties, m.Expires = k.ContentType, k.ResponseTopic, k.CorrelationData, k.User, k.Expires
	}
}
