package broker

// ring is a queue of values that grows as needed and gives its memory back when
// it is empty. Its size is a power of two. The zero value is empty.
type ring[T any] struct {
	buf  []T
	head int
	n    int
}

func (r *ring[T]) len() int { return r.n }

// at is the i-th value, 0 the oldest.
func (r *ring[T]) at(i int) *T { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring[T]) push(v T) {
	r.grow()
	r.n++
	*r.at(r.n - 1) = v
}

// pushFront makes v the oldest.
func (r *ring[T]) pushFront(v T) {
	r.grow()
	r.n++
	r.head = (r.head - 1) & (len(r.buf) - 1)
	*r.at(0) = v
}

// grow has room for one more.
func (r *ring[T]) grow() {
	if r.n < len(r.buf) {
		return
	}
	grown := make([]T, max(8, 2*len(r.buf)))
	for i := range r.n {
		grown[i] = *r.at(i)
	}
	r.buf, r.head = grown, 0
}

func (r *ring[T]) pop() T {
	var zero T
	v := *r.at(0)
	*r.at(0) = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if r.n == 0 && len(r.buf) > 64 {
		r.buf, r.head = nil, 0
	}
	return v
}

// keep drops all values but those that f wants.
func (r *ring[T]) keep(f func(*T) bool) {
	for range r.n {
		v := r.pop()
		if f(&v) {
			r.push(v)
		}
	}
}
