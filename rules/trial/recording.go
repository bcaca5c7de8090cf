package trial

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Entry is one line of a recording, which is JSON: first the head, then what was retained
// when it began, then what was published, as it came in: before filters judged it.
type Entry struct {
	At time.Time `json:"at"`
	// Recording is the form of the recording, in its first line only.
	Recording int `json:"recording,omitempty"`
	// Filters are what is recorded, in the first line.
	Filters []string `json:"filters,omitempty"`
	// Was says that the message was retained when the recording began.
	Was bool `json:"was,omitempty"`
	// Lost is how many messages are missing here because nobody took them in time.
	Lost uint64 `json:"lost,omitempty"`
	// End says that the recording ended here.
	End bool `json:"end,omitempty"`

	Topic           string      `json:"topic,omitempty"`
	Payload         string      `json:"payload,omitempty"`
	Bytes           []byte      `json:"bytes,omitempty"` // the payload, if it is not UTF-8
	QoS             message.QoS `json:"qos,omitempty"`
	Retain          bool        `json:"retain,omitempty"`
	ContentType     string      `json:"content_type,omitempty"`
	ResponseTopic   string      `json:"response_topic,omitempty"`
	CorrelationData []byte      `json:"correlation_data,omitempty"`
	UserProperties  [][2]string `json:"user_properties,omitempty"`
	Origin          string      `json:"origin,omitempty"`
	Hops            uint8       `json:"hops,omitempty"`
}

// Form is the form of recordings that this package writes and reads.
const Form = 1

// EntryOf is the entry of a message.
func EntryOf(m *message.Message) Entry {
	e := Entry{
		At: m.At.Round(0), Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, ContentType: m.ContentType,
		ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData, Origin: m.Origin, Hops: m.Hops,
	}
	if utf8.Valid(m.Payload) {
		e.Payload = string(m.Payload)
	} else {
		e.Bytes = m.Payload
	}
	for _, p := range m.UserProperties {
		e.UserProperties = append(e.UserProperties, [2]string{p.Key, p.Value})
	}
	return e
}

// Append appends the entry as a line.
func (e *Entry) Append(line []byte) []byte {
	b := bytes.NewBuffer(line)
	out := json.NewEncoder(b)
	out.SetEscapeHTML(false)
	if err := out.Encode(e); err != nil { // a year beyond 9999: a message has none
		panic("trial: an entry that is no JSON: " + err.Error())
	}
	return b.Bytes()
}

// Message is the message of an entry, with its time.
func (e *Entry) Message() message.Message {
	m := message.Message{
		Topic: e.Topic, Payload: []byte(e.Payload), QoS: e.QoS, Retain: e.Retain, ContentType: e.ContentType,
		ResponseTopic: e.ResponseTopic, CorrelationData: e.CorrelationData, Origin: e.Origin, At: e.At,
	}
	if e.Bytes != nil {
		m.Payload = e.Bytes
	}
	for _, p := range e.UserProperties {
		m.UserProperties = append(m.UserProperties, message.Property{Key: p[0], Value: p[1]})
	}
	return m
}

// maxLine bounds a line of a recording, in bytes: what a message may have at most, encoded.
const maxLine = 512 << 20

// Entries reads a recording, entry by entry, and ends with an error if a line is not right,
// which it names. A last line that is not whole is left out: the machine went off.
func Entries(r io.Reader) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		in := newLineReader(r)
		for n := 1; ; n++ {
			line, whole, err := in.next()
			switch {
			case err != nil:
				yield(nil, fmt.Errorf("line %d: %w", n, err))
				return
			case len(line) == 0 && !whole:
				if n == 1 {
					yield(nil, errors.New("the recording is empty"))
				}
				return
			}
			e := &Entry{}
			if err := json.Unmarshal(line, e); err != nil {
				if whole || n == 1 { // else it was being written when the machine went off
					yield(nil, fmt.Errorf("line %d is not one of a recording: %w", n, err))
				}
				return
			}
			if err := e.check(n); err != nil {
				yield(nil, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// check looks whether an entry can be that of a line, from 1.
func (e *Entry) check(n int) error {
	switch {
	case n == 1 && e.Recording != Form:
		return fmt.Errorf("line 1 is not the head of a recording that can be read: its form is %d, not %d", e.Recording, Form)
	case n > 1 && e.Topic == "" && e.Lost == 0 && !e.End:
		return fmt.Errorf("line %d has no topic", n)
	case e.QoS > message.ExactlyOnce:
		return fmt.Errorf("line %d: there is no QoS %d", n, e.QoS)
	case !inRange(e.At):
		return fmt.Errorf("line %d: the time %v cannot be", n, e.At)
	}
	return nil
}

// lineReader reads lines of at most maxLine bytes.
type lineReader struct {
	r   io.Reader
	buf []byte
	eof bool
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: r} }

// next returns a line, and whether it ended with a line feed.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	const chunk = 64 << 10
	for from := 0; ; {
		if i := bytes.IndexByte(l.buf[from:], '\n'); i >= 0 {
			line, l.buf = l.buf[:from+i], l.buf[from+i+1:]
			return line, true, nil
		}
		from = len(l.buf)
		if l.eof {
			line, l.buf = l.buf, nil
			return line, false, nil
		}
		if from > maxLine {
			return nil, false, fmt.Errorf("it is longer than %d bytes", maxLine)
		}
		more := make([]byte, chunk)
		n, err := l.r.Read(more)
		l.buf = append(l.buf, more[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			l.eof = true
		case err != nil:
			return nil, false, err
		}
	}
}
