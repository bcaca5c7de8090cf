package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Schema is a compiled schema. It is never written.
type Schema struct{ root *node }

// Loader gives the JSON of another schema, as [Decode] does, by its absolute address
// without a fragment.
type Loader func(address string) (any, error)

// Fault is what is wrong with a value, or with a schema.
type Fault struct {
	At  string // a JSON pointer into it (RFC 6901), "" for the whole
	Msg string
}

// Error says where, and what.
func (f *Fault) Error() string { return fmt.Sprintf("at '%s': %s", f.At, f.Msg) }

// Invalid is the error of what is not a schema: in the document at Address, or "" if that
// is the one at hand.
type Invalid struct {
	Address string
	Fault   *Fault
}

// Error says which document, where, and what.
func (e *Invalid) Error() string {
	text := "it is not a JSON Schema: "
	if e.Address != "" {
		text = fmt.Sprintf("%q is not a JSON Schema: ", e.Address)
	}
	return text + e.Fault.Error()
}

// ErrWork is the error of [Schema.Validate] if the schema takes more than a million
// steps for the value, or goes round in circles.
var ErrWork = errors.New("the schema takes too many steps for it")

// Decode decodes JSON with numbers as they are written.
func Decode(text []byte) (any, error) {
	if !utf8.Valid(text) { // RFC 8259 §8.1
		return nil, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the JSON value")
	}
	return doc, nil
}

// The drafts, by their year where that is in their name.
const (
	draft4    = 4
	draft6    = 6
	draft7    = 7
	draft2019 = 2019
	draft2020 = 2020
)

var drafts = map[string]int{
	"json-schema.org/draft-04/schema":      draft4,
	"json-schema.org/draft-06/schema":      draft6,
	"json-schema.org/draft-07/schema":      draft7,
	"json-schema.org/draft/2019-09/schema": draft2019,
	"json-schema.org/draft/2020-12/schema": draft2020,
}

// draftOf is the draft of a "$schema"; false if it is none that is known.
func draftOf(address string) (int, bool) {
	address = strings.TrimSuffix(address, "#")
	_, address, _ = strings.Cut(address, "://")
	draft, ok := drafts[address]
	return draft, ok
}

// resource is a schema with an address of its own, and what stands in it.
type resource struct {
	address  string
	draft    int
	raw      any
	anchors  map[string]any   // subschemas by their names
	dynamic  map[string]bool  // those of the names that are dynamic
	recurses bool             // it has a true $recursiveAnchor
	nodes    map[string]*node // of the dynamic ones; that of "" is the whole, if it recurses
}

// node is one compiled subschema. Pointers are nil, and counts below 0, where nothing is said.
type node struct {
	res    *resource
	always *bool // a schema that is true or false

	types                 kinds
	enum                  map[string]bool // canonical texts
	constant              string          // the same; "" is none
	min, max              *bound
	multipleOf            *big.Rat
	minLength, maxLength  int
	pattern               *regexp.Regexp
	format                *format
	minItems, maxItems    int
	unique                bool
	prefix                []*node
	items, contains       *node
	minContains           int
	maxContains           int
	minProps, maxProps    int
	required              []string
	props                 map[string]*node
	patterns              []patternNode
	additional, propNames *node
	needs                 map[string][]string
	dependents            map[string]*node
	restItems, restProps  *node // of what nothing else has looked at

	all, any, one      []*node
	not, cond          *node
	yes, no            *node
	ref                *node
	dynamic, recursive string // the name of a dynamic anchor that ref leads to
}

type patternNode struct {
	pattern *regexp.Regexp
	node    *node
}

// bound is a limit of numbers.
type bound struct {
	rat       *big.Rat
	text      string
	exclusive bool
}
