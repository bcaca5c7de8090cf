package history

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is looked at of one payload.
const (
	maxPayload = 16 << 10 // bytes of an object
	maxNumber  = 64       // bytes of a number
	maxFields  = 32       // numbers of an object
	maxField   = 128      // bytes of a field's name
)

// numbers calls f with each number of a payload: a JSON number or boolean, with an
// empty name, or those that are fields of a JSON object. Anything else has none.
func numbers(payload []byte, f func(field string, value float64)) {
	payload = bytes.TrimSpace(payload)
	if v, ok := number(payload); ok {
		f("", v)
		return
	}
	if len(payload) < 2 || len(payload) > maxPayload || payload[0] != '{' {
		return
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil {
		return
	}
	found := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		v, ok := number(fields[name])
		if !ok || name == "" || len(name) > maxField || strings.ContainsRune(name, 0) {
			continue
		}
		if found++; found > maxFields {
			return
		}
		f(name, v)
	}
}

// number reads a JSON number that is not too large, or a boolean as 0 or 1.
func number(text []byte) (float64, bool) {
	switch {
	case len(text) == 0 || len(text) > maxNumber:
		return 0, false
	case string(text) == "true":
		return 1, true
	case string(text) == "false":
		return 0, true
	case text[0] != '-' && (text[0] < '0' || text[0] > '9'), !json.Valid(text):
		return 0, false
	}
	v, err := strconv.ParseFloat(string(text), 64)
	return v, err == nil
}
