package serial

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse/gatehouse/drivers"
)

// pointFile is what a device file may say of a point.
type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Field               string         `yaml:"field"`
	Type                string         `yaml:"type"`
	Words               map[string]any `yaml:"words"`
	Begins              string         `yaml:"begins"`
	Write               string         `yaml:"write"`
	Expect              string         `yaml:"expect"`
	Assume              bool           `yaml:"assume"`
	Request             string         `yaml:"request"`
	Answer              string         `yaml:"answer"`
	At                  *int           `yaml:"at"`
	Length              int            `yaml:"length"`
	Order               string         `yaml:"order"`
	Bit                 *int           `yaml:"bit"`
	Bits                string         `yaml:"bits"`
	Scale               drivers.Number `yaml:"scale"`
	Offset              drivers.Number `yaml:"offset"`
}

type point struct {
	drivers.Point
	field   string
	kind    string
	layout  *layout // in a binary frame
	words   words
	begins  []byte // frames that do not begin so have nothing of the point
	request []byte // asks for it; nil: it comes by itself
	answer  *wanted
	write   template
	expect  *wanted // acknowledges a write; nil is nothing
	assume  bool
}

// asked reports whether the point is polled.
func (p *point) asked() bool { return p.request != nil }

func (s *spec) addPoint(cfg drivers.Config, name string, f *deviceFile) error {
	p, err := s.understandPoint(cfg, name, f)
	if err != nil {
		return err
	}
	said := !p.assume || f.Points[name].Field != "" // else it is only written
	if err := s.names(p.field); err != nil && said {
		path := drivers.PointPath(name)
		if f.Points[name].Field != "" {
			path = drivers.PointPath(name, "field")
		}
		return cfg.Errorf(path, "point %q: %v", name, err)
	}
	s.index[name] = len(s.points)
	s.points = append(s.points, p)
	return nil
}

func (s *spec) understandPoint(cfg drivers.Config, name string, f *deviceFile) (point, error) {
	pf := f.Points[name]
	p := point{Point: pf.Pushed(name), field: pf.Field, kind: pf.Type, assume: pf.Assume}
	fail := func(key, format string, args ...any) (point, error) {
		path := drivers.PointPath(name)
		if key != "" {
			path = drivers.PointPath(name, key)
		}
		return p, cfg.Errorf(path, "point %q: "+format, append([]any{name}, args...)...)
	}
	if p.field == "" {
		p.field = name
	}
	if p.kind == "" {
		p.kind = typeAuto
	}
	var wrong *keyError
	for _, step := range []func(*point, pointFile) error{
		func(p *point, pf pointFile) error { return s.setType(cfg, p, pf, f) },
		func(p *point, pf pointFile) error { return s.setRequest(p, pf, f) },
		func(p *point, pf pointFile) error { return s.setWrite(cfg, p, pf, f) },
	} {
		err := step(&p, pf)
		if errors.As(err, &wrong) {
			return fail(wrong.key, "%v", err)
		}
		if err != nil {
			return p, err
		}
	}
	for _, text := range cfg.Keys(drivers.PointPath(name, "words")) {
		v, err := wordValue(pf.Words[text])
		if err != nil {
			return fail("words", "the word %q %v", text, err)
		}
		p.words = append(p.words, word{text, v})
	}
	return p, nil
}

func (s *spec) setType(cfg drivers.Config, p *point, pf pointFile, f *deviceFile) (err error) {
	types := []string{typeAuto, typeNumber, typeBool, typeText}
	said := "auto, number, bool or text"
	if f.Format == formatNMEA {
		types, said = append(types, typeDegrees), "auto, number, bool, text or degrees"
	}
	if f.Format == formatBinary {
		lf := layoutFile{pf.At, pf.Length, pf.Order, pf.Bit, pf.Bits, pf.Scale, pf.Offset}
		p.layout, err = understandLayout(lf, pf.Type, f.Order)
		p.kind = typeAuto
	} else if key, has := hasLayout(cfg.Keys(drivers.PointPath(p.Name))); has {
		return wrongKey(key, "%s is for format binary", key)
	} else if !slices.Contains(types, p.kind) {
		return wrongKey("type", "type must be %s, not %q", said, p.kind)
	}
	if err != nil {
		return err
	}
	if p.begins, err = parseBytes(pf.Begins); err != nil {
		return wrongKey("begins", "begins: %v", err)
	}
	return nil
}

// setRequest says how a point is asked for: by its own request, or the device's.
func (s *spec) setRequest(p *point, pf pointFile, f *deviceFile) error {
	source, answer := pf.Request, pf.Answer
	if source == "" {
		source = f.Request
	}
	if answer == "" {
		answer = f.Answer
	}
	if source == "" {
		switch {
		case pf.Every != 0:
			return wrongKey("every", "a serial device is not polled: it speaks by itself (without the key request)")
		case pf.Answer != "":
			return wrongKey("answer", "answer is for points with a request")
		}
		return nil
	}
	t, err := parseTemplate(source, s.talk.places("point")...)
	if err != nil {
		return wrongKey("request", "%v", err)
	}
	text, err := t.fill(s.talk.place(p.Name, t.hex, nil))
	if err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	if err == nil && !s.raw {
		_, err = s.reader.encode(nil, text)
	}
	if err != nil {
		return wrongKey("request", "the request cannot be sent: %v", err)
	}
	if p.answer, err = parseWanted(answer); err != nil {
		return wrongKey("answer", "%v", err)
	}
	p.request = text
	p.Point = pf.Polled(p.Name, f.Common)
	return nil
}

func (s *spec) setWrite(cfg drivers.Config, p *point, pf pointFile, f *deviceFile) error {
	switch {
	case pf.Write != "" && !pf.Writable:
		return wrongKey("write", `write needs "writable: true"`)
	case pf.Expect != "" && !pf.Writable:
		return wrongKey("expect", `expect needs "writable: true"`)
	case pf.Assume && !pf.Writable:
		return wrongKey("assume", `assume needs "writable: true"`)
	case pf.Writable && pf.Write == "" && f.Write == "" && s.codecFile == "":
		return wrongKey("writable", `a writable point needs the key "write", here or for the device`)
	}
	source, path := pf.Write, drivers.PointPath(p.Name, "write")
	if source == "" {
		source, path = f.Write, "$.write"
	}
	t, err := parseTemplate(source, s.talk.places("value", "point")...)
	if err != nil {
		return cfg.Errorf(path, "%v", err)
	}
	p.write = t
	expect := pf.Expect
	if expect == "" {
		expect = f.Expect
	}
	if p.expect, err = parseWanted(expect); err != nil {
		return wrongKey("expect", "%v", err)
	}
	return nil
}

// bytes are what a value is in a template.
func (p *point) bytes(v drivers.Value, isHex bool) ([]byte, error) {
	if !isHex || p.layout == nil {
		return []byte(p.words.text(v)), nil
	}
	if len(p.words) > 0 {
		if n, err := drivers.ParseNumber(p.words.text(v)); err == nil {
			v = n
		}
	}
	return p.layout.encode(v)
}

// mine reports whether a frame may have something of the point.
func (p *point) mine(frame []byte) bool { return bytes.HasPrefix(frame, p.begins) }

func wordValue(x any) (drivers.Value, error) {
	switch x := x.(type) {
	case bool:
		return drivers.BoolValue(x), nil
	case uint64, int64, float64:
		return drivers.ParseNumber(fmt.Sprint(x))
	case string:
		return drivers.TextValue(x), nil
	}
	return drivers.Value{}, errors.New("must mean true, false, a number or a text")
}
