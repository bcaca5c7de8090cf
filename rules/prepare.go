package rules

import (
	"io/fs"
	"strings"
)

// Preparer is a [Language] that takes a while before it can compile anything.
type Preparer interface {
	// Prepare begins with what Compile will wait for, and returns at once. Compile
	// may be called without it.
	Prepare()
}

// Prepare has each [Preparer] begin whose files are in the folder, so that a [Engine.Load]
// of it waits the less. It goes by the files' names only: what is wrong with the folder
// is for Load to say. Whoever calls it and does not come to [Engine.Run] closes the
// languages.
func (e *Engine) Prepare(fsys fs.FS) {
	waiting := make(map[int]Preparer)
	for i, l := range e.lanes {
		if p, ok := l.lang.(Preparer); ok {
			waiting[i] = p
		}
	}
	_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case len(waiting) == 0:
			return fs.SkipAll
		case err != nil:
			return fs.SkipDir
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if lane, ok := e.laneOf(d.Name()); ok && !d.IsDir() && waiting[lane] != nil {
			waiting[lane].Prepare()
			delete(waiting, lane)
		}
		return nil
	})
}
