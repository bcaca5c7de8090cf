package rules

import (
	"fmt"
	"maps"
	"sync"
)

// Bounds of the state of one file. A change past them is refused with an error.
const (
	MaxStateKeys  = 10_000
	MaxStateBytes = 1 << 20
)

// Bounds of what the programs of one file have saved.
const (
	maxMemoryKeys  = 1 << 16
	maxMemoryBytes = 4 << 20
)

// State is the durable state of one rule file: JSON values under keys. It stays
// when a new version of the file comes, and when the script worker dies. Its
// methods may be called by any goroutine.
type State struct {
	mu     sync.Mutex
	values map[string][]byte
	bytes  int
	memory bool // it is what programs have saved
	beside any
}

// newMemory returns one that holds what programs have saved.
func newMemory(values map[string][]byte) *State {
	s := NewState(values)
	s.memory = true
	return s
}

// bounds are how many keys and bytes it may hold.
func (s *State) bounds() (keys, bytes int) {
	if s.memory {
		return maxMemoryKeys, maxMemoryBytes
	}
	return MaxStateKeys, MaxStateBytes
}

// NewState returns a state that holds values, which it keeps.
func NewState(values map[string][]byte) *State {
	s := &State{}
	s.fill(values)
	return s
}

// fill has the state hold values, which it keeps, and nothing else.
func (s *State) fill(values map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if values == nil {
		values = make(map[string][]byte)
	}
	s.values, s.bytes = values, 0
	for k, v := range values {
		s.bytes += len(k) + len(v)
	}
}

// Beside returns what the language of the file keeps beside the values, for the versions
// that come, as long as the process lives. It is what fresh returns when first asked.
func (s *State) Beside(fresh func() any) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beside == nil {
		s.beside = fresh()
	}
	return s.beside
}

// Apply makes the changes in order; on an error none is made.
func (s *State) Apply(changes []StateChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	values, size := s.values, s.bytes
	keys := len(values)
	var changed map[string][]byte // by those before; one change, the usual, needs none
	if len(changes) > 1 {
		changed = make(map[string][]byte, len(changes))
	}
	for _, c := range changes {
		old, had := values[c.Key]
		if now, again := changed[c.Key]; again {
			old, had = now, now != nil
		}
		if had {
			size -= len(c.Key) + len(old)
			keys--
		}
		if c.Value != nil {
			size += len(c.Key) + len(c.Value)
			keys++
		}
		if changed != nil {
			changed[c.Key] = c.Value
		}
	}
	if mostKeys, mostBytes := s.bounds(); keys > mostKeys || size > mostBytes {
		return fmt.Errorf("state of %d keys and %d bytes is over the limit of %d keys and %d bytes", keys, size, mostKeys, mostBytes)
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(values, c.Key)
		} else {
			values[c.Key] = c.Value
		}
	}
	s.bytes = size
	return nil
}

// Value returns the JSON under key, nil if there is none. It must not be written.
func (s *State) Value(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key]
}

// Snapshot is a copy of the values, whose bytes must not be written.
func (s *State) Snapshot() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}
