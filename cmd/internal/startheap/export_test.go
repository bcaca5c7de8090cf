//go:build linux && (amd64 || arm64)

package startheap

// Asked are the first addresses of the memory that huge pages were asked for.
func Asked() (all []uintptr) {
	asked.Lock()
	defer asked.Unlock()
	for _, e := range asked.extents {
		all = append(all, e.from)
	}
	return all
}
