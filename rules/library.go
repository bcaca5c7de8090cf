package rules

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"sync"
)

// mostReads bounds how many other files one file may read.
const mostReads = 200

// library is the folder of one Load, of which files may read others: each is looked at
// once, so that all see the same. It belongs to whoever holds loading, and its goroutines.
type library struct {
	engine   *Engine
	fsys     fs.FS        // nil if all that there is was seen
	recalled func() error // waits until what rules keep is there

	mu   sync.Mutex
	seen map[string]readText
}

type readText struct {
	text []byte
	err  error
}

// noFile is the error for a file that is not there: an fs.ErrNotExist.
type noFile string

func (n noFile) Error() string {
	return fmt.Sprintf("there is no file %q in the folder of rules", string(n))
}

func (n noFile) Is(target error) bool { return target == fs.ErrNotExist }

func (l *library) read(name string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, ok := l.seen[name]; ok {
		return was.text, was.err
	}
	if l.fsys == nil {
		return nil, noFile(name)
	}
	text, skip, err := l.engine.readFile(l.fsys, name)
	if skip || err == nil && text == nil {
		err = noFile(name)
	}
	if l.seen == nil {
		l.seen = make(map[string]readText)
	}
	l.seen[name] = readText{text, err}
	return text, err
}

// print tells two contents of a file apart; one that cannot be read has the print "".
func (l *library) print(name string) string {
	text, err := l.read(name)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}

// reader is the Read of a Source, which notes in reads the print of what it was asked
// for.
func (l *library) reader(reads map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("%q is no path in the folder of rules", abridged(name))
		}
		if _, known := reads[name]; !known && len(reads) >= mostReads {
			return nil, fmt.Errorf("%q would be the %dth file that is read", abridged(name), mostReads+1)
		}
		reads[name] = l.print(name)
		return l.read(name)
	}
}

// same reports whether the files still have the prints in reads.
func (l *library) same(reads map[string]string) bool {
	for name, print := range reads {
		if l.print(name) != print {
			return false
		}
	}
	return true
}
