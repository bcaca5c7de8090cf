package history

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bucket is where the chunks are in the store.
const bucket = "history"

// chunkSpan is the most time that a chunk is about.
const chunkSpan = 24 * time.Hour

// key names a chunk: the keys of a series are in the order of time.
func key(series string, first int64) string { return fmt.Sprintf("%s\x00%016x", series, uint64(first)) }

func splitKey(key string) (series string, first int64, ok bool) {
	series, hex, ok := strings.Cut(key, "\x00")
	n, err := strconv.ParseUint(hex, 16, 63)
	return series, int64(n), ok && err == nil && len(hex) == 16
}

// ref is a chunk that is complete.
type ref struct {
	first int64
	size  int32
}

// series is what one series holds: chunks that are complete, by their first time, and
// one that is open.
type series struct {
	refs  []ref
	open  chunk
	saved int32 // bytes of the open chunk as the store has it, 0 if not
	dirty bool  // the open chunk is newer than that
}

// find is where a chunk is or belongs.
func (s *series) find(first int64) (int, bool) {
	return slices.BinarySearchFunc(s.refs, first, func(r ref, first int64) int { return cmp.Compare(r.first, first) })
}

// free is a first time from ms on that no chunk has.
func (s *series) free(ms int64) int64 {
	for {
		if _, taken := s.find(ms); !taken {
			return ms
		}
		ms++
	}
}

// takes reports whether a point goes into the open chunk.
func (s *series) takes(ms int64) bool {
	return s.open.n == 0 || !s.open.full() && ms >= s.open.last && ms-s.open.first < chunkSpan.Milliseconds()
}

// seal makes the open chunk one that is complete, and returns its bytes.
func (s *series) seal() (first int64, data []byte) {
	first, data = s.open.first, s.open.append(nil)
	i, _ := s.find(first)
	s.refs = slices.Insert(s.refs, i, ref{first: first, size: int32(len(data))})
	s.open, s.saved, s.dirty = chunk{}, 0, false
	return first, data
}
