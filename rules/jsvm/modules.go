package jsvm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what a script may require, besides those of each file.
const (
	maxModules     = 64
	maxModuleBytes = 1 << 20
)

// wireFile is a file that a script requires, by its path in the folder.
type wireFile struct {
	Name string
	Text []byte
}

// isModule reports whether a file is there for others to require only: it is in a
// folder lib, or a name of its path begins with an underscore.
func isModule(name string) bool {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "_") || p == "lib" && i < len(parts)-1 {
			return true
		}
	}
	return false
}

// required finds what a text requires or imports from the folder: paths that are
// written out. What only looks like one does no harm.
var required = regexp.MustCompile(`(?:\brequire\s*\(|\bfrom|\bimport\s*\(?)\s*["'](\.{1,2}/[^"'\n\\]+)["']`)

// resolve gives the path in the folder that a file means by spec, without an ending
// if spec has none.
func resolve(from, spec string) (string, error) {
	if !strings.HasPrefix(spec, "./") && !strings.HasPrefix(spec, "../") {
		return "", errors.New(`only files of the rules folder can be required, by a path that begins with "./" or "../"`)
	}
	base := path.Join(path.Dir(from), spec)
	if base == ".." || base == "." || strings.HasPrefix(base, "../") {
		return "", errors.New("it is outside of the rules folder")
	}
	return base, nil
}

// candidates are the files that a resolved path may mean, the first one that there is.
func candidates(base string) []string {
	switch path.Ext(base) {
	case ".ts", ".json":
		return []string{base}
	case ".js": // TypeScript names what its compiler would have made
		return []string{base, strings.TrimSuffix(base, ".js") + ".ts"}
	}
	return []string{base + ".ts", base + ".js", base + ".json", base + "/index.ts", base + "/index.js"}
}

// readModules reads the files that a script requires, and those that these do. One
// that is not there is missed when the script runs, at the line that requires it.
func readModules(src rules.Source) ([]wireFile, error) {
	var files []wireFile
	if src.Read == nil {
		return nil, nil
	}
	size := 0
	queue := []wireFile{{Name: src.Name, Text: src.Text}}
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		for _, m := range required.FindAllSubmatch(from.Text, -1) {
			base, err := resolve(from.Name, string(m[1]))
			if err != nil {
				continue
			}
			f, err := readModule(src, base)
			if err != nil {
				return nil, err
			}
			same := func(g wireFile) bool { return g.Name == f.Name }
			if f.Name == "" || f.Name == src.Name || slices.ContainsFunc(files, same) {
				continue
			}
			if size += len(f.Text); len(files) == maxModules || size > maxModuleBytes {
				return nil, &rules.Error{File: src.Name, Msg: fmt.Sprintf("it requires more than %d files or %d bytes", maxModules, maxModuleBytes)}
			}
			files = append(files, f)
			if path.Ext(f.Name) != ".json" {
				queue = append(queue, f)
			}
		}
	}
	return files, nil
}

// readModule reads the file that a resolved path means; its name is "" if there is none.
func readModule(src rules.Source, base string) (wireFile, error) {
	for _, name := range candidates(base) {
		text, err := src.Read(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return wireFile{}, &rules.Error{File: src.Name, Msg: fmt.Sprintf("cannot require %q: %v", name, err)}
		}
		if err := scanSource(name, text); err != nil {
			return wireFile{}, err
		}
		return wireFile{Name: name, Text: text}, nil
	}
	return wireFile{}, nil
}

func (w *encoder) files(files []wireFile) {
	w.count(len(files))
	for _, f := range files {
		w.text(f.Name)
		w.bytes(f.Text)
	}
}

func (r *decoder) files() []wireFile {
	n := r.count(2)
	if n > maxModules {
		r.fail("number of files")
		return nil
	}
	var files []wireFile
	for range n {
		files = append(files, wireFile{Name: r.text(), Text: r.bytes()})
	}
	return files
}
