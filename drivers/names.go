package drivers

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Bounds of what a point may give names to.
const (
	MaxNames = 256
	MaxFlags = 64
)

// Number is a number of a device file, exactly as it is written: 0.1 is a tenth. The
// zero value is null: it was not written.
type Number struct{ Value Value }

// UnmarshalYAML reads a number.
func (n *Number) UnmarshalYAML(node ast.Node) error {
	tok := node.GetToken()
	text := strings.TrimSpace(tok.Value)
	switch t := node.(type) {
	case *ast.FloatNode:
	case *ast.IntegerNode:
		text = fmt.Sprint(t.Value) // 0x10 is 16
	case *ast.StringNode:
		text = t.Value
		if tok.Type == token.SingleQuoteType || tok.Type == token.DoubleQuoteType {
			text = ""
		}
	default:
		text = ""
	}
	v, err := ParseNumber(strings.TrimPrefix(text, "+"))
	if err != nil {
		return &yaml.SyntaxError{Message: "this must be a number", Token: tok}
	}
	n.Value = v
	return nil
}

// Name is what one value is called.
type Name struct {
	Value Value  `json:"value"` // an Int, Uint or Bool
	Name  string `json:"name"`
}

// Names are what the values of an enumeration are called, in the order of the file.
// A value without a name stays a number.
type Names []Name

// UnmarshalYAML reads a mapping of values to names.
func (n *Names) UnmarshalYAML(node ast.Node) error {
	return eachScalar(node, func(key, value *token.Token) error {
		v, err := ParseValue([]byte(key.Value))
		if err != nil || !named(v) {
			return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a whole number, true or false, which are what has names", key.Value), Token: key}
		}
		*n = append(*n, Name{Value: v, Name: value.Value})
		return nil
	})
}

// named reports whether a value can have a name.
func named(v Value) bool { return v.Kind() == Int || v.Kind() == Uint || v.Kind() == Bool }

// Flag is what one bit of a whole number is called; bit 0 is the least significant.
type Flag struct {
	Bit  uint8  `json:"bit"` // 0 to 63
	Name string `json:"name"`
}

// Flags are what the bits of a whole number are called, in the order of the file.
type Flags []Flag

// UnmarshalYAML reads a mapping of bits to names.
func (f *Flags) UnmarshalYAML(node ast.Node) error {
	return eachScalar(node, func(key, value *token.Token) error {
		bit, err := strconv.ParseUint(key.Value, 10, 8)
		if err != nil || bit >= MaxFlags {
			return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a bit, which is 0 to 63", key.Value), Token: key}
		}
		*f = append(*f, Flag{Bit: uint8(bit), Name: value.Value})
		return nil
	})
}

// eachScalar calls f with what a mapping of scalars has.
func eachScalar(node ast.Node, f func(key, value *token.Token) error) error {
	m, ok := node.(ast.MapNode)
	if !ok {
		return &yaml.SyntaxError{Message: "this must be a mapping", Token: start(node)}
	}
	for it := m.MapRange(); it.Next(); {
		if _, scalar := it.Value().(ast.ScalarNode); !scalar || it.Value().Type() == ast.NullType {
			return &yaml.SyntaxError{Message: "this must be text", Token: start(it.Value())}
		}
		if err := f(it.Key().GetToken(), it.Value().GetToken()); err != nil {
			return err
		}
	}
	return nil
}

// check says what is wrong with the names.
func (n Names) check() error {
	if len(n) > MaxNames {
		return fmt.Errorf("more than %d names", MaxNames)
	}
	for i, a := range n {
		switch {
		case a.Name == "":
			return fmt.Errorf("the name of %s is empty", a.Value)
		case !named(a.Value):
			return fmt.Errorf("%s, which is no whole number, true or false, has a name", a.Value.short())
		}
		for _, b := range n[:i] {
			if a.Name == b.Name || a.Value == b.Value {
				return fmt.Errorf("%s and %s are told apart neither way: %q and %q", b.Value, a.Value, b.Name, a.Name)
			}
		}
	}
	return nil
}

// check says what is wrong with the flags.
func (f Flags) check() error {
	for i, a := range f {
		switch {
		case a.Name == "":
			return fmt.Errorf("the name of bit %d is empty", a.Bit)
		case a.Bit >= MaxFlags:
			return fmt.Errorf("%d is not a bit, which is 0 to 63", a.Bit)
		}
		for _, b := range f[:i] {
			if a.Name == b.Name || a.Bit == b.Bit {
				return fmt.Errorf("bits %d and %d are told apart neither way: %q and %q", b.Bit, a.Bit, b.Name, a.Name)
			}
		}
	}
	return nil
}

// shown is a value of the device as others see it: by its name, or as flags.
func (p *Point) shown(v Value) Value {
	switch {
	case len(p.Names) > 0:
		for i := range p.Names {
			if sameNumber(p.Names[i].Value, v) {
				return Value{kind: Text, text: p.Names[i].Name}
			}
		}
	case len(p.Flags) > 0:
		if bits, ok := v.bits(); ok {
			return Value{kind: JSON, text: string(p.Flags.object(bits))}
		}
	}
	return v
}

// sameNumber compares what has a name: 1 is 1, of whatever sign its type could have.
func sameNumber(a, b Value) bool {
	if a == b {
		return true
	}
	return a.num == b.num && (a.kind == Int && b.kind == Uint || a.kind == Uint && b.kind == Int) && a.num <= 1<<63-1
}

// bits are those of a whole number.
func (v Value) bits() (uint64, bool) {
	if n, ok := v.Uint(); ok {
		return n, true
	}
	n, ok := v.Int()
	return uint64(n), ok
}

func (f Flags) object(bits uint64) []byte {
	b := []byte{'{'}
	for i := range f {
		b = appendMember(b, f[i].Name, BoolValue(bits>>f[i].Bit&1 == 1))
	}
	return append(b, '}')
}

// raw is the value for the device of one that others wrote: what has the name; of
// flags the number of now, which then is needed, with some bits set anew.
func (p *Point) raw(v Value, now func() (Value, error)) (Value, error) {
	switch {
	case len(p.Names) > 0:
		return p.Names.value(v)
	case len(p.Flags) > 0 && v.Kind() == JSON:
		mask, set, err := p.Flags.parse(v)
		if err != nil {
			return Value{}, err
		}
		was, err := now()
		if err != nil {
			return Value{}, fmt.Errorf("the other bits are not known: %w", err)
		}
		bits, ok := was.bits()
		if !ok {
			return Value{}, fmt.Errorf("the other bits are not known: %s is no whole number", was.short())
		}
		bits = bits&^mask | set
		if was.Kind() == Int {
			return IntValue(int64(bits)), nil
		}
		return UintValue(bits), nil
	}
	return v, nil
}

// value is the value of a name. A value that has one passes, too.
func (n Names) value(v Value) (Value, error) {
	for i := range n {
		if v.Kind() == Text && v.text == n[i].Name || sameNumber(v, n[i].Value) {
			return n[i].Value, nil
		}
	}
	known := make([]string, min(len(n), 16))
	for i := range known {
		known[i] = n[i].Name
	}
	return Value{}, fmt.Errorf("%s is none of %s", v.short(), strings.Join(known, ", "))
}

// parse reads an object of flags.
func (f Flags) parse(v Value) (mask, set uint64, err error) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(v.text), &object) != nil || len(object) == 0 {
		return 0, 0, errors.New("it is not an object of flags")
	}
	for name, raw := range object {
		i := slices.IndexFunc(f, func(g Flag) bool { return g.Name == name })
		if i < 0 {
			return 0, 0, fmt.Errorf("there is no flag %q", name)
		}
		mask |= 1 << f[i].Bit
		switch string(raw) {
		case "true", "1":
			set |= 1 << f[i].Bit
		case "false", "0":
		default:
			return 0, 0, fmt.Errorf("flag %q is true or false, not %s", name, TextValue(string(raw)).short())
		}
	}
	return mask, set, nil
}

// short is the value for an error.
func (v Value) short() string {
	s := string(v.AppendJSON(nil))
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
