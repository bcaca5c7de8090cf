package gateway

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of a watch: an editor writes a file in several steps, so a change counts
// when nothing more has come for settle, but at the latest after settleMost.
const (
	settle     = 200 * time.Millisecond
	settleMost = 2 * time.Second
)

// Watch calls changed soon after it began, since files may have changed just
// before, and after files in the folder, or in folders below it, have changed. A
// folder that is missing is waited for. A path of a file watches the file, through
// the folder that it is in, because editors replace files. A path that is a link is
// followed, and so is the link when it comes to name another; links in the folder are
// not. It blocks until ctx ends.
func Watch(ctx context.Context, log *slog.Logger, path string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // it only reads
	t := &tree{watcher: w, path: filepath.Clean(path), log: log}
	t.cover()
	var first time.Time // of the changes that wait
	timer := time.NewTimer(settle)
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-w.Events:
			if !t.concerns(ev) {
				continue
			}
			if first.IsZero() {
				first = time.Now()
			}
			timer.Reset(max(0, min(settle, settleMost-time.Since(first))))
		case err := <-w.Errors:
			log.Warn("file watching is degraded", "path", t.path, "error", err)
			timer.Reset(settle)
		case <-timer.C:
			first = time.Time{}
			t.cover() // folders may have come
			changed()
		}
	}
}

// tree is what is watched of a path: it and the folders below it or, while it is
// missing, the nearest folder above it that is there.
type tree struct {
	watcher *fsnotify.Watcher
	path    string
	real    string // path without links, as of the last cover
	log     *slog.Logger
}

// maxFolders bounds the folders that one watch covers.
const maxFolders = 1000

// cover watches what there is to watch now.
func (t *tree) cover() {
	t.real = resolved(t.path)
	t.above(t.path) // first: what comes meanwhile is heard
	t.above(t.real)
	n := 0
	var wrong error // the first
	_ = filepath.WalkDir(t.real, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			if n++; n > maxFolders {
				t.log.Warn("too many folders to watch", "path", t.path, "limit", maxFolders)
				return fs.SkipAll
			}
			err = t.watcher.Add(path)
		}
		if wrong == nil && !errors.Is(err, fs.ErrNotExist) {
			wrong = err
		}
		return nil // what stands beside it is watched
	})
	if wrong != nil {
		t.log.Warn("cannot watch all of a folder", "path", t.path, "error", wrong)
	}
}

// above watches the nearest folder above path that is there.
func (t *tree) above(path string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			if err := t.watcher.Add(dir); err != nil {
				t.log.Warn("cannot watch a folder", "path", dir, "error", err)
			}
			return
		}
		if dir == filepath.Dir(dir) {
			return
		}
	}
}

// concerns reports whether the event is about the path, something below it, or a
// folder above it that has to come first.
func (t *tree) concerns(ev fsnotify.Event) bool {
	for _, path := range []string{t.path, t.real} {
		if within(path, ev.Name) || within(ev.Name, path) {
			return true
		}
	}
	return resolved(t.path) != t.real // a link on the way was swapped
}

// resolved is path without links or, if it is missing, as it is.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !filepath.IsAbs(rel) && !startsAbove(rel)
}

func startsAbove(rel string) bool {
	return len(rel) > 2 && rel[:3] == ".."+string(filepath.Separator)
}
