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

// The formats that are no text, or not any.
const (
	formatBinary = "binary"
	formatNMEA   = "nmea"

	formats = "json, keyvalue, csv, regex, nmea or binary"
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
	Port           string         `yaml:"port"`
	Baud           int            `yaml:"baud"`
	Parity         string         `yaml:"parity"`
	DataBits       int            `yaml:"data_bits"`
	StopBits       int            `yaml:"stop_bits"`
	Wiring         drivers.Wiring `yaml:",inline"`
	Echo           bool           `yaml:"echo"`

	Delimiter string       `yaml:"delimiter"`
	MaxLine   int          `yaml:"max_line"`
	MaxFrame  int          `yaml:"max_frame"`
	Frame     frameFile    `yaml:"frame"`
	Checksum  checksumFile `yaml:"checksum"`

	Format    string   `yaml:"format"`
	Separator string   `yaml:"separator"`
	Columns   []string `yaml:"columns"`
	Pattern   string   `yaml:"pattern"`
	Order     string   `yaml:"order"`
	Codec     string   `yaml:"codec"`

	Address *int          `yaml:"address"`
	Request string        `yaml:"request"`
	Answer  string        `yaml:"answer"`
	Write   string        `yaml:"write"`
	Expect  string        `yaml:"expect"`
	Init    []string      `yaml:"init"`
	Wake    wakeFile      `yaml:"wake"`
	Timeout time.Duration `yaml:"timeout"`
	Retries *int          `yaml:"retries"`
	Pause   time.Duration `yaml:"pause"`

	Points map[string]pointFile `yaml:"points"`
}

// wakeFile is the key "wake".
type wakeFile struct {
	Break time.Duration `yaml:"break"`
	DTR   time.Duration `yaml:"dtr"`
	Send  string        `yaml:"send"`
	Pause time.Duration `yaml:"pause"`
	After time.Duration `yaml:"after"`
}

func (f *deviceFile) portConfig() PortConfig {
	return PortConfig{
		Port: f.Port, Baud: f.Baud, Parity: f.Parity, DataBits: f.DataBits, StopBits: f.StopBits,
		Wiring: f.Wiring,
	}
}

// spec is a device file that was understood.
type spec struct {
	name      string
	port      PortConfig
	echo      bool                     // the line sends back what is sent
	reader    reader                   // copied for each that reads
	raw       bool                     // what is sent is not framed
	parse     format                   // nil: by the points' layouts, or the codec
	names     func(field string) error // why no line has such a field
	nmea      bool                     // frames are sentences, of which most say nothing of a point
	codec     string                   // the source of codecFile
	codecFile string                   // empty is none
	talk      talk
	points    []point
	index     map[string]int
}

func understand(cfg drivers.Config, codecs bool) (*spec, error) {
	var f deviceFile
	if err := cfg.Decode(&f); err != nil {
		return nil, err
	}
	s := &spec{name: cfg.Device, port: f.portConfig(), echo: f.Echo, index: make(map[string]int)}
	var wrong *keyError
	switch _, err := s.port.mode(); {
	case errors.As(err, &wrong):
		return nil, cfg.Errorf("$."+wrong.key, "%v", err)
	case f.Port == "":
		return nil, cfg.Errorf("$.port", `the key "port" is missing`)
	}
	var err error
	if s.reader, err = understandFraming(cfg, &f); err != nil {
		return nil, err
	}
	s.raw = f.Frame.Raw
	if err := s.setFormat(cfg, &f); err != nil {
		return nil, err
	}
	if err := s.setCodec(cfg, &f, codecs); err != nil {
		return nil, err
	}
	if s.talk, err = understandTalk(cfg, &f); err != nil {
		return nil, err
	}
	for _, name := range cfg.Keys("$.points") {
		if err := s.addPoint(cfg, name, &f); err != nil {
			return nil, err
		}
	}
	if len(s.points) == 0 {
		return nil, cfg.Errorf("$", `the key "points" is missing or empty`)
	}
	if f.Every != 0 && !slices.ContainsFunc(s.points, func(p point) bool { return p.asked() }) {
		return nil, cfg.Errorf("$.every", "a serial device is not polled: it speaks by itself (without the key request)")
	}
	return s, nil
}

func (s *spec) setCodec(cfg drivers.Config, f *deviceFile, codecs bool) error {
	if f.Codec == "" {
		return nil
	}
	if !codecs {
		return cfg.Errorf("$.codec", "there are no codecs here")
	}
	source := cfg.Included[f.Codec]
	if source.Err != nil {
		return cfg.Errorf("$.codec", "the codec cannot be read: %v", source.Err)
	}
	s.codecFile, s.codec = f.Codec, source.Text
	return nil
}

func (s *spec) setFormat(cfg drivers.Config, f *deviceFile) error {
	s.names = func(string) error { return nil }
	switch f.Format {
	case "":
		if f.Codec == "" {
			return cfg.Errorf("$.format", "format must be %s, not \"\"", formats)
		}
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
	case formatNMEA:
		s.parse, s.names, s.nmea = nmeaFormat, nmeaField, true
	case formatBinary:
	default:
		return cfg.Errorf("$.format", "format must be %s, not %q", formats, f.Format)
	}
	if f.Codec != "" && f.Format != "" {
		return cfg.Errorf("$.codec", "a codec takes the place of format")
	}
	if f.Order != "" && f.Format != formatBinary {
		return cfg.Errorf("$.order", "order is for format binary")
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
