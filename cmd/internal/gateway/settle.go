package gateway

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Most programs that save a file empty it first. An empty file of rules, users or
// devices is valid, and what it said would be gone until the rest has come. So a
// running gateway looks again before it believes that a file is empty.
const (
	lookAgain = 100 * time.Millisecond
	looks     = 20
)

// settler waits for files that are being saved.
type settler struct {
	mu    sync.Mutex
	empty map[string]bool // files that are known to be
}

// settle waits until no file at or below the paths is empty but those that were so
// before, for two seconds at most, or until ctx ends. Paths may be missing, or empty.
func (s *settler) settle(ctx context.Context, paths ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var empty map[string]bool
	for range looks {
		empty = emptyFiles(paths)
		if s.knows(empty) {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
	}
	s.empty = empty
}

func (s *settler) knows(empty map[string]bool) bool {
	for path := range empty {
		if !s.empty[path] {
			return false
		}
	}
	return true
}

func emptyFiles(paths []string) map[string]bool {
	empty := make(map[string]bool)
	for _, root := range paths {
		if root == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(root); err == nil { // else it would not be entered
			root = real
		}
		_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // who reads the files says what is wrong with them
			}
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
				empty[path] = true
			}
			return nil
		})
	}
	return empty
}
