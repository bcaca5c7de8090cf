package serial

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/drivers"
)

// fields finds a field of a line; false if the line has none of that name.
type fields func(name string) (field, bool)

// field is what a line says under one name: a text, or a value of JSON.
type field struct {
	text     string
	value    drivers.Value // of JSON; null with isText
	typed    bool          // value counts, not text
	sentence bool          // of NMEA 0183: it may be empty
	next     string        // the field behind it, in a sentence of NMEA 0183
}

// format makes fields of a line.
type format func(line []byte) (fields, error)

// readable refuses what is not text: invalid UTF-8 and control characters but tab.
func readable(line []byte) error {
	if !utf8.Valid(line) {
		return errors.New("the line is not text")
	}
	for _, c := range line {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return errors.New("the line has control characters")
		}
	}
	return nil
}

// jsonFormat reads one object.
func jsonFormat(line []byte) (fields, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil || object == nil {
		return nil, errors.New("the line is not a JSON object")
	}
	return func(name string) (field, bool) { return jsonField(object, name) }, nil
}

// jsonField finds a field by its name, or by the path that the name is.
func jsonField(object map[string]json.RawMessage, name string) (field, bool) {
	if raw, ok := object[name]; ok {
		v, err := drivers.ParseValue(raw)
		return field{text: v.String(), value: v, typed: true}, err == nil
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return field{}, false
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(object[first], &inner) != nil {
		return field{}, false
	}
	return jsonField(inner, rest)
}

// keyValueFormat reads pairs of key and value. Empty separators are spaces, "," and
// ";".
func keyValueFormat(separator string) format {
	split := func(s string) []string { return strings.Split(s, separator) }
	if separator == "" {
		split = func(s string) []string {
			return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == ';' })
		}
	}
	return func(line []byte) (fields, error) {
		found := make(map[string]field)
		for _, pair := range split(string(line)) {
			pair = strings.TrimSpace(pair)
			i := strings.IndexAny(pair, "=:")
			switch {
			case pair == "":
				continue
			case i <= 0:
				return nil, fmt.Errorf("%q is not a pair of key and value", clip(pair))
			}
			found[strings.TrimSpace(pair[:i])] = field{text: strings.TrimSpace(pair[i+1:])}
		}
		return fromMap(found), nil
	}
}

// csvFormat reads fields in the order of the columns; one without a name is passed
// over.
func csvFormat(separator rune, columns []string) format {
	return func(line []byte) (fields, error) {
		r := csv.NewReader(bytes.NewReader(line))
		r.Comma, r.FieldsPerRecord, r.TrimLeadingSpace = separator, -1, true
		record, err := r.Read()
		if err != nil {
			return nil, errors.New("the line is not CSV")
		}
		if len(record) != len(columns) {
			return nil, fmt.Errorf("the line has %d fields, not %d", len(record), len(columns))
		}
		found := make(map[string]field)
		for i, name := range columns {
			found[name] = field{text: strings.TrimSpace(record[i])}
		}
		return fromMap(found), nil
	}
}

// regexFormat reads the named groups of a pattern.
func regexFormat(pattern *regexp.Regexp) format {
	groups := pattern.SubexpNames()
	return func(line []byte) (fields, error) {
		match := pattern.FindSubmatchIndex(line)
		if match == nil {
			return nil, errors.New("the line does not match the pattern")
		}
		found := make(map[string]field)
		for i, name := range groups {
			if name != "" && match[2*i] >= 0 {
				found[name] = field{text: string(line[match[2*i]:match[2*i+1]])}
			}
		}
		return fromMap(found), nil
	}
}

func fromMap(found map[string]field) fields {
	return func(name string) (field, bool) {
		f, ok := found[name]
		return f, ok
	}
}

// clip shortens what came for an error message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// words give texts a meaning, in the order of the file.
type words []word

type word struct {
	text  string
	value drivers.Value
}

func (w words) meaning(text string) (drivers.Value, bool) {
	i := slices.IndexFunc(w, func(w word) bool { return w.text == text })
	if i < 0 {
		return drivers.Value{}, false
	}
	return w[i].value, true
}

// text is the first word for a value, else the value itself.
func (w words) text(v drivers.Value) string {
	i := slices.IndexFunc(w, func(w word) bool { return w.value.Equal(v) })
	if i < 0 {
		return v.String()
	}
	return w[i].text
}

// value finds the meaning that a written value is: the same, the same number, or,
// for true and false, 1 and 0.
func (w words) value(v drivers.Value) (drivers.Value, bool) {
	same := []func(m drivers.Value) bool{
		v.Equal,
		func(m drivers.Value) bool {
			return m.Kind() != drivers.Bool && v.Kind() != drivers.Bool && sameNumber(m, v)
		},
		func(m drivers.Value) bool { return m.Kind() == drivers.Bool && sameNumber(m, v) },
	}
	for _, is := range same {
		if i := slices.IndexFunc(w, func(w word) bool { return is(w.value) }); i >= 0 {
			return w[i].value, true
		}
	}
	return drivers.Value{}, false
}

// sameNumber compares numbers of any kind; true is 1.
func sameNumber(a, b drivers.Value) bool {
	x, okX := a.Float()
	y, okY := b.Float()
	return okX && okY && x == y
}

// texts and meanings list the words for an error message.
func (w words) texts() string {
	return w.list(func(w word) string { return w.text })
}

func (w words) meanings() string {
	return w.list(func(w word) string { return w.value.String() })
}

func (w words) list(what func(word) string) string {
	const most = 20
	var all []string
	for _, one := range w[:min(len(w), most)] {
		if s := what(one); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return clip(strings.Join(all, ", "))
}

// closed reports whether a point of a type has no other values than its words.
func (w words) closed(kind string) bool {
	return len(w) > 0 && kind != typeText && kind != typeNumber
}

// convert makes a field the value of a point of a type.
func convert(f field, kind string, w words) (drivers.Value, error) {
	if f.sentence && f.text == "" && kind != typeText {
		return drivers.Value{}, errors.New("the field is empty")
	}
	if v, ok := w.meaning(f.text); ok {
		return v, nil
	}
	if f.typed && f.value.IsNull() {
		return drivers.Value{}, errors.New("the field is null")
	}
	if w.closed(kind) {
		return drivers.Value{}, fmt.Errorf("%q is none of the words %s", clip(f.text), w.texts())
	}
	switch kind {
	case typeText:
		return drivers.TextValue(f.text), nil
	case typeNumber:
		return toNumber(f)
	case typeBool:
		return toBool(f)
	case typeDegrees:
		return toDegrees(f)
	default:
		return guess(f), nil
	}
}

func toNumber(f field) (drivers.Value, error) {
	v, err := drivers.ParseNumber(strings.TrimSpace(f.text))
	if err != nil || (f.typed && f.value.Kind() == drivers.Bool) {
		return drivers.Value{}, fmt.Errorf("%q is not a number", clip(f.text))
	}
	return v, nil
}

func toBool(f field) (drivers.Value, error) {
	switch strings.ToLower(f.text) {
	case "true", "on", "1":
		return drivers.BoolValue(true), nil
	case "false", "off", "0":
		return drivers.BoolValue(false), nil
	}
	return drivers.Value{}, fmt.Errorf("%q is not true or false", clip(f.text))
}

// guess is the type auto.
func guess(f field) drivers.Value {
	if f.typed {
		return f.value
	}
	if v, err := toNumber(f); err == nil {
		return v
	}
	if v, err := toBool(f); err == nil {
		return v
	}
	return drivers.TextValue(f.text)
}
