package versions

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// Folder is where a gateway keeps the versions of its rules, in its data folder.
const Folder = "rules"

// Kept is how many versions there are at most.
const Kept = 20

// Bounds of what is kept.
const (
	MaxFiles = 10_000
	MaxFile  = 1 << 20  // bytes of one file; one that is larger is left out
	MaxBytes = 32 << 20 // of all files of a version
)

// ErrNone is what asking for a version that is not kept gives.
var ErrNone = errors.New("no such version")

// Version is one that is kept.
type Version struct {
	Number int       `json:"number"` // from 1; none comes twice
	At     time.Time `json:"at"`     // when it came into force
	// Files are the SHA-256 of their contents, in hexadecimal, by their paths with slashes.
	Files map[string]string `json:"files"`
	// Broken are the files that were not right, so that former ones stayed in force.
	Broken []string `json:"broken,omitempty"`
}

// Versions is a folder of versions. Its methods are called by one goroutine at a time.
type Versions struct {
	dir  string
	fsys durable.FS
}

// Open returns the versions in a folder; none if it is missing.
func Open(dir string) *Versions { return OpenOn(durable.OS(), dir) }

// OpenOn is Open on any file system, on which the folder is there.
func OpenOn(fsys durable.FS, dir string) *Versions { return &Versions{dir: dir, fsys: fsys} }

// Change calls do with the versions in a folder of the machine, which is made if it is
// missing, while no other process changes them. It waits for one that does, a rollback
// perhaps, for five seconds; then the error is a durable.ErrLocked.
func Change(ctx context.Context, dir string, do func(*Versions) error) (err error) {
	const look, looks = 50 * time.Millisecond, 100
	if err := durable.MakeDir(dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.Lock(filepath.Join(dir, ".lock"))
	for n := 0; errors.Is(err, durable.ErrLocked) && n < looks; n++ {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(look):
		}
		lock, err = durable.Lock(filepath.Join(dir, ".lock"))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return do(Open(dir))
}

// Read returns the contents of the regular files below a folder, by their paths with
// slashes; none if it is missing. Those that begin with a dot, or are larger than
// MaxFile, are left out.
func Read(folder string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	total := 0
	fsys := os.DirFS(folder)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		info, err := fs.Stat(fsys, name) // a link is followed
		if err != nil || !info.Mode().IsRegular() || info.Size() > MaxFile {
			return nil //nolint:nilerr // it is gone again
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		files[name] = text
		if total += len(text); len(files) > MaxFiles || total > MaxBytes {
			return fmt.Errorf("%q is too large for versions of it to be kept: more than %d files or %d bytes", folder, MaxFiles, MaxBytes)
		}
		return nil
	})
	return files, err
}

// Save keeps the files as a version that came into force at a time, unless they are those
// of the newest one: then it returns nil. The oldest ones beyond Kept go.
func (v *Versions) Save(files map[string][]byte, at time.Time, broken []string) (*Version, error) {
	all, err := v.List()
	if err != nil {
		return nil, err
	}
	next := Version{Number: 1, At: at.Round(0), Files: make(map[string]string, len(files)), Broken: broken}
	for name, text := range files {
		next.Files[name] = hashOf(text)
	}
	if len(all) == 0 && len(files) == 0 {
		return nil, nil
	}
	if len(all) > 0 {
		if maps.Equal(all[0].Files, next.Files) {
			return nil, nil
		}
		next.Number = all[0].Number + 1
	}
	there, err := v.names()
	if err != nil {
		return nil, err
	}
	for _, text := range files {
		hash := hashOf(text)
		if there[hash] && v.whole(hash) {
			continue
		}
		if err := durable.ReplaceOn(v.fsys, filepath.Join(v.dir, hash), text, 0o600); err != nil {
			return nil, err
		}
		there[hash] = true
	}
	list, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	if err := durable.ReplaceOn(v.fsys, filepath.Join(v.dir, fileOf(next.Number)), list, 0o600); err != nil {
		return nil, err
	}
	return &next, v.prune(append([]Version{next}, all...))
}

// prune removes the versions beyond Kept, and what no version needs.
func (v *Versions) prune(all []Version) error {
	needed := make(map[string]bool)
	for _, version := range all[:min(len(all), Kept)] {
		needed[fileOf(version.Number)] = true
		for _, hash := range version.Files {
			needed[hash] = true
		}
	}
	there, err := v.names()
	if err != nil {
		return err
	}
	var lists, rest []string
	for name := range there {
		switch {
		case needed[name]:
		case numberOf(name) > 0:
			lists = append(lists, name)
		default:
			rest = append(rest, name)
		}
	}
	for _, name := range append(lists, rest...) { // no list is left without its files
		if err := v.fsys.Remove(filepath.Join(v.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// names are the files of the folder that are ours.
func (v *Versions) names() (map[string]bool, error) {
	entries, err := v.fsys.ReadDir(v.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := make(map[string]bool, len(entries))
	for _, d := range entries {
		if name := d.Name(); numberOf(name) > 0 || isHash(strings.SplitN(strings.TrimPrefix(name, "."), ".", 2)[0]) {
			all[name] = true
		}
	}
	return all, nil
}

// List returns the versions that are kept, the newest first. One whose list is damaged is
// passed over.
func (v *Versions) List() ([]Version, error) {
	there, err := v.names()
	if err != nil {
		return nil, err
	}
	var all []Version
	for name := range there {
		n := numberOf(name)
		if n == 0 {
			continue
		}
		text, err := v.read(name)
		if err != nil {
			return nil, err
		}
		var version Version
		if json.Unmarshal(text, &version) == nil && version.Number == n {
			all = append(all, version)
		}
	}
	slices.SortFunc(all, func(a, b Version) int { return cmp.Compare(b.Number, a.Number) })
	return all, nil
}

// Get returns a version; the error may be [ErrNone].
func (v *Versions) Get(number int) (*Version, error) {
	all, err := v.List()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Number == number {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %d", ErrNone, number)
}

// Texts returns the contents of a version's files. The error says which is damaged.
func (v *Versions) Texts(version *Version) (map[string][]byte, error) {
	all := make(map[string][]byte, len(version.Files))
	for name, hash := range version.Files {
		if !isHash(hash) || !fs.ValidPath(name) {
			return nil, fmt.Errorf("version %d is damaged: %q is no file of it", version.Number, name)
		}
		text, err := v.read(hash)
		if err != nil {
			return nil, err
		}
		if hashOf(text) != hash {
			return nil, fmt.Errorf("version %d is damaged: the content of %q is another one", version.Number, name)
		}
		all[name] = text
	}
	return all, nil
}

// whole reports whether the content that is kept under a hash is what it should be.
func (v *Versions) whole(hash string) bool {
	text, err := v.read(hash)
	return err == nil && hashOf(text) == hash
}

func (v *Versions) read(name string) (text []byte, err error) {
	f, err := v.fsys.OpenFile(filepath.Join(v.dir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > MaxBytes {
		return nil, fmt.Errorf("%q has %d bytes", name, size)
	}
	text = make([]byte, size)
	if n, err := f.ReadAt(text, 0); n < len(text) {
		return nil, err
	}
	return text, nil
}

// Restore makes a folder what it was in a version, of which the texts are: every file is
// replaced as a whole, those that are not in the version are removed, and what [Read]
// leaves out stays. After an error, or a power cut, some files are those of the version;
// to restore it again does the rest.
func Restore(texts map[string][]byte, folder string) error {
	now, err := Read(folder)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if old, there := now[name]; there && slices.Equal(old, texts[name]) {
			continue
		}
		to := filepath.Join(folder, filepath.FromSlash(name))
		if err := durable.MakeDir(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(to); err == nil {
			mode = info.Mode().Perm()
		}
		if err := durable.Replace(to, texts[name], mode); err != nil {
			return err
		}
	}
	for name := range now {
		if _, stays := texts[name]; stays {
			continue
		}
		if err := os.Remove(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return err
		}
		if err := durable.OS().SyncDir(filepath.Join(folder, filepath.FromSlash(path.Dir(name)))); err != nil {
			return err
		}
	}
	return nil
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// fileOf is the name of the list of a version.
func fileOf(number int) string { return fmt.Sprintf("version-%06d.json", number) }

// numberOf is the version of which a file is the list; 0 if it is none.
func numberOf(name string) int {
	digits, found := strings.CutPrefix(name, "version-")
	digits, ends := strings.CutSuffix(digits, ".json")
	n, err := strconv.Atoi(digits)
	if !found || !ends || err != nil || n < 1 || fileOf(n) != name {
		return 0
	}
	return n
}
