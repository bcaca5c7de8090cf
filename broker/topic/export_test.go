package topic

// Empty reports whether the tree has no branches left, which is more than having
// no pairs.
func (t *Tree[T]) Empty() bool { return t.root.empty() }
