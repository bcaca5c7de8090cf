package topic

import (
	"iter"
	"slices"
	"strings"
)

// Tree is a set of pairs of topic filter and value, found by topic name. The zero
// value is an empty tree. It is not safe for concurrent use: whoever shares one
// holds a lock around each call, and around the whole of a Match.
type Tree[T comparable] struct {
	root node[T]
	size int
}

type node[T comparable] struct {
	values   []T                 // of the filter that ends here
	many     []T                 // of the filter that ends in "#" below here
	children map[string]*node[T] // by the text of the next level
	one      *node[T]            // below "+"
}

// Add puts the pair into the tree and reports whether it was new. The filter must
// be valid by [ValidFilter].
func (t *Tree[T]) Add(filter string, value T) bool {
	n := &t.root
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" {
			return t.insert(&n.many, value)
		}
		n = n.below(level)
	}
	return t.insert(&n.values, value)
}

func (t *Tree[T]) insert(values *[]T, value T) bool {
	if slices.Contains(*values, value) {
		return false
	}
	*values = append(*values, value)
	t.size++
	return true
}

func (n *node[T]) below(level string) *node[T] {
	if level == "+" {
		if n.one == nil {
			n.one = &node[T]{}
		}
		return n.one
	}
	child := n.children[level]
	if child == nil {
		child = &node[T]{}
		if n.children == nil {
			n.children = make(map[string]*node[T])
		}
		n.children[strings.Clone(level)] = child
	}
	return child
}

// Remove takes the pair out of the tree, with the branches that it leaves empty,
// and reports whether it was there.
func (t *Tree[T]) Remove(filter string, value T) bool {
	removed := t.root.remove(filter, true, value)
	if removed {
		t.size--
	}
	return removed
}

func (n *node[T]) remove(filter string, more bool, value T) bool {
	if !more {
		return takeOut(&n.values, value)
	}
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return takeOut(&n.many, value)
	case "+":
		removed := n.one != nil && n.one.remove(rest, more, value)
		if removed && n.one.empty() {
			n.one = nil
		}
		return removed
	default:
		child := n.children[level]
		removed := child != nil && child.remove(rest, more, value)
		if removed && child.empty() {
			delete(n.children, level)
		}
		return removed
	}
}

func takeOut[T comparable](values *[]T, value T) bool {
	i := slices.Index(*values, value)
	if i < 0 {
		return false
	}
	*values = slices.Delete(*values, i, i+1)
	return true
}

func (n *node[T]) empty() bool {
	return len(n.values) == 0 && len(n.many) == 0 && len(n.children) == 0 && n.one == nil
}

// Len is the number of pairs.
func (t *Tree[T]) Len() int { return t.size }

// Match yields the value of each filter that matches the topic name, once a pair:
// a value under two matching filters comes twice. The tree must not change while
// the sequence is read.
func (t *Tree[T]) Match(name string) iter.Seq[T] {
	return func(yield func(T) bool) {
		t.root.match(name, true, strings.HasPrefix(name, "$"), yield)
	}
}

// match goes down with the rest of the name; more says whether a level is left,
// and hidden that this level must not be met by a wildcard.
func (n *node[T]) match(rest string, more, hidden bool, yield func(T) bool) bool {
	if !hidden && !yieldAll(n.many, yield) {
		return false
	}
	if !more {
		return yieldAll(n.values, yield)
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children[level]; child != nil && !child.match(rest, more, false, yield) {
		return false
	}
	return hidden || n.one == nil || n.one.match(rest, more, false, yield)
}

func yieldAll[T any](values []T, yield func(T) bool) bool {
	for _, v := range values {
		if !yield(v) {
			return false
		}
	}
	return true
}
