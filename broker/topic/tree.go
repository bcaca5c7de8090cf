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
	values   set[T]      // of the filter that ends here
	many     set[T]      // of the filter that ends in "#" below here
	children branches[T] // by the text of the next level
	one      *node[T]    // below "+"
}

// branches are nodes by text. Most nodes have one or two, for which a map would take ten
// times the memory.
type branches[T comparable] struct {
	few  []branch[T]
	many map[string]*node[T] // instead of few
}

type branch[T comparable] struct {
	text string
	node *node[T]
}

const fewBranches = 4

func (b *branches[T]) get(text string) *node[T] {
	if b.many != nil {
		return b.many[text]
	}
	for i := range b.few {
		if b.few[i].text == text {
			return b.few[i].node
		}
	}
	return nil
}

// put adds a node of a text that has none.
func (b *branches[T]) put(text string, n *node[T]) {
	if b.many == nil && len(b.few) < fewBranches {
		b.few = append(b.few, branch[T]{text, n})
		return
	}
	if b.many == nil {
		b.many = make(map[string]*node[T], 2*fewBranches)
		for _, few := range b.few {
			b.many[few.text] = few.node
		}
		b.few = nil
	}
	b.many[text] = n
}

func (b *branches[T]) remove(text string) {
	delete(b.many, text)
	b.few = slices.DeleteFunc(b.few, func(f branch[T]) bool { return f.text == text })
}

func (b *branches[T]) empty() bool { return len(b.few)+len(b.many) == 0 }

// set is the values of one filter. Most have one, which is here and not behind a
// pointer more: in a large tree each costs a look into memory that no cache has.
type set[T comparable] struct {
	n    int
	one  T
	more []T // all but one
}

func (s *set[T]) add(v T) bool {
	switch {
	case s.n == 0:
		s.one = v
	case s.one == v || slices.Contains(s.more, v):
		return false
	default:
		s.more = append(s.more, v)
	}
	s.n++
	return true
}

func (s *set[T]) remove(v T) bool {
	if s.n == 0 {
		return false
	}
	at := slices.Index(s.more, v)
	switch {
	case at >= 0:
	case s.one != v:
		return false
	case s.n == 1:
		*s = set[T]{}
		return true
	default: // the next one takes its place
		s.one, at = s.more[0], 0
	}
	s.more = slices.Delete(s.more, at, at+1)
	s.n--
	return true
}

func (s *set[T]) yield(yield func(T) bool) bool {
	if s.n == 0 {
		return true
	}
	if !yield(s.one) {
		return false
	}
	for _, v := range s.more {
		if !yield(v) {
			return false
		}
	}
	return true
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

func (t *Tree[T]) insert(values *set[T], value T) bool {
	if !values.add(value) {
		return false
	}
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
	child := n.children.get(level)
	if child == nil {
		child = &node[T]{}
		n.children.put(strings.Clone(level), child)
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
		return n.values.remove(value)
	}
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return n.many.remove(value)
	case "+":
		removed := n.one != nil && n.one.remove(rest, more, value)
		if removed && n.one.empty() {
			n.one = nil
		}
		return removed
	default:
		child := n.children.get(level)
		removed := child != nil && child.remove(rest, more, value)
		if removed && child.empty() {
			n.children.remove(level)
		}
		return removed
	}
}

func (n *node[T]) empty() bool {
	return n.values.n == 0 && n.many.n == 0 && n.children.empty() && n.one == nil
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
	if !hidden && !n.many.yield(yield) {
		return false
	}
	if !more {
		return n.values.yield(yield)
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children.get(level); child != nil && !child.match(rest, more, false, yield) {
		return false
	}
	return hidden || n.one == nil || n.one.match(rest, more, false, yield)
}
