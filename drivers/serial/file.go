package serial

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/drivers"
)

// The types of a point.
const (
	typeAuto   = "auto"
	typeNumber = "number"
	typeBool   = "bool"
	typeText   = "text"
)

// deviceFile is what a device file may say.
type deviceFile struct {
	drivers.Common `yaml:",inline"`
	Port           string               `yaml:"port"`
	Baud           int                  `yaml:"baud"`
	Parity         string               `yaml:"parity"`
	DataBits       int                  `yaml:"data_bits"`
	StopBits       int                  `yaml:"stop_bits"`
	Flow           string               `yaml:"flow"`
	DTR            Level                `yaml:"dtr"`
	RTS            Level                `yaml:"rts"`
	RS485          rs485File            `yaml:"rs485"`
	Delimiter      string               `yaml:"delimiter"`
	MaxLine        int                  `yaml:"max_line"`
	MaxFrame       int                  `yaml:"max_frame"`
	Frame          frameFile            `yaml:"frame"`
	Checksum       checksumFile         `yaml:"checksum"`
	Format         string               `yaml:"format"`
	Separator      string               `yaml:"separator"`
	Columns        []string             `yaml:"columns"`
	Pattern        string               `yaml:"pattern"`
	Write          string               `yaml:"write"`
	Points         map[string]pointFile `yaml:"points"`
}

type rs485File struct {
	By          string        `yaml:"by"`
	RTSOnSend   Level         `yaml:"rts_on_send"`
	DelayBefore time.Duration `yaml:"delay_before"`
	DelayAfter  time.Duration `yaml:"delay_after"`
	Receive     bool          `yaml:"receive"`
}

func (f *deviceFile) portConfig() PortConfig {
	return PortConfig{
		Port: f.Port, Baud: f.Baud, Parity: f.Parity, DataBits: f.DataBits, StopBits: f.StopBits,
		Flow: f.Flow, DTR: f.DTR, RTS: f.RTS, RS485: RS485(f.RS485),
	}
}

type pointFile struct {
	drivers.PointCommon `yaml:",inline"`
	Field               string         `yaml:"field"`
	Type                string         `yaml:"type"`
	Words               map[string]any `yaml:"words"`
	Write               string         `yaml:"write"`
	Assume              bool           `yaml:"assume"`
}

// spec is a device file that was understood.
type spec struct {
	port   PortConfig
	reader reader // copied for each that reads
	raw    bool   // what is sent is not framed
	parse  format
	names  func(field string) error // why no line has such a field
	points []point
	index  map[string]int
}

type point struct {
	drivers.Point
	field  string
	kind   string
	words  words
	write  template
	assume bool
}

func understand(cfg drivers.Config) (*spec, error) {
	var f deviceFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &spec{
		port:  f.portConfig(),
		index: make(map[string]int),
	}
	var wrong *keyError
	switch _, err := s.port.mode(); {
	case errors.As(err, &wrong):
		return nil, cfg.Errorf("$."+wrong.key, "%v", err)
	case f.Port == "":
		return nil, cfg.Errorf("$.port", `the key "port" is missing`)
	case f.Every != 0:
		return nil, cfg.Errorf("$.every", "a serial device is not polled: it speaks by itself")
	}
	var err error
	if s.reader, err = understandFraming(cfg, &f); err != nil {
		return nil, err
	}
	s.raw = f.Frame.Raw
	if err := s.setFormat(cfg, f); err != nil {
		return nil, err
	}
	for _, name := range cfg.Keys("$.points") {
		p, err := understandPoint(cfg, name, f)
		if err != nil {
			return nil, err
		}
		if err := s.names(p.field); err != nil {
			path := drivers.PointPath(name)
			if f.Points[name].Field != "" {
				path = drivers.PointPath(name, "field")
			}
			return nil, cfg.Errorf(path, "point %q: %v", name, err)
		}
		s.index[name] = len(s.points)
		s.points = append(s.points, p)
	}
	if len(s.points) == 0 {
		return nil, cfg.Errorf("$", `the key "points" is missing or empty`)
	}
	return s, nil
}

func (s *spec) setFormat(cfg drivers.Config, f deviceFile) error {
	s.names = func(string) error { return nil }
	switch f.Format {
	case "json":
		s.parse = jsonFormat
	case "keyvalue":
		s.parse = keyValueFormat(f.Separator)
	case "csv":
		comma, size := utf8.DecodeRuneInString(f.Separator + ",")
		if f.Separator != "" && size != len(f.Separator) || comma == '"' || comma == '\r' || comma == '\n' || comma == utf8.RuneError {
			return cfg.Errorf("$.separator", "separator must be one character, and not a quote")
		}
		if len(f.Columns) == 0 {
			return cfg.Errorf("$.format", `format csv needs the key "columns"`)
		}
		s.parse, s.names = csvFormat(comma, f.Columns), among(f.Columns, "there is no column %q")
	case "regex":
		re, err := regexp.Compile(f.Pattern)
		if err != nil || !slices.ContainsFunc(re.SubexpNames(), func(n string) bool { return n != "" }) {
			return cfg.Errorf("$.pattern", "pattern must be a regular expression with named groups: (?<name>...): %v", err)
		}
		s.parse, s.names = regexFormat(re), among(re.SubexpNames(), "the pattern has no group %q")
	default:
		return cfg.Errorf("$.format", "format must be json, keyvalue, csv or regex, not %q", f.Format)
	}
	if f.Format != "csv" && f.Columns != nil {
		return cfg.Errorf("$.columns", "columns are for format csv")
	}
	if f.Format != "regex" && f.Pattern != "" {
		return cfg.Errorf("$.pattern", "pattern is for format regex")
	}
	if f.Separator != "" && f.Format != "csv" && f.Format != "keyvalue" {
		return cfg.Errorf("$.separator", "separator is for formats csv and keyvalue")
	}
	return nil
}

// among refuses fields that are not among the names.
func among(names []string, refusal string) func(field string) error {
	return func(field string) error {
		if slices.Contains(names, field) {
			return nil
		}
		return fmt.Errorf(refusal, field)
	}
}

func understandPoint(cfg drivers.Config, name string, f deviceFile) (point, error) {
	pf := f.Points[name]
	p := point{Point: pf.Pushed(name), field: pf.Field, kind: pf.Type, assume: pf.Assume}
	fail := func(key, format string, args ...any) (point, error) {
		return p, cfg.Errorf(drivers.PointPath(name, key), "point %q: "+format, append([]any{name}, args...)...)
	}
	if p.field == "" {
		p.field = name
	}
	if p.kind == "" {
		p.kind = typeAuto
	}
	switch {
	case !slices.Contains([]string{typeAuto, typeNumber, typeBool, typeText}, p.kind):
		return fail("type", "type must be auto, number, bool or text, not %q", p.kind)
	case pf.Every != 0:
		return fail("every", "a serial device is not polled: it speaks by itself")
	case pf.Write != "" && !pf.Writable:
		return fail("write", `write needs "writable: true"`)
	case pf.Assume && !pf.Writable:
		return fail("assume", `assume needs "writable: true"`)
	case pf.Writable && pf.Write == "" && f.Write == "":
		return fail("writable", `a writable point needs the key "write", here or for the device`)
	}
	for _, text := range cfg.Keys(drivers.PointPath(name, "words")) {
		v, err := wordValue(pf.Words[text])
		if err != nil {
			return fail("words", "the word %q %v", text, err)
		}
		p.words = append(p.words, word{text, v})
	}
	source, path := pf.Write, drivers.PointPath(name, "write")
	if source == "" {
		source, path = f.Write, "$.write"
	}
	t, err := parseTemplate(source)
	if err != nil {
		return p, cfg.Errorf(path, "%v", err)
	}
	p.write = t
	return p, nil
}

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
