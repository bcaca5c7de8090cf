package serial

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// frameFile is the key "frame".
type frameFile struct {
	Type         string        `yaml:"type"`
	Delimiter    string        `yaml:"delimiter"`
	Start        string        `yaml:"start"`
	End          string        `yaml:"end"`
	DLE          bool          `yaml:"dle"`
	Length       int           `yaml:"length"`
	Offset       int           `yaml:"offset"`
	Size         int           `yaml:"size"`
	Order        string        `yaml:"order"`
	Counts       string        `yaml:"counts"`
	Extra        int           `yaml:"extra"`
	Silence      time.Duration `yaml:"silence"`
	SilenceChars float64       `yaml:"silence_chars"`
	Gap          time.Duration `yaml:"gap"`
	Raw          bool          `yaml:"raw"`
}

// checksumFile is the key "checksum".
type checksumFile struct {
	Type     string `yaml:"type"`
	Order    string `yaml:"order"`
	As       string `yaml:"as"`
	Inside   bool   `yaml:"inside"`
	Optional bool   `yaml:"optional"`
	At       *int   `yaml:"at"`
	From     *int   `yaml:"from"`
	To       *int   `yaml:"to"`
	Width    int    `yaml:"width"`
	Poly     uint64 `yaml:"poly"`
	Init     uint64 `yaml:"init"`
	Refin    bool   `yaml:"refin"`
	Refout   bool   `yaml:"refout"`
	Xorout   uint64 `yaml:"xorout"`
}

// frameKeys are the keys of "frame" that a type has beside type, raw and gap.
var frameKeys = map[string][]string{
	"line":      {"delimiter"},
	"delimiter": {"delimiter"},
	"fixed":     {"length", "start"},
	"length":    {"start", "offset", "size", "order", "counts", "extra"},
	"silence":   {"silence", "silence_chars"},
	"stx":       {"start", "end", "dle"},
	"slip":      {},
	"cobs":      {},
	"nmea":      {},
}

const (
	// defaultGap is the silence after which the rest of a frame that says its length
	// is not waited for: longer than the pauses that USB adapters and hubs make.
	defaultGap = 100 * time.Millisecond
	// longestMark bounds what a frame begins or ends with, in bytes.
	longestMark = 16
	// longestGap bounds it, and the silence between frames.
	longestGap = time.Minute
)

// understandFraming understands the keys "frame" and "checksum", and those that were
// there before them: "delimiter" and "max_line".
func understandFraming(cfg drivers.Config, f *deviceFile) (reader, error) {
	r := reader{most: f.MaxFrame}
	given := cfg.Keys("$")
	has := func(key string) bool { return slices.Contains(given, key) }
	switch {
	case has("max_line") && has("max_frame"):
		return r, cfg.Errorf("$.max_line", "max_line is another word for max_frame: one of them is enough")
	case has("max_line"):
		if r.most = f.MaxLine; r.most < 1 || r.most > mostMaxFrame {
			return r, cfg.Errorf("$.max_line", "max_line must be 1 to %d, not %d", mostMaxFrame, f.MaxLine)
		}
	case has("max_frame") && (r.most < 1 || r.most > mostMaxFrame):
		return r, cfg.Errorf("$.max_frame", "max_frame must be 1 to %d, not %d", mostMaxFrame, f.MaxFrame)
	case !has("max_frame"):
		r.most = defaultMaxFrame
	}
	var err error
	if r.sum, err = understandChecksum(cfg, f, has("checksum")); err != nil {
		return r, err
	}
	if !has("frame") {
		f.Frame = frameFile{Type: "line", Delimiter: f.Delimiter, Raw: true}
		if has("delimiter") && f.Delimiter == "" {
			return r, cfg.Errorf("$.delimiter", "delimiter must not be empty")
		}
	} else if has("delimiter") {
		return r, cfg.Errorf("$.delimiter", "delimiter belongs into frame: {type: line, delimiter: ...}")
	}
	if err := r.understand(cfg, &f.Frame, f.portConfig().Char()); err != nil {
		var wrong *keyError
		if errors.As(err, &wrong) {
			path := "$.frame." + wrong.key
			if !has("frame") {
				path = "$." + wrong.key
			}
			return r, cfg.Errorf(path, "%v", err)
		}
		return r, err
	}
	if r.blind {
		r.open = true
	}
	return r, nil
}

// understand sets the framing. The error is a *keyError, or of cfg.
func (r *reader) understand(cfg drivers.Config, f *frameFile, char time.Duration) error {
	if f.Type == "" {
		f.Type = "line"
	}
	known, ok := frameKeys[f.Type]
	if !ok {
		return wrongKey("type", "type must be line, delimiter, fixed, length, silence, stx, slip, cobs or nmea, not %q", f.Type)
	}
	for _, key := range cfg.Keys("$.frame") {
		if key != "type" && key != "raw" && key != "gap" && !slices.Contains(known, key) {
			return wrongKey(key, "%s is not for frames of type %s", key, f.Type)
		}
	}
	if f.Gap < 0 || f.Gap > longestGap {
		return wrongKey("gap", "gap must be 0s to %v, not %v", longestGap, f.Gap)
	}
	r.gap = f.Gap
	switch f.Type {
	case "line", "delimiter":
		return r.delimited(f)
	case "fixed":
		return r.fixed(f)
	case "length":
		return r.prefixed(f)
	case "silence":
		return r.silent(f, char)
	case "stx":
		return r.marked(f)
	case "slip":
		r.open, r.cutter = true, slip{delimited{[]byte{slipEnd}, false, 2 * r.most}}
	case "cobs":
		r.open, r.cutter = true, cobs{delimited{[]byte{0}, false, r.most + r.most/254 + 1}}
	case "nmea":
		r.first, r.cutter = []byte("$"), nmea{delimited{[]byte("\n"), true, r.most}}
		if r.sum == nil {
			r.sum = &checksum{algorithm: algorithms()["nmea"], order: binary.BigEndian, digits: true, star: true}
		}
	}
	return nil
}

func (r *reader) delimited(f *frameFile) error {
	d, err := parseBytes(f.Delimiter)
	if err != nil {
		return wrongKey("delimiter", "delimiter: %v", err)
	}
	if len(d) > longestMark {
		return wrongKey("delimiter", "delimiter must be at most %d bytes", longestMark)
	}
	if len(d) == 0 {
		if f.Type == "delimiter" {
			return wrongKey("delimiter", "frames of type delimiter need the key delimiter")
		}
		d = []byte("\n")
	}
	r.open, r.cutter = true, delimited{d, f.Type == "line", r.most}
	return nil
}

func (r *reader) fixed(f *frameFile) error {
	start, err := parseBytes(f.Start)
	if err != nil {
		return wrongKey("start", "start: %v", err)
	}
	if f.Length < max(1, len(start)) || f.Length > r.most {
		return wrongKey("length", "length must be %d to %d, not %d", max(1, len(start)), r.most, f.Length)
	}
	r.cutter = fixed{start, f.Length}
	r.marks(start, f)
	return nil
}

// marks says how the beginning of a frame is found that does not end with a mark.
func (r *reader) marks(start []byte, f *frameFile) {
	r.slides = len(start) > 0 || r.sum != nil
	r.blind = !r.slides
	if f.Gap == 0 {
		r.gap = defaultGap
	}
}

func (r *reader) prefixed(f *frameFile) error {
	start, err := parseBytes(f.Start)
	if err != nil {
		return wrongKey("start", "start: %v", err)
	}
	p := prefixed{start: start, offset: f.Offset, size: orDefault(f.Size, 1), most: r.most}
	switch f.Order {
	case "", "big":
		p.order = binary.BigEndian
	case "little":
		p.order = binary.LittleEndian
	default:
		return wrongKey("order", "order must be big or little, not %q", f.Order)
	}
	if p.size != 1 && p.size != 2 && p.size != 4 {
		return wrongKey("size", "size must be 1, 2 or 4, not %d", f.Size)
	}
	if p.offset < len(start) || p.offset+p.size > r.most {
		return wrongKey("offset", "offset must be %d to %d, not %d", len(start), r.most-p.size, f.Offset)
	}
	switch f.Counts {
	case "", "rest":
		p.more = p.offset + p.size
	case "self":
		p.more = p.offset
	case "all":
	default:
		return wrongKey("counts", "counts must be rest, self or all, not %q", f.Counts)
	}
	if f.Extra < -r.most || f.Extra > r.most {
		return wrongKey("extra", "extra must be %d to %d, not %d", -r.most, r.most, f.Extra)
	}
	p.more += f.Extra
	if p.least = p.offset + p.size; r.sum != nil && r.sum.at == nil {
		p.least += r.sum.length()
	}
	r.cutter, r.fill = p, p.put
	r.marks(start, f)
	return nil
}

func (r *reader) silent(f *frameFile, char time.Duration) error {
	r.gap = f.Silence
	switch {
	case (f.Silence != 0) == (f.SilenceChars != 0):
		return wrongKey("type", "frames of type silence need either silence: 5ms or silence_chars: 3.5")
	case f.SilenceChars != 0:
		r.gap = time.Duration(f.SilenceChars * float64(char))
		if f.SilenceChars < 1 || r.gap > longestGap {
			return wrongKey("silence_chars", "silence_chars must be 1 to %d", longestGap/char)
		}
	case f.Silence < 0 || f.Silence > longestGap:
		return wrongKey("silence", "silence must be up to %v, not %v", longestGap, f.Silence)
	}
	r.gap = max(r.gap, time.Millisecond) // which is as fine as a port waits
	r.cutter, r.ends, r.blind = plain{}, true, true
	return nil
}

func (r *reader) marked(f *frameFile) error {
	m := marked{start: []byte{2}, end: []byte{3}, most: r.most}
	for _, mark := range []struct {
		key, text string
		to        *[]byte
	}{{"start", f.Start, &m.start}, {"end", f.End, &m.end}} {
		if mark.text == "" {
			continue
		}
		b, err := parseBytes(mark.text)
		if err == nil && (len(b) == 0 || len(b) > longestMark) {
			err = fmt.Errorf("it must have 1 to %d bytes", longestMark)
		}
		if err == nil && (f.DLE && (len(b) != 1 || b[0] == dle)) {
			err = errors.New("with dle it is one byte that is not DLE")
		}
		if err != nil {
			return wrongKey(mark.key, "%s: %v", mark.key, err)
		}
		*mark.to = b
	}
	if f.DLE && m.start[0] == m.end[0] {
		return wrongKey("end", "end must not be start")
	}
	if r.sum != nil && r.sum.at == nil && !r.sum.inside {
		m.after = r.sum.length()
	}
	r.first, r.last, r.slides, r.cutter = m.start, m.end, true, m
	if f.DLE {
		r.cutter = stuffed{m}
	}
	return nil
}

func understandChecksum(cfg drivers.Config, f *deviceFile, given bool) (*checksum, error) {
	if !given {
		return nil, nil
	}
	k := f.Checksum
	c := &checksum{inside: k.Inside, optional: k.Optional, at: k.At, from: k.From, to: k.To, order: binary.BigEndian}
	fail := func(key, format string, args ...any) (*checksum, error) {
		return nil, cfg.Errorf("$.checksum."+key, format, args...)
	}
	general := []string{"width", "poly", "init", "refin", "refout", "xorout"}
	var known bool
	if c.algorithm, known = algorithms()[k.Type]; k.Type == "crc" {
		if k.Width != 8 && k.Width != 16 && k.Width != 24 && k.Width != 32 {
			return fail("width", "width must be 8, 16, 24 or 32, not %d", k.Width)
		}
		c.algorithm = algorithm{size: k.Width / 8, crc: crc{k.Width, k.Poly, k.Init, k.Refin, k.Refout, k.Xorout}}
		for key, n := range map[string]uint64{"poly": k.Poly, "init": k.Init, "xorout": k.Xorout} {
			if n>>k.Width != 0 || (key == "poly" && n == 0) {
				return fail(key, "%s must be a number of %d bits", key, k.Width)
			}
		}
	} else if !known {
		return fail("type", "type must be %s, not %q", checksumNames(), k.Type)
	}
	for _, key := range cfg.Keys("$.checksum") {
		if k.Type != "crc" && slices.Contains(general, key) {
			return fail(key, "%s is for type crc", key)
		}
	}
	if c.crc.refout {
		c.order = binary.LittleEndian
	}
	switch k.Order {
	case "":
	case "big":
		c.order = binary.BigEndian
	case "little":
		c.order = binary.LittleEndian
	default:
		return fail("order", "order must be big or little, not %q", k.Order)
	}
	c.star = k.Type == "nmea"
	c.digits = k.As == "hex" || c.star
	if k.As != "" && k.As != "hex" && (k.As != "binary" || c.star) {
		return fail("as", "as must be binary or hex, not %q", k.As)
	}
	if k.Optional && !c.star {
		return fail("optional", "optional is for type nmea: without a * nothing tells that a checksum is missing")
	}
	if k.At != nil && (k.Inside || c.star) {
		return fail("at", "at says where the checksum stands: the rest does not go with it")
	}
	return c, nil
}

// parseBytes reads bytes as a device file has them: a text, or "hex:" and pairs of
// hexadecimal digits.
func parseBytes(s string) ([]byte, error) {
	digits, isHex := strings.CutPrefix(s, "hex:")
	if !isHex {
		return []byte(s), nil
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	if err != nil {
		return nil, fmt.Errorf("%q is not made of pairs of hexadecimal digits", clip(digits))
	}
	return b, nil
}
