package gateway

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/versions"
	"github.com/gatehouse/gatehouse/rules"
)

// keepVersion keeps the folder of rules as a version, if a load with that error brought
// anything of it into force that is not in the newest version. What goes wrong with it is
// told and hinders nothing.
func (g *Gateway) keepVersion(ctx context.Context, folder string, loaded error) {
	if g.opt.Data == "" {
		return
	}
	broken := g.rules.Broken()
	for _, err := range each(loaded) {
		var file *rules.Error
		if !errors.As(err, &file) {
			return // nothing came into force
		}
		if !slices.Contains(broken, file.File) { // one that others read
			broken = append(broken, file.File)
		}
	}
	err := versions.Change(ctx, filepath.Join(g.opt.Data, versions.Folder), func(kept *versions.Versions) error {
		files, err := versions.Read(folder)
		if err != nil {
			return err
		}
		v, err := kept.Save(files, time.Now(), broken)
		if v != nil {
			g.opt.Log.Info("rules kept", "version", v.Number, "files", len(v.Files))
		}
		return err
	})
	if err != nil {
		g.opt.Log.Warn("this version of the rules is not kept", "error", err)
	}
}

// ruleFolder is the folder of rules, which knows its versions.
func (g *Gateway) ruleFolder(folder string) fs.FS {
	now := os.DirFS(folder)
	if g.opt.Data == "" {
		return now
	}
	return &keptFolder{FS: now, g: g}
}

// keptFolder implements rules.FormerFS. It lives as long as one load.
type keptFolder struct {
	fs.FS
	g *Gateway

	mu    sync.Mutex
	kept  *versions.Versions
	list  []versions.Version
	texts map[int]map[string][]byte
}

// Stat and ReadDir are those of the folder, which opens nothing for them.
func (f *keptFolder) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }

func (f *keptFolder) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.FS, name) }

// Former implements rules.FormerFS. A version without the file ends them: what came
// before is of a file that was taken away.
func (f *keptFolder) Former(name string) iter.Seq[map[string][]byte] {
	return func(yield func(map[string][]byte) bool) {
		list := f.versions()
		for i := range list {
			if _, there := list[i].Files[name]; !there {
				return
			}
			if slices.Contains(list[i].Broken, name) {
				continue
			}
			if texts := f.read(&list[i]); texts != nil && !yield(texts) {
				return
			}
		}
	}
}

func (f *keptFolder) versions() []versions.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != nil {
		return f.list
	}
	f.kept, f.texts = versions.Open(filepath.Join(f.g.opt.Data, versions.Folder)), make(map[int]map[string][]byte)
	list, err := f.kept.List()
	if err != nil {
		f.g.opt.Log.Warn("cannot read the former versions of the rules", "error", err)
	}
	f.list = list
	return list
}

// read returns the files of a version, nil if they cannot be read.
func (f *keptFolder) read(v *versions.Version) map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	texts, known := f.texts[v.Number]
	if known {
		return texts
	}
	texts, err := f.kept.Texts(v)
	if err != nil {
		f.g.opt.Log.Warn("cannot read a former version of the rules", "version", v.Number, "error", err)
	}
	f.texts[v.Number] = texts
	return texts
}

var _ rules.FormerFS = (*keptFolder)(nil)
