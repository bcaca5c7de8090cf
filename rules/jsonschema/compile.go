package jsonschema

import (
	"encoding/json"
	"regexp"
	"slices"
)

// compile makes a node of a subschema, once.
func (c *compiler) compile(doc any, p place) (*node, error) {
	if always, ok := doc.(bool); ok && p.res.draft >= draft6 {
		return &node{res: p.res, always: &always}, nil
	}
	m, ok := doc.(map[string]any)
	if !ok {
		return nil, c.invalid(p, "a schema is an object, or true or false")
	}
	if known, ok := c.places[identity(m)]; ok {
		p = known
	}
	if n := c.nodes[identity(m)]; n != nil {
		return n, nil
	}
	n := &node{
		res: p.res, minLength: -1, maxLength: -1, minItems: -1, maxItems: -1,
		minContains: -1, maxContains: -1, minProps: -1, maxProps: -1,
	}
	c.nodes[identity(m)] = n
	if c.depth++; c.depth > maxDepth {
		return nil, c.invalid(p, "it is nested more than %d deep", maxDepth)
	}
	defer func() { c.depth-- }()
	if ref, ok := m["$ref"]; ok && p.res.draft <= draft7 { // which stands alone there
		return n, c.reference(n, p, "$ref", ref)
	}
	for _, key := range sortedKeys(m) {
		from, until := span(key)
		if p.res.draft < from || p.res.draft > until {
			continue
		}
		for _, group := range []func(*node, place, map[string]any, string) (bool, error){c.scalar, c.array, c.object, c.applicator} {
			mine, err := group(n, p.in(key), m, key)
			if err != nil {
				return nil, err
			}
			if mine {
				break
			}
		}
	}
	return n, nil
}

// span is in which drafts there is a keyword.
func span(key string) (from, until int) {
	switch key {
	case "dependencies":
		return draft4, draft7
	case "additionalItems", "$recursiveRef":
		return draft4, draft2019
	case "const", "contains", "propertyNames":
		return draft6, draft2020
	case "if", "then", "else":
		return draft7, draft2020
	case "minContains", "maxContains", "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties":
		return draft2019, draft2020
	case "prefixItems", "$dynamicRef":
		return draft2020, draft2020
	}
	return draft4, draft2020
}

// eachSubschema visits the subschemas of a schema, wherever a keyword has them.
func eachSubschema(m map[string]any, draft int, visit func(sub any, keys ...string) error) error {
	one := func(key string) error {
		if sub, ok := m[key].(map[string]any); ok {
			return visit(sub, key)
		}
		return nil
	}
	for _, key := range sortedKeys(m) {
		if from, until := span(key); draft < from || draft > until {
			continue
		}
		var err error
		switch key {
		case "not", "if", "then", "else", "contains", "propertyNames", "additionalProperties", "additionalItems",
			"unevaluatedItems", "unevaluatedProperties", "contentSchema":
			err = one(key)
		case "items", "allOf", "anyOf", "oneOf", "prefixItems":
			if err = one(key); err == nil {
				list, _ := m[key].([]any)
				for i, sub := range list {
					if err = visit(sub, key, index(i)); err != nil {
						break
					}
				}
			}
		case "properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies":
			object, _ := m[key].(map[string]any)
			for _, name := range sortedKeys(object) {
				if err = visit(object[name], key, name); err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scalar reads a keyword about types, numbers and texts.
func (c *compiler) scalar(n *node, p place, m map[string]any, key string) (mine bool, err error) {
	v := m[key]
	switch key {
	case "type":
		n.types, err = c.types(p, v)
	case "enum":
		list, ok := v.([]any)
		if !ok {
			return true, c.invalid(p, "enum is a list of values")
		}
		n.enum = make(map[string]bool, len(list))
		for _, item := range list {
			n.enum[string(canonical(nil, item))] = true
		}
	case "const":
		n.constant = string(canonical(nil, v))
	case "minimum", "exclusiveMinimum":
		err = c.limit(&n.min, p, m, key, "exclusiveMinimum", 1)
	case "maximum", "exclusiveMaximum":
		err = c.limit(&n.max, p, m, key, "exclusiveMaximum", -1)
	case "multipleOf":
		if n.multipleOf = numberOf(v); n.multipleOf == nil || n.multipleOf.Sign() <= 0 {
			err = c.invalid(p, "multipleOf is a number above 0")
		}
	case "minLength":
		n.minLength, err = c.count(p, v)
	case "maxLength":
		n.maxLength, err = c.count(p, v)
	case "pattern":
		n.pattern, err = c.pattern(p, v)
	case "format":
		name, ok := v.(string)
		if !ok {
			return true, c.invalid(p, "format is a name")
		}
		n.format = formatOf(name) // one that is not known is for the reader
	default:
		return false, nil
	}
	return true, err
}

// limit reads one of two keywords that bound a number from one side; side is the sign of
// the narrower one. In draft 4 the one that excludes is true or false.
func (c *compiler) limit(b **bound, p place, m map[string]any, key, excludes string, side int) error {
	v, exclusive := m[key], key == excludes
	if p.res.draft == draft4 {
		if exclusive {
			if _, ok := v.(bool); !ok {
				return c.invalid(p, "%s is true or false", key)
			}
			return nil
		}
		exclusive, _ = m[excludes].(bool)
	}
	r := numberOf(v)
	if r == nil {
		return c.invalid(p, "%s is a number", key)
	}
	if *b != nil {
		if d := r.Cmp((*b).rat) * side; d < 0 || d == 0 && !exclusive {
			return nil
		}
	}
	text, _ := v.(json.Number)
	*b = &bound{rat: r, text: string(text), exclusive: exclusive}
	return nil
}

func (c *compiler) types(p place, v any) (set kinds, err error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, item := range list {
		name, _ := item.(string)
		kind, ok := kindNames[name]
		if !ok {
			return 0, c.invalid(p, "a type is null, boolean, integer, number, string, array or object, not %s", canonical(nil, item))
		}
		set |= kind
	}
	if set == 0 {
		return 0, c.invalid(p, "the list of types is empty")
	}
	return set, nil
}

func (c *compiler) count(p place, v any) (int, error) {
	const most = 1 << 30
	r := numberOf(v)
	if r == nil || !r.IsInt() || r.Sign() < 0 {
		return 0, c.invalid(p, "it is a whole number from 0 on")
	}
	if !r.Num().IsInt64() || r.Num().Int64() > most {
		return most, nil
	}
	return int(r.Num().Int64()), nil
}

func (c *compiler) pattern(p place, v any) (*regexp.Regexp, error) {
	text, ok := v.(string)
	if !ok {
		return nil, c.invalid(p, "a pattern is a text")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, c.invalid(p, "%v", err)
	}
	return re, nil
}

// array reads a keyword about lists.
func (c *compiler) array(n *node, p place, m map[string]any, key string) (mine bool, err error) {
	v := m[key]
	switch key {
	case "minItems":
		n.minItems, err = c.count(p, v)
	case "maxItems":
		n.maxItems, err = c.count(p, v)
	case "uniqueItems":
		var ok bool
		if n.unique, ok = v.(bool); !ok {
			err = c.invalid(p, "uniqueItems is true or false")
		}
	case "prefixItems":
		n.prefix, err = c.nodesOf(p, v)
	case "items":
		if _, list := v.([]any); list && p.res.draft < draft2020 {
			n.prefix, err = c.nodesOf(p, v)
		} else {
			n.items, err = c.compile(v, p)
		}
	case "additionalItems":
		if _, list := m["items"].([]any); list {
			n.items, err = c.compile(v, p)
		}
	case "contains":
		n.contains, err = c.compile(v, p)
	case "minContains":
		n.minContains, err = c.count(p, v)
	case "maxContains":
		n.maxContains, err = c.count(p, v)
	case "unevaluatedItems":
		n.restItems, err = c.compile(v, p)
	default:
		return false, nil
	}
	return true, err
}

// object reads a keyword about objects.
func (c *compiler) object(n *node, p place, m map[string]any, key string) (mine bool, err error) {
	v := m[key]
	switch key {
	case "minProperties":
		n.minProps, err = c.count(p, v)
	case "maxProperties":
		n.maxProps, err = c.count(p, v)
	case "required":
		n.required, err = c.names(p, v)
	case "properties":
		n.props, err = c.nodesByName(p, v)
	case "patternProperties":
		var byName map[string]*node
		if byName, err = c.nodesByName(p, v); err != nil {
			break
		}
		for _, text := range sortedKeys(v.(map[string]any)) {
			re, err := c.pattern(p.in(text), text)
			if err != nil {
				return true, err
			}
			n.patterns = append(n.patterns, patternNode{re, byName[text]})
		}
	case "additionalProperties":
		n.additional, err = c.compile(v, p)
	case "propertyNames":
		n.propNames, err = c.compile(v, p)
	case "dependentRequired":
		err = c.dependencies(n, p, v, true, false)
	case "dependentSchemas":
		err = c.dependencies(n, p, v, false, true)
	case "dependencies":
		err = c.dependencies(n, p, v, true, true)
	case "unevaluatedProperties":
		n.restProps, err = c.compile(v, p)
	default:
		return false, nil
	}
	return true, err
}

// dependencies reads what an object needs that has a property: others, or to follow a schema.
func (c *compiler) dependencies(n *node, p place, v any, names, schemas bool) error {
	object, ok := v.(map[string]any)
	if !ok {
		return c.invalid(p, "it is an object")
	}
	if n.needs == nil {
		n.needs = make(map[string][]string)
	}
	if n.dependents == nil {
		n.dependents = make(map[string]*node)
	}
	for _, key := range sortedKeys(object) {
		var err error
		if _, list := object[key].([]any); names && (list || !schemas) {
			n.needs[key], err = c.names(p.in(key), object[key])
		} else {
			n.dependents[key], err = c.compile(object[key], p.in(key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// applicator reads a keyword whose subschemas judge the same value.
func (c *compiler) applicator(n *node, p place, m map[string]any, key string) (mine bool, err error) {
	v := m[key]
	switch key {
	case "allOf":
		n.all, err = c.nodesOf(p, v)
	case "anyOf":
		n.any, err = c.nodesOf(p, v)
	case "oneOf":
		n.one, err = c.nodesOf(p, v)
	case "not":
		n.not, err = c.compile(v, p)
	case "if":
		n.cond, err = c.compile(v, p)
	case "then":
		n.yes, err = c.compile(v, p)
	case "else":
		n.no, err = c.compile(v, p)
	case "$ref":
		err = c.reference(n, p, key, v)
	case "$dynamicRef", "$recursiveRef":
		var sub node
		if err = c.reference(&sub, p, key, v); err == nil {
			if n.ref != nil { // beside a $ref
				sub.res = n.res
				n.all = append(slices.Clip(n.all), &sub)
			} else {
				n.ref, n.dynamic, n.recursive = sub.ref, sub.dynamic, sub.recursive
			}
		}
	case "$defs", "definitions":
		_, err = c.nodesByName(p, v)
	default:
		return false, nil
	}
	return true, err
}

// reference compiles what a reference leads to.
func (c *compiler) reference(n *node, p place, key string, v any) error {
	ref, ok := v.(string)
	if !ok {
		return c.invalid(p, "a reference is a text")
	}
	doc, at, err := c.find(ref, p)
	if err != nil {
		return err
	}
	if n.ref, err = c.compile(doc, at); err != nil {
		return err
	}
	switch key {
	case "$dynamicRef":
		if name, ok := anchorOf(doc); ok && at.res.dynamic[name] && hasFragment(ref, name) {
			n.dynamic = name
		}
	case "$recursiveRef":
		if at.res.recurses {
			n.recursive = "#"
		}
	}
	return nil
}

func anchorOf(doc any) (string, bool) {
	m, _ := doc.(map[string]any)
	name, ok := m["$dynamicAnchor"].(string)
	return name, ok
}

func (c *compiler) nodesOf(p place, v any) ([]*node, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, c.invalid(p, "it is a list of schemas")
	}
	nodes := make([]*node, len(list))
	for i, sub := range list {
		var err error
		if nodes[i], err = c.compile(sub, p.in(index(i))); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (c *compiler) nodesByName(p place, v any) (map[string]*node, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, c.invalid(p, "it is an object of schemas")
	}
	nodes := make(map[string]*node, len(object))
	for _, name := range sortedKeys(object) {
		var err error
		if nodes[name], err = c.compile(object[name], p.in(name)); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (c *compiler) names(p place, v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, c.invalid(p, "it is a list of names")
	}
	names := make([]string, len(list))
	for i, item := range list {
		if names[i], ok = item.(string); !ok {
			return nil, c.invalid(p.in(index(i)), "a name is a text")
		}
	}
	return names, nil
}
