package disk

import (
	"maps"
	"slices"
)

// Buckets lists the buckets that have keyed records, in order.
func (s *Store) Buckets() []string {
	s.ix.Lock()
	defer s.ix.Unlock()
	found := make(map[string]struct{})
	for p := range s.x.store.parts {
		if p.kind == partRecord {
			bucket, _, _ := splitName(p.name)
			found[bucket] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
