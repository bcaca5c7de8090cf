package jsonschema

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// compiler compiles one schema and those that it refers to.
type compiler struct {
	load      Loader
	root      string // the address of the document at hand
	docs      map[string]any
	resources map[string]*resource
	places    map[uintptr]place // of subschemas that are objects
	nodes     map[uintptr]*node
	depth     int
}

// place is where a subschema stands.
type place struct {
	res *resource
	doc string // the address of its document
	at  string // a JSON pointer into that
}

// maxDocs bounds the documents that one schema refers to, maxDepth how deeply schemas
// may be nested.
const (
	maxDocs  = 100
	maxDepth = 300
)

// identity tells objects apart: two that are alike may have other addresses.
func identity(m map[string]any) uintptr { return reflect.ValueOf(m).Pointer() }

// Compile compiles a schema. Its address is what relative references are resolved
// against. The error is an [*Invalid], one of load, or says what a reference does not lead to.
func Compile(address string, doc any, load Loader) (*Schema, error) {
	c := &compiler{
		load: load, root: address, docs: make(map[string]any), resources: make(map[string]*resource),
		places: make(map[uintptr]place), nodes: make(map[uintptr]*node),
	}
	res, err := c.add(address, doc, draft2020)
	if err != nil {
		return nil, err
	}
	n, err := c.compile(doc, place{res: res, doc: address})
	if err != nil {
		return nil, err
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	if err := c.checkCircles(); err != nil {
		return nil, err
	}
	return &Schema{root: n}, nil
}

// Load loads and compiles the schema at an address, which may have a fragment.
func Load(address string, load Loader) (*Schema, error) {
	return Compile("", map[string]any{"$ref": address}, load)
}

// invalid is the error for a place in a schema.
func (c *compiler) invalid(p place, format string, args ...any) error {
	e := &Invalid{Fault: &Fault{At: p.at, Msg: fmt.Sprintf(format, args...)}}
	if p.doc != c.root {
		e.Address = p.doc
	}
	return e
}

func (p place) in(keys ...string) place {
	for _, key := range keys {
		p.at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
	}
	return p
}

// add takes a document and finds what in it can be referred to. The draft is that of who
// refers to it, unless it says one.
func (c *compiler) add(address string, doc any, draft int) (*resource, error) {
	if len(c.docs) == maxDocs {
		return nil, fmt.Errorf("it refers to more than %d documents", maxDocs)
	}
	c.docs[address] = doc
	res := &resource{address: address, draft: draft, raw: doc, anchors: make(map[string]any), dynamic: make(map[string]bool)}
	c.resources[address] = res
	return res, c.index(doc, place{res: res, doc: address}, true)
}

// index notes where a subschema stands, and its addresses; then those in it.
func (c *compiler) index(doc any, p place, top bool) error {
	m, ok := doc.(map[string]any)
	if !ok {
		return nil
	}
	if c.depth++; c.depth > maxDepth {
		return c.invalid(p, "it is nested more than %d deep", maxDepth)
	}
	defer func() { c.depth-- }()
	if _, again := c.places[identity(m)]; again {
		return nil
	}
	if s, ok := m["$schema"].(string); ok {
		draft, known := draftOf(s)
		if !known {
			return c.invalid(p.in("$schema"), "%q is no draft of JSON Schema that is known here", s)
		}
		if p.res.draft = draft; !top { // of a resource that is embedded
			r := *p.res
			p.res = &r
		}
	}
	p, err := c.identify(m, p)
	if err != nil {
		return err
	}
	c.places[identity(m)] = p
	return eachSubschema(m, p.res.draft, func(sub any, keys ...string) error {
		return c.index(sub, p.in(keys...), false)
	})
}

// identify takes the address and the anchors that a subschema gives itself.
func (c *compiler) identify(m map[string]any, p place) (place, error) {
	word := "$id"
	if p.res.draft == draft4 {
		word = "id"
	}
	_, refers := m["$ref"].(string)
	id, named := m[word].(string)
	if named && !(refers && p.res.draft <= draft7) {
		full, err := resolve(p.res.address, id)
		if err != nil {
			return p, c.invalid(p.in(word), "%v", err)
		}
		address, fragment, _ := strings.Cut(full, "#")
		if address != p.res.address {
			p.res = &resource{address: address, draft: p.res.draft, raw: m, anchors: make(map[string]any), dynamic: make(map[string]bool)}
			c.resources[address] = p.res
		}
		if fragment != "" && p.res.draft <= draft7 {
			p.res.anchors[fragment] = m
		}
	}
	if p.res.draft < draft2019 {
		return p, nil
	}
	if name, ok := m["$anchor"].(string); ok {
		p.res.anchors[name] = m
	}
	if name, ok := m["$dynamicAnchor"].(string); ok && p.res.draft >= draft2020 {
		p.res.anchors[name], p.res.dynamic[name] = m, true
	}
	if recurses, _ := m["$recursiveAnchor"].(bool); recurses && p.res.draft == draft2019 {
		p.res.recurses = true
	}
	return p, nil
}

// resolve makes a reference absolute.
func resolve(base, ref string) (string, error) {
	r, err := url.Parse(ref)
	if err != nil {
		return "", fmt.Errorf("%q is no reference", ref)
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	switch {
	case r.IsAbs() || base == "":
	case b.Opaque != "" && strings.HasPrefix(ref, "#"): // urn:...
		return strings.TrimSuffix(base, "#"+b.Fragment) + ref, nil
	default:
		r = b.ResolveReference(r)
	}
	fragment := r.Fragment
	r.Fragment, r.RawFragment = "", ""
	if fragment == "" {
		return r.String(), nil
	}
	return r.String() + "#" + fragment, nil
}

// find is the subschema that a reference leads to.
func (c *compiler) find(ref string, p place) (any, place, error) {
	full, err := resolve(p.res.address, ref)
	if err != nil {
		return nil, p, c.invalid(p, "%v", err)
	}
	address, fragment, _ := strings.Cut(full, "#")
	if f, err := url.PathUnescape(fragment); err == nil {
		fragment = f
	}
	res := c.resources[address]
	if res == nil {
		doc, err := c.load(address)
		if err != nil {
			return nil, p, err
		}
		if res, err = c.add(address, doc, p.res.draft); err != nil {
			return nil, p, err
		}
	}
	at := place{res: res, doc: address}
	if m, ok := res.raw.(map[string]any); ok {
		at = c.places[identity(m)]
	}
	switch {
	case fragment == "":
		return res.raw, at, nil
	case strings.HasPrefix(fragment, "/"):
		doc, to, err := c.point(res.raw, fragment, at)
		if err != nil {
			return nil, p, c.invalid(p, "%q leads to nothing: %v", ref, err)
		}
		return doc, to, nil
	}
	m, ok := res.anchors[fragment]
	if !ok {
		return nil, p, c.invalid(p, "%q leads to nothing: there is no anchor %q", ref, fragment)
	}
	return m, c.places[identity(m.(map[string]any))], nil
}

// point follows a JSON pointer.
func (c *compiler) point(doc any, pointer string, at place) (any, place, error) {
	for _, key := range strings.Split(pointer[1:], "/") {
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		switch v := doc.(type) {
		case map[string]any:
			sub, ok := v[key]
			if !ok {
				return nil, at, fmt.Errorf("there is no %q", key)
			}
			doc = sub
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return nil, at, fmt.Errorf("there is no item %q", key)
			}
			doc = v[i]
		default:
			return nil, at, errors.New("it goes into what is neither an object nor a list")
		}
		at = at.in(key)
		if m, ok := doc.(map[string]any); ok {
			if known, ok := c.places[identity(m)]; ok {
				at = known
			}
		}
	}
	m, ok := doc.(map[string]any)
	if _, known := c.places[identity(m)]; ok && !known { // in a place where no schema is looked for
		if err := c.index(m, at, false); err != nil {
			return nil, at, err
		}
		at = c.places[identity(m)]
	}
	return doc, at, nil
}

// finish compiles what dynamic references may lead to.
func (c *compiler) finish() error {
	for _, address := range sortedKeysOf(c.resources) {
		res := c.resources[address]
		res.nodes = make(map[string]*node)
		whole := place{res: res, doc: address}
		for name := range res.dynamic {
			n, err := c.compile(res.anchors[name], whole)
			if err != nil {
				return err
			}
			res.nodes[name] = n
		}
		if res.recurses {
			n, err := c.compile(res.raw, whole)
			if err != nil {
				return err
			}
			res.nodes[""] = n
		}
	}
	return nil
}

// checkCircles refuses a schema that needs itself to judge the same value.
func (c *compiler) checkCircles() error {
	const under, done = 1, 2
	state := make(map[*node]int)
	var visit func(n *node) bool
	visit = func(n *node) bool {
		if n == nil || state[n] == done {
			return true
		}
		if state[n] == under {
			return false
		}
		state[n] = under
		for _, sub := range n.inPlace() {
			if !visit(sub) {
				return false
			}
		}
		state[n] = done
		return true
	}
	for m, n := range c.nodes {
		if !visit(n) {
			return c.invalid(c.places[m], "it refers to itself without end")
		}
	}
	return nil
}

// inPlace are the subschemas that judge the same value.
func (n *node) inPlace() []*node {
	list := []*node{n.ref, n.not, n.cond, n.yes, n.no}
	list = append(append(append(list, n.all...), n.any...), n.one...)
	for _, sub := range n.dependents {
		list = append(list, sub)
	}
	return list
}
