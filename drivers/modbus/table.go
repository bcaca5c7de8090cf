package modbus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxTextRegisters is how long a text may be that one request reads.
const maxTextRegisters = maxReadRegisters

// tableFile says which registers a point is; exactly one of the tables is set.
type tableFile struct {
	Coil     *scalar `yaml:"coil"`
	Discrete *scalar `yaml:"discrete"`
	Input    *scalar `yaml:"input"`
	Holding  *scalar `yaml:"holding"`
	Type     string  `yaml:"type"`
	Order    string  `yaml:"order"`
	Bit      *scalar `yaml:"bit"`  // one bit, 0 being the least significant
	Bits     string  `yaml:"bits"` // "4..7"
	Scale    *scalar `yaml:"scale"`
	Offset   *scalar `yaml:"offset"`
	// ScaleFrom is the register of the same table that has the power of ten: SunSpec's
	// scale factor.
	ScaleFrom *scalar `yaml:"scale_from"`
	// NoValue are the register's words that mean that there is none: null.
	NoValue scalars `yaml:"no_value"`
	// Length is that of a string, in registers.
	Length   *scalar `yaml:"length"`
	Encoding string  `yaml:"encoding"` // ascii (the default), latin1, utf-8 or utf-16
	Padding  string  `yaml:"padding"`  // nul (the default) or blank
	Layout   string  `yaml:"layout"`   // of a datetime: "Y M D h m s"
	Zone     string  `yaml:"zone"`     // of a datetime or CP56Time2a: "UTC", "Local", "Europe/Berlin"
}

// scalars is a list of scalars, or one.
type scalars []scalar

// UnmarshalYAML keeps the texts, as that of scalar does.
func (s *scalars) UnmarshalYAML(node ast.Node) error {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		*s = make(scalars, 1)
		return (*s)[0].UnmarshalYAML(node)
	}
	*s = make(scalars, len(list.Values))
	for i, one := range list.Values {
		if err := (*s)[i].UnmarshalYAML(one); err != nil {
			return err
		}
	}
	return nil
}

// resolve fills in where a point is and how it becomes a value. The error is a
// *keyError.
func (t *tableFile) resolve(s *pointSpec) error {
	table, address := "", (*scalar)(nil)
	for _, one := range []struct {
		name string
		at   *scalar
		fn   Function
	}{
		{"coil", t.Coil, ReadCoils},
		{"discrete", t.Discrete, ReadDiscreteInputs},
		{"input", t.Input, ReadInputRegisters},
		{"holding", t.Holding, ReadHoldingRegisters},
	} {
		if one.at == nil {
			continue
		}
		if table != "" {
			return wrongKey(one.name, "a point has exactly one of coil, discrete, input and holding")
		}
		table, address, s.fn = one.name, one.at, one.fn
	}
	if table == "" {
		return wrongKey("", "a point needs one of coil, discrete, input and holding")
	}
	if err := t.setCodec(s); err != nil {
		return err
	}
	count := max(1, s.bytes/2)
	n, err := address.whole("the address", 0, int64(1<<16-count))
	if err != nil {
		return wrongKey(table, "%v", err)
	}
	s.addr, s.count = uint16(n), uint16(count)
	return nil
}

// setCodec checks how the point becomes a value.
func (t *tableFile) setCodec(s *pointSpec) error {
	bits := s.fn.bits()
	s.kind = typeUint16
	switch {
	case bits:
		s.kind = typeBool
	case t.Layout != "" && t.Type == "":
		s.kind = typeDatetime
	case t.Length != nil && t.Type == "":
		s.kind = typeString
	}
	if t.Type != "" {
		kind, ok := typeNamed(t.Type)
		if !ok {
			return wrongKey("type", "%q is none of %s", t.Type, typeNames())
		}
		if bits != (kind == typeBool) {
			return wrongKey("type", "coils and discrete inputs are bool, registers are numbers, texts and times; a bit of a register is bit: 0 to 15")
		}
		s.kind = kind
	}
	s.bytes = s.kind.size()
	for _, set := range []func(*pointSpec) error{t.setText, t.setTime, t.setOrder, t.setBits, t.setScale, t.setFactor, t.setNone} {
		if err := set(s); err != nil {
			return err
		}
	}
	return nil
}

// setText reads what only a string has.
func (t *tableFile) setText(s *pointSpec) error {
	if s.kind != typeString {
		for _, key := range []struct {
			name string
			set  bool
		}{{"length", t.Length != nil}, {"encoding", t.Encoding != ""}, {"padding", t.Padding != ""}} {
			if key.set {
				return wrongKey(key.name, "only a string has a %s", key.name)
			}
		}
		return nil
	}
	if t.Length == nil {
		return wrongKey("type", "a string needs its length, in registers")
	}
	n, err := t.Length.whole("length", 1, maxTextRegisters)
	if err != nil {
		return wrongKey("length", "%v", err)
	}
	s.bytes = 2 * int(n)
	known := true
	if t.Encoding != "" {
		s.encoding, known = encodingNames[t.Encoding]
	}
	if !known {
		return wrongKey("encoding", "encoding must be ascii, latin1, utf-8 or utf-16")
	}
	if t.Padding != "" && t.Padding != "nul" && t.Padding != "blank" {
		return wrongKey("padding", "padding must be nul or blank")
	}
	s.blank = t.Padding == "blank"
	return nil
}

// setTime reads what only times have.
func (t *tableFile) setTime(s *pointSpec) error {
	form := s.kind.form()
	if t.Layout != "" && form != formDatetime {
		return wrongKey("layout", "only a datetime has a layout")
	}
	if t.Zone != "" && form != formDatetime && form != formCP56 {
		return wrongKey("zone", "only a datetime or cp56time2a has a zone")
	}
	if form == formDatetime {
		layout := t.Layout
		if layout == "" {
			layout = defaultLayout
		}
		var err error
		if s.layout, err = parseLayout(layout); err != nil {
			return wrongKey("layout", "layout %q: %v", layout, err)
		}
		if s.bytes = len(s.layout); s.bytes > 2*maxTextRegisters {
			return wrongKey("layout", "the layout has more than %d registers", maxTextRegisters)
		}
	}
	zone, err := time.LoadLocation(t.Zone)
	if err != nil {
		return wrongKey("zone", "%q is no time zone such as UTC, Local or Europe/Berlin", t.Zone)
	}
	s.zone = zone
	return nil
}

func (t *tableFile) setOrder(s *pointSpec) error {
	if t.Order == "" {
		return nil
	}
	size := s.bytes
	if s.kind.size() == 0 {
		size = 2
	}
	order, ok := parseOrder(t.Order, size)
	switch {
	case s.fn.bits() || !ok && size == 2:
		return wrongKey("order", "order %q does not fit %v: AB or BA", t.Order, s.kind)
	case !ok:
		return wrongKey("order", "order %q does not fit %v: the letters A to %c, each once, A being the most significant byte; "+
			"ABCD, CDAB, BADC and DCBA are usual for 32 bits", t.Order, s.kind, 'A'+size-1)
	}
	s.order = order
	return nil
}

// setBits reads which bits of the registers count.
func (t *tableFile) setBits(s *pointSpec) error {
	s.low, s.width = s.kind.half()
	key, text := "bits", t.Bits
	switch {
	case t.Bit != nil && t.Bits != "":
		return wrongKey("bits", "a point has one of bit and bits")
	case t.Bit != nil:
		key, text = "bit", string(*t.Bit)+".."+string(*t.Bit)
	case t.Bits == "":
		return nil
	}
	if form := s.kind.form(); s.width > 0 || (form != formSigned && form != formUnsigned) {
		return wrongKey(key, "only whole numbers of 16 bits and more have %s", key)
	}
	from, to, ok := strings.Cut(text, "..")
	low, err := strconv.ParseUint(from, 10, 8)
	high, err2 := strconv.ParseUint(to, 10, 8)
	if most := uint64(8*s.bytes - 1); !ok || err != nil || err2 != nil || low > high || high > most {
		if t.Bit != nil {
			return wrongKey(key, "bit must be 0 to %d, 0 being the least significant", most)
		}
		return wrongKey(key, "bits must be like 4..7, within 0..%d, 0 being the least significant", most)
	}
	s.low, s.width, s.flag = uint8(low), uint8(high-low+1), t.Bit != nil
	return nil
}

func (t *tableFile) setScale(s *pointSpec) error {
	s.scale, s.offset = decimalOf(1, 0), decimalOf(0, 0)
	for _, n := range []struct {
		name string
		text *scalar
		to   *decimal
	}{{"scale", t.Scale, &s.scale}, {"offset", t.Offset, &s.offset}} {
		if n.text == nil {
			continue
		}
		if err := s.mayScale(n.name); err != nil {
			return err
		}
		var err error
		if *n.to, err = parseDecimal(string(*n.text)); err != nil {
			return wrongKey(n.name, "%v", err)
		}
		s.scaled = true
	}
	if s.scale.coefficient.Sign() == 0 {
		return wrongKey("scale", "scale must not be 0")
	}
	return nil
}

// mayScale refuses a scale of what is no number.
func (s *pointSpec) mayScale(key string) error {
	switch {
	case s.flag || s.kind.form() == formBool:
		return wrongKey(key, "a bool has no scale or offset")
	case !s.kind.number():
		return wrongKey(key, "a %v has no scale or offset", s.kind)
	}
	return nil
}

func (t *tableFile) setFactor(s *pointSpec) error {
	if t.ScaleFrom == nil {
		return nil
	}
	if err := s.mayScale("scale_from"); err != nil {
		return err
	}
	n, err := t.ScaleFrom.whole("scale_from", 0, 1<<16-1)
	if err != nil {
		return wrongKey("scale_from", "%v", err)
	}
	s.factor = &span{fn: s.fn, addr: uint16(n), count: 1}
	return nil
}

// setNone reads the words for no value: with 0x, the bits; else the number, without
// scale and offset.
func (t *tableFile) setNone(s *pointSpec) error {
	if len(t.NoValue) == 0 {
		return nil
	}
	switch s.kind.form() {
	case formSigned, formUnsigned, formFloat, formBCD, formMod10k, formUnix, formCP56:
	case formBool, formDatetime, formText:
		return wrongKey("no_value", "a %v has no no_value", s.kind)
	}
	plain := s.codec
	plain.scaled, plain.flag = false, false
	for _, text := range t.NoValue {
		bits, err := plain.noneBits(text)
		if err != nil {
			return wrongKey("no_value", "%v", err)
		}
		if !slices.Contains(s.none, bits) {
			s.none = append(s.none, bits)
		}
	}
	return nil
}

func (c *codec) noneBits(text scalar) (uint64, error) {
	if hex, ok := strings.CutPrefix(string(text), "0x"); ok {
		bits, err := strconv.ParseUint(hex, 16, 64)
		if err != nil || bits>>(c.bits()-1) > 1 {
			return 0, fmt.Errorf("%s is no hexadecimal number of %d bits", text, c.bits())
		}
		return bits, nil
	}
	v, err := drivers.ParseNumber(string(text))
	if err != nil {
		return 0, err
	}
	return c.bitsOf(v, false)
}
