package trial

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// selection is a folder that lists only some of its files. All can be opened: a rule
// file may read others.
type selection struct {
	fs.FS
	names []string
}

// ReadDir lists what was selected, and the folders on the way to it.
func (s selection) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(all, func(d fs.DirEntry) bool {
		own := path.Join(name, d.Name())
		return !slices.ContainsFunc(s.names, func(n string) bool {
			return n == own || d.IsDir() && strings.HasPrefix(n, own+"/")
		})
	}), err
}
