package trial

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
)

// encode is the payload of a value: text as it is, anything else as JSON.
func encode(value any) []byte {
	if text, ok := value.(string); ok {
		return []byte(text)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil { // a value is what a reader made
		panic("trial: a value that is no JSON: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// decode is the value of a payload: of JSON if it is that, else its text.
func decode(payload []byte) any {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil {
		return string(payload)
	}
	if _, err := d.Token(); err != io.EOF {
		return string(payload)
	}
	return value
}

// equalPayload reports whether a payload is that of a value: the same JSON, or the same
// text. With part an object may have more keys than the value's.
func equalPayload(payload []byte, want any, part bool) bool {
	if text, ok := want.(string); ok {
		return string(payload) == text
	}
	return equal(decode(payload), want, part)
}

func equal(got, want any, part bool) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok || !part && len(got) != len(want) {
			return false
		}
		for key, w := range want {
			g, there := got[key]
			if !there || !equal(g, w, part) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			if !equal(got[i], want[i], part) {
				return false
			}
		}
		return true
	case json.Number:
		got, ok := got.(json.Number)
		return ok && equalNumbers(string(got), string(want))
	}
	return got == want // nil, a bool or a string
}

// closeEnough is how far two numbers of which one has a fraction may be apart, as a
// share of the bigger one: what is calculated in another order is.
const closeEnough = 1e-9

func equalNumbers(a, b string) bool {
	if a == b {
		return true
	}
	if !strings.ContainsAny(a+b, ".eE") { // integers are exact, however long
		return false
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= closeEnough*max(math.Abs(x), math.Abs(y))
}
