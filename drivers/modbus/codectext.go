package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/drivers"
)

// encoding is how characters become bytes.
type encoding uint8

const (
	encodingASCII encoding = iota
	encodingLatin1
	encodingUTF8
	encodingUTF16 // a register each, or two
)

// encodingNames are the words of a device file.
var encodingNames = map[string]encoding{
	"ascii": encodingASCII, "latin1": encodingLatin1, "utf-8": encodingUTF8, "utf-16": encodingUTF16,
}

// swapped gives the bytes as if each register came with its first byte first.
func (c *codec) swapped(wire []byte) []byte {
	if c.order == nil || c.order[0] == 0 {
		return wire
	}
	out := make([]byte, len(wire))
	for i := range out {
		out[i] = wire[i^1]
	}
	return out
}

// decodeText gives the characters before the first NUL, and without the blanks at the
// end if those fill up.
func (c *codec) decodeText(wire []byte) (drivers.Value, error) {
	b := c.swapped(wire)
	text, err := "", error(nil)
	if c.encoding == encodingUTF16 {
		text, err = fromUTF16(b)
	} else {
		if n := bytes.IndexByte(b, 0); n >= 0 {
			b = b[:n]
		}
		text, err = c.encoding.decode(b)
	}
	if err != nil {
		return drivers.Value{}, err
	}
	if c.blank {
		text = strings.TrimRight(text, " ")
	}
	return drivers.TextValue(text), nil
}

func (e encoding) decode(b []byte) (string, error) {
	switch e {
	case encodingLatin1:
		runes := make([]rune, len(b))
		for i, one := range b {
			runes[i] = rune(one)
		}
		return string(runes), nil
	case encodingUTF8:
		if !utf8.Valid(b) {
			return "", fmt.Errorf("the registers hold no UTF-8 text: % X", b)
		}
	case encodingASCII, encodingUTF16:
		for _, one := range b {
			if one >= utf8.RuneSelf {
				return "", fmt.Errorf("the registers hold no ASCII text: %02X is none of its characters", one)
			}
		}
	}
	return string(b), nil
}

func fromUTF16(b []byte) (string, error) {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		unit := binary.BigEndian.Uint16(b)
		if unit == 0 {
			break
		}
		units = append(units, unit)
	}
	text := string(utf16.Decode(units))
	if strings.ContainsRune(text, utf8.RuneError) {
		return "", fmt.Errorf("the registers hold no UTF-16 text: % X", units)
	}
	return text, nil
}

// encodeText fills up with blanks or NULs. What would not be read back the same is
// refused.
func (c *codec) encodeText(v drivers.Value) ([]byte, error) {
	if v.Kind() != drivers.Text {
		return nil, fmt.Errorf("%s is not text", v)
	}
	text := v.String()
	switch {
	case strings.ContainsRune(text, 0):
		return nil, fmt.Errorf("%q has a NUL, which ends a text", text)
	case c.blank && strings.HasSuffix(text, " "):
		return nil, fmt.Errorf("%q ends in a blank, which the registers are filled up with", text)
	}
	b, err := c.encoding.encode(text)
	if err != nil {
		return nil, err
	}
	if len(b) > c.bytes {
		return nil, fmt.Errorf("%q takes %d bytes, and the registers hold %d", text, len(b), c.bytes)
	}
	for len(b) < c.bytes {
		switch {
		case !c.blank:
			b = append(b, 0)
		case c.encoding == encodingUTF16:
			b = append(b, 0, ' ')
		default:
			b = append(b, ' ')
		}
	}
	return c.swapped(b), nil
}

func (e encoding) encode(text string) ([]byte, error) {
	switch e {
	case encodingUTF8:
		return []byte(text), nil
	case encodingUTF16:
		if strings.ContainsRune(text, utf8.RuneError) {
			return nil, fmt.Errorf("%q has a character that stands for none", text)
		}
		var b []byte
		for _, unit := range utf16.Encode([]rune(text)) {
			b = binary.BigEndian.AppendUint16(b, unit)
		}
		return b, nil
	case encodingASCII, encodingLatin1:
	}
	most := rune(0xFF)
	if e == encodingASCII {
		most = utf8.RuneSelf - 1
	}
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > most {
			return nil, fmt.Errorf("%q has a character that the encoding has not: %q", text, r)
		}
		b = append(b, byte(r))
	}
	return b, nil
}
