package exprlang

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// properties are what a published message has of MQTT 5.0, §3.3.2.3; nil and zero are
// what it does not have.
type properties struct {
	contentType     *template
	responseTopic   *template
	correlationData *template
	user            []headerField
	expiry          time.Duration
}

const (
	maxUserProperties = 50
	longestField      = 65535                // bytes, MQTT 5.0 §1.5.4
	longestExpiry     = 366 * 24 * time.Hour // as a wait
)

// propertyKeys are those of a step that publishes.
var propertyKeys = []string{"content_type", "response_topic", "correlation_data", "user_properties", "expiry"}

// properties reads those of a step; nil if it has none.
func (f *ruleFile) properties(keys map[string]pair) *properties {
	var (
		p     properties
		given bool
	)
	for _, name := range propertyKeys {
		key, ok := keys[name]
		if !ok {
			continue
		}
		given = true
		switch name {
		case "content_type":
			p.contentType = f.textOf(key)
		case "response_topic":
			p.responseTopic = f.topic(key.value)
		case "correlation_data":
			p.correlationData = f.textOf(key)
		case "user_properties":
			p.user = f.userProperties(key)
		case "expiry":
			p.expiry = f.duration(key, longestExpiry)
		}
	}
	if !given {
		return nil
	}
	return &p
}

func (f *ruleFile) userProperties(p pair) []headerField {
	pairs, _ := f.mapping(p.value, `"user_properties"`)
	if len(pairs) > maxUserProperties {
		f.errorf(p.at, "a message has at most %d user properties", maxUserProperties)
		return nil
	}
	var all []headerField
	for _, q := range pairs {
		if err := checkField(q.key); err != nil {
			f.errorf(q.at, "the name of a user property %v", err)
		}
		all = append(all, headerField{name: q.key, value: f.textOf(q)})
	}
	return all
}

// each visits the expressions.
func (p *properties) each(visit func(*expression)) {
	if p == nil {
		return
	}
	p.contentType.each(visit)
	p.responseTopic.each(visit)
	p.correlationData.each(visit)
	for i := range p.user {
		p.user[i].value.each(visit)
	}
}

// set sets the properties of a message.
func (p *properties) set(e *evaluator, m *message.Message) (err error) {
	if m.ContentType, err = p.contentType.field(e, "content type"); err != nil {
		return err
	}
	if m.ResponseTopic, err = p.responseTopic.field(e, "response topic"); err != nil {
		return err
	}
	if p.responseTopic != nil {
		if err := rules.CheckTopic(m.ResponseTopic); err != nil {
			return fmt.Errorf("the response %w", err)
		}
	}
	if m.CorrelationData, err = p.correlation(e); err != nil {
		return err
	}
	for i := range p.user {
		value, err := p.user[i].value.field(e, "user property "+p.user[i].name)
		if err != nil {
			return err
		}
		m.UserProperties = append(m.UserProperties, message.Property{Key: p.user[i].name, Value: value})
	}
	if p.expiry > 0 {
		m.Expires = e.now.Add(p.expiry)
	}
	return nil
}

// correlation is the correlation data, which may be any bytes; nil for none.
func (p *properties) correlation(e *evaluator) ([]byte, error) {
	if p.correlationData == nil {
		return nil, nil
	}
	data, err := p.correlationData.topicText(e)
	switch {
	case err != nil:
		return nil, err
	case len(data) > longestField:
		return nil, fmt.Errorf("the correlation data has %d bytes, %d are the most", len(data), longestField)
	case data == "":
		return nil, nil
	}
	return []byte(data), nil
}

// field is the template as a text of a packet; "" for none.
func (t *template) field(e *evaluator, what string) (string, error) {
	if t == nil {
		return "", nil
	}
	text, err := t.topicText(e)
	if err != nil {
		return "", err
	}
	if err := checkField(text); err != nil {
		return "", fmt.Errorf("the %s %w", what, err)
	}
	return text, nil
}

// checkField says why a text cannot be in a packet.
func checkField(text string) error {
	switch {
	case len(text) > longestField:
		return fmt.Errorf("has %d bytes, %d are the most", len(text), longestField)
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%q is no text that a packet may have", abridge(text))
	}
	return nil
}
