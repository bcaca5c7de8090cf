package jsonschema

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func index(i int) string { return strconv.Itoa(i) }

// hasFragment reports whether a reference ends in #name.
func hasFragment(ref, name string) bool { return strings.HasSuffix(ref, "#"+name) }

// maxWork is how many subschemas one check applies at most.
const maxWork = 1_000_000

// check is one run of Validate.
type check struct {
	work  int
	scope []*resource // that judge the value at hand, the outermost first
	stuck bool
}

// Validate returns nil if the value follows the schema, else a [*Fault], or [ErrWork]. A
// value is what [Decode] gives, or has int, int64 or float64 as numbers.
func (s *Schema) Validate(v any) error {
	c := &check{}
	fault := c.apply(s.root, v, "", nil)
	switch {
	case c.stuck:
		return ErrWork
	case fault != nil:
		return fault
	}
	return nil
}

// seen is what of a value subschemas have looked at, and found right.
type seen struct {
	props map[string]bool
	items int // as many, from the first on
	more  map[int]bool
}

func (s *seen) prop(name string) {
	if s.props == nil {
		s.props = make(map[string]bool)
	}
	s.props[name] = true
}

func (s *seen) item(i int) {
	if s.more == nil {
		s.more = make(map[int]bool)
	}
	s.more[i] = true
}

func (s *seen) join(o *seen) {
	for name := range o.props {
		s.prop(name)
	}
	s.items = max(s.items, o.items)
	for i := range o.more {
		s.item(i)
	}
}

func fault(at, format string, args ...any) *Fault {
	return &Fault{At: at, Msg: fmt.Sprintf(format, args...)}
}

// apply judges a value by a node. What it has looked at is added to into, if that is not
// nil and the value is right.
func (c *check) apply(n *node, v any, at string, into *seen) *Fault {
	if c.work++; c.work > maxWork || len(c.scope) > 10*maxDepth {
		c.stuck = true
	}
	if c.stuck {
		return fault(at, "%v", ErrWork)
	}
	if n.always != nil {
		if !*n.always {
			return fault(at, "nothing is allowed here")
		}
		return nil
	}
	c.scope = append(c.scope, n.res)
	defer func() { c.scope = c.scope[:len(c.scope)-1] }()
	var own seen
	if f := c.scalar(n, v, at); f != nil {
		return f
	}
	if f := c.inPlace(n, v, at, &own); f != nil {
		return f
	}
	switch v := v.(type) {
	case []any:
		if f := c.array(n, v, at, &own); f != nil {
			return f
		}
	case map[string]any:
		if f := c.object(n, v, at, &own); f != nil {
			return f
		}
	}
	if into != nil {
		into.join(&own)
	}
	return nil
}

// canonical is a text that equal values share; a long one counts as work.
func (c *check) canonical(v any) string {
	text := canonical(nil, v)
	c.work += len(text) / 100
	return string(text)
}

// scalar judges by what needs no subschema.
func (c *check) scalar(n *node, v any, at string) *Fault {
	if n.types != 0 {
		if kind := kindOf(v); kind&n.types == 0 {
			return fault(at, "got %s, want %s", wider(kind), n.types)
		}
	}
	if n.enum != nil || n.constant != "" {
		text := c.canonical(v)
		if n.enum != nil && !n.enum[text] || n.constant != "" && text != n.constant {
			return fault(at, "it is none of the values that are allowed")
		}
	}
	if s, ok := v.(string); ok {
		if f := text(n, s, at); f != nil {
			return f
		}
	}
	if n.min != nil || n.max != nil || n.multipleOf != nil {
		if r := numberOf(v); r != nil {
			return number(n, r, at)
		}
	}
	return nil
}

// wider is the type of a value by which it is named.
func wider(kind kinds) kinds {
	if kind == isInteger {
		return isNumber
	}
	return kind
}

func text(n *node, s, at string) *Fault {
	if n.minLength >= 0 || n.maxLength >= 0 {
		length := utf8.RuneCountInString(s)
		if n.minLength >= 0 && length < n.minLength {
			return fault(at, "%d characters are less than %d", length, n.minLength)
		}
		if n.maxLength >= 0 && length > n.maxLength {
			return fault(at, "%d characters are more than %d", length, n.maxLength)
		}
	}
	if n.pattern != nil && !n.pattern.MatchString(s) {
		return fault(at, "it does not match %q", n.pattern)
	}
	if n.format != nil && !n.format.is(s) {
		return fault(at, "%.100q is not a valid %s", s, n.format.name)
	}
	return nil
}

func number(n *node, r *big.Rat, at string) *Fault {
	switch {
	case n.min != nil && (r.Cmp(n.min.rat) < 0 || n.min.exclusive && r.Cmp(n.min.rat) == 0):
		return fault(at, "it is less than %s, or not above it", n.min.text)
	case n.max != nil && (r.Cmp(n.max.rat) > 0 || n.max.exclusive && r.Cmp(n.max.rat) == 0):
		return fault(at, "it is more than %s, or not below it", n.max.text)
	case n.multipleOf != nil && !new(big.Rat).Quo(r, n.multipleOf).IsInt():
		return fault(at, "it is no multiple of %s", n.multipleOf.RatString())
	}
	return nil
}

// inPlace judges by subschemas for the same value.
func (c *check) inPlace(n *node, v any, at string, own *seen) *Fault {
	if n.ref != nil {
		if f := c.apply(c.target(n), v, at, own); f != nil {
			return f
		}
	}
	for _, sub := range n.all {
		if f := c.apply(sub, v, at, own); f != nil {
			return f
		}
	}
	if n.any != nil {
		var first *Fault
		right := 0
		for _, sub := range n.any { // all of them: each may have looked at something else
			if f := c.apply(sub, v, at, own); f == nil {
				right++
			} else if first == nil {
				first = f
			}
		}
		if right == 0 {
			return first
		}
	}
	if n.one != nil {
		var first *Fault
		right := 0
		for _, sub := range n.one {
			if f := c.apply(sub, v, at, own); f == nil {
				right++
			} else if first == nil {
				first = f
			}
		}
		switch {
		case right > 1:
			return fault(at, "%d of the schemas of oneOf are followed, not one", right)
		case right == 0:
			return first
		}
	}
	if n.not != nil && c.apply(n.not, v, at, nil) == nil {
		return fault(at, "it follows what it must not")
	}
	return c.conditional(n, v, at, own)
}

func (c *check) conditional(n *node, v any, at string, own *seen) *Fault {
	if n.cond != nil {
		next := n.yes
		if c.apply(n.cond, v, at, own) != nil {
			next = n.no
		}
		if next != nil {
			if f := c.apply(next, v, at, own); f != nil {
				return f
			}
		}
	}
	object, _ := v.(map[string]any)
	for _, key := range sortedKeysOf(n.needs) {
		if _, has := object[key]; !has {
			continue
		}
		for _, name := range n.needs[key] {
			if _, has := object[name]; !has {
				return fault(at, "%q is missing, which %q needs", name, key)
			}
		}
	}
	for _, key := range sortedKeysOf(n.dependents) {
		if _, has := object[key]; has {
			if f := c.apply(n.dependents[key], v, at, own); f != nil {
				return f
			}
		}
	}
	return nil
}

func sortedKeysOf[T any](m map[string]T) []string {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// target is where a reference leads: a dynamic one to the outermost resource that judges
// the value at hand and has an anchor of that name.
func (c *check) target(n *node) *node {
	for _, res := range c.scope {
		switch {
		case n.dynamic != "" && res.dynamic[n.dynamic]:
			return res.nodes[n.dynamic]
		case n.recursive != "" && res.recurses:
			return res.nodes[""]
		}
	}
	return n.ref
}

// array judges the items of a list.
func (c *check) array(n *node, list []any, at string, own *seen) *Fault {
	if n.minItems >= 0 && len(list) < n.minItems {
		return fault(at, "%d items are less than %d", len(list), n.minItems)
	}
	if n.maxItems >= 0 && len(list) > n.maxItems {
		return fault(at, "%d items are more than %d", len(list), n.maxItems)
	}
	if n.unique {
		known := make(map[string]int, len(list))
		for i, item := range list {
			text := c.canonical(item)
			if j, twice := known[text]; twice {
				return fault(at, "items %d and %d are equal", j, i)
			}
			known[text] = i
		}
	}
	for i, item := range list {
		sub := n.items
		if i < len(n.prefix) {
			sub = n.prefix[i]
		}
		if sub == nil {
			break
		}
		own.items = max(own.items, i+1)
		if f := c.apply(sub, item, at+"/"+index(i), nil); f != nil {
			return f
		}
	}
	if f := c.contains(n, list, at, own); f != nil {
		return f
	}
	if n.restItems != nil {
		for i := own.items; i < len(list); i++ {
			if own.more[i] {
				continue
			}
			if f := c.apply(n.restItems, list[i], at+"/"+index(i), nil); f != nil {
				return f
			}
		}
		own.items = len(list)
	}
	return nil
}

func (c *check) contains(n *node, list []any, at string, own *seen) *Fault {
	if n.contains == nil {
		return nil
	}
	found := 0
	for i, item := range list {
		if c.apply(n.contains, item, at+"/"+index(i), nil) == nil {
			found++
			if n.res.draft >= draft2020 {
				own.item(i)
			}
		}
	}
	least := 1
	if n.minContains >= 0 {
		least = n.minContains
	}
	switch {
	case found < least:
		return fault(at, "%d items are as contains wants them, less than %d", found, least)
	case n.maxContains >= 0 && found > n.maxContains:
		return fault(at, "%d items are as contains wants them, more than %d", found, n.maxContains)
	}
	return nil
}

// object judges the properties of an object.
func (c *check) object(n *node, object map[string]any, at string, own *seen) *Fault {
	if n.minProps >= 0 && len(object) < n.minProps {
		return fault(at, "%d properties are less than %d", len(object), n.minProps)
	}
	if n.maxProps >= 0 && len(object) > n.maxProps {
		return fault(at, "%d properties are more than %d", len(object), n.maxProps)
	}
	for _, name := range n.required {
		if _, has := object[name]; !has {
			return fault(at, "%q is missing", name)
		}
	}
	if n.props == nil && n.patterns == nil && n.additional == nil && n.propNames == nil && n.restProps == nil {
		return nil
	}
	names := sortedKeys(object)
	for _, name := range names {
		if f := c.property(n, name, object[name], at, own); f != nil {
			return f
		}
	}
	if n.restProps == nil {
		return nil
	}
	for _, name := range names {
		if own.props[name] {
			continue
		}
		if f := c.apply(n.restProps, object[name], pointer(at, name), nil); f != nil {
			return f
		}
		own.prop(name)
	}
	return nil
}

func (c *check) property(n *node, name string, v any, at string, own *seen) *Fault {
	if n.propNames != nil {
		if f := c.apply(n.propNames, name, at, nil); f != nil {
			return fault(at, "the name %.100q: %s", name, f.Msg)
		}
	}
	looked := false
	if sub := n.props[name]; sub != nil {
		looked = true
		if f := c.apply(sub, v, pointer(at, name), nil); f != nil {
			return f
		}
	}
	for _, p := range n.patterns {
		if !p.pattern.MatchString(name) {
			continue
		}
		looked = true
		if f := c.apply(p.node, v, pointer(at, name), nil); f != nil {
			return f
		}
	}
	if !looked && n.additional != nil {
		looked = true
		if n.additional.always != nil && !*n.additional.always {
			return fault(at, "%.100q is not one of its properties", name)
		}
		if f := c.apply(n.additional, v, pointer(at, name), nil); f != nil {
			return f
		}
	}
	if looked {
		own.prop(name)
	}
	return nil
}

func pointer(at, name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return at + "/" + name
}
