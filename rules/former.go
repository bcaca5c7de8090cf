package rules

import (
	"bytes"
	"context"
	"io/fs"
	"iter"
)

// FormerFS is a folder that knows what it was: a file that is broken when the engine starts
// has its last good version serve, as one that breaks while it runs.
type FormerFS interface {
	fs.FS
	// Former gives the files of the folder, by their paths, as of the versions in which a
	// file was right, the newest first. They are not to be changed. It may be called by
	// several goroutines at once.
	Former(name string) iter.Seq[map[string][]byte]
}

// mostFormer is how many versions of a file are tried: the newest may need what the
// languages do not take any more.
const mostFormer = 3

// makeFormer compiles the last good version of a file, nil if there is none.
func (e *Engine) makeFormer(ctx context.Context, lib *library, name string, lane int) *unit {
	folder, ok := lib.fsys.(FormerFS)
	if !ok {
		return nil
	}
	tried, last := 0, []byte(nil)
	for texts := range folder.Former(name) {
		if text := texts[name]; tried == 0 || !bytes.Equal(text, last) { // else only other files differ
			tried, last = tried+1, text
		}
		if tried > mostFormer || ctx.Err() != nil {
			break
		}
		u, err := e.makeUnit(ctx, lib.former(texts), name, found{lane: lane, text: texts[name]})
		if err == nil {
			e.log.Warn("the last good version of a rule file is in force", "file", name)
			return u
		}
		e.log.Warn("a former version of a rule file is not right any more", "file", name, "error", err)
	}
	return nil
}

// former is what the folder was.
func (l *library) former(texts map[string][]byte) *library {
	was := &library{engine: l.engine, recalled: l.recalled, seen: make(map[string]readText, len(texts))}
	for name, text := range texts {
		was.seen[name] = readText{text: text}
	}
	return was
}
