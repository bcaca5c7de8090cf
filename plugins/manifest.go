package plugins

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/gatehouse/gatehouse/drivers"
)

// ManifestFile is the name of the manifest in a plugin's folder.
const ManifestFile = "plugin.yaml"

// maxManifest bounds a manifest, in bytes.
const maxManifest = 64 << 10

// Manifest is what a plugin.yaml says. It never changes.
type Manifest struct {
	Name    string   // the folder's name, too
	Command string   // the program's path in the folder
	Args    []string // its arguments
	Env     []string // names of variables that it gets from the gateway's environment
	SHA256  [32]byte // of the program
	Drivers []string // the drivers that it may offer
	// Functions are those that it may offer. It has a driver or a function, at least.
	Functions []string
	Enabled   bool // default true

	// Folder is the plugin's folder, File its manifest.
	Folder, File string
}

// ManifestError is something wrong at a place in a manifest.
type ManifestError struct {
	File         string
	Line, Column int // from 1; 0 when it is about the whole file
	Msg          string
	Snippet      string // the source lines and a caret, when known
}

// Error gives file:line:column: message, then the snippet on lines of its own.
func (e *ManifestError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
	if e.Snippet != "" {
		s += "\n" + e.Snippet
	}
	return s
}

// manifestText is the file as it is written.
type manifestText struct {
	Name      string   `yaml:"name"`
	Command   string   `yaml:"command"`
	Args      []string `yaml:"args"`
	Env       []string `yaml:"env"`
	SHA256    string   `yaml:"sha256"`
	Drivers   []string `yaml:"drivers"`
	Functions []string `yaml:"functions"`
	Enabled   *bool    `yaml:"enabled"`
}

// nameForms is what names may be made of. The first manifest has it compiled, which takes
// milliseconds: a start without plugins does without.
var nameForms = sync.OnceValue(func() (n struct{ plugin, driver, env *regexp.Regexp }) {
	n.plugin = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)
	n.driver = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	n.env = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	return n
})

// ReadManifests reads the manifest of each folder in dir, sorted by name. A dir that
// is missing is empty; files in it, and folders whose names begin with a dot, do not
// count. The error joins a *[ManifestError] for each manifest that cannot be used;
// the others are returned all the same. No program is looked at: see
// [Manifest.Verify].
func ReadManifests(dir string) ([]Manifest, error) {
	all, broken, err := readManifests(dir)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(broken))
	for i, b := range broken {
		errs[i] = b.err
	}
	return all, errors.Join(errs...)
}

// brokenManifest is a plugin folder whose manifest cannot be used.
type brokenManifest struct {
	name string
	err  *ManifestError
}

func readManifests(dir string) (all []Manifest, broken []brokenManifest, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the plugins' folder: %w", err)
	}
	owners := newOwners()
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || entry.Type().IsRegular() {
			continue
		}
		m, problem := readManifest(dir, name, owners)
		if problem != nil {
			broken = append(broken, brokenManifest{name: name, err: problem})
			continue
		}
		owners.add(m)
		all = append(all, m)
	}
	return all, broken, nil
}

// owners are the plugins whose drivers and functions have a name.
type owners struct{ drivers, functions map[string]string }

func newOwners() *owners {
	return &owners{drivers: make(map[string]string), functions: make(map[string]string)}
}

func (o *owners) add(m Manifest) {
	for _, d := range m.Drivers {
		o.drivers[d] = m.Name
	}
	for _, f := range m.Functions {
		o.functions[f] = m.Name
	}
}

func readManifest(dir, name string, owners *owners) (Manifest, *ManifestError) {
	folder := filepath.Join(dir, name)
	file := filepath.Join(folder, ManifestFile)
	text, err := readInside(dir, name)
	if err != nil {
		return Manifest{}, &ManifestError{File: file, Msg: fmt.Sprintf("cannot read the manifest: %v", err)}
	}
	m, place := parseManifest(name, file, text, owners)
	if place != nil {
		return Manifest{}, place
	}
	m.Folder, m.File = folder, file
	return m, nil
}

// readInside reads a plugin's manifest, which may not lie outside of dir by way of
// a symbolic link.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := openRegular(root, filepath.Join(name, ManifestFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(text) > maxManifest {
		err = fmt.Errorf("longer than %d bytes", maxManifest)
	}
	return text, err
}

// openRegular opens a regular file for reading and never waits for a pipe's writer.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ParseManifest reads the text of a manifest for the folder called name; file is
// for errors, which are of *[ManifestError].
func ParseManifest(name, file string, text []byte) (Manifest, error) {
	m, place := parseManifest(name, file, text, newOwners())
	if place != nil {
		return Manifest{}, place
	}
	return m, nil
}

func parseManifest(name, file string, text []byte, owners *owners) (m Manifest, place *ManifestError) {
	defer func() {
		if p := recover(); p != nil { // the YAML parser's
			m, place = Manifest{}, &ManifestError{File: file, Msg: fmt.Sprintf("cannot be parsed: %v", p)}
		}
	}()
	m, err := decodeManifest(name, file, text, owners)
	var at *drivers.ConfigError
	switch {
	case err == nil:
		return m, nil
	case errors.As(err, &at):
		place := ManifestError(*at)
		place.Msg = strings.ReplaceAll(place.Msg, "device file", "manifest")
		return Manifest{}, &place
	default:
		return Manifest{}, &ManifestError{File: file, Msg: err.Error()}
	}
}

func decodeManifest(name, file string, text []byte, owners *owners) (Manifest, error) {
	cfg, err := drivers.ParseConfig(name, file, text)
	if err != nil {
		return Manifest{}, err
	}
	var t manifestText
	if err := cfg.Decode(&t); err != nil && !errors.Is(err, io.EOF) {
		return Manifest{}, err
	}
	if err := t.check(name, cfg, owners); err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		Name:      t.Name,
		Command:   filepath.Clean(t.Command),
		Args:      t.Args,
		Env:       t.Env,
		Drivers:   t.Drivers,
		Functions: t.Functions,
		Enabled:   t.Enabled == nil || *t.Enabled,
	}
	_, err = hex.Decode(m.SHA256[:], []byte(t.SHA256))
	return m, err
}

func (t *manifestText) check(name string, cfg drivers.Config, owners *owners) error {
	switch {
	case t.Name == "":
		return cfg.Errorf("$.name", `"name" is missing`)
	case !nameForms().plugin.MatchString(t.Name):
		return cfg.Errorf("$.name", `name %q has characters other than a-z, 0-9, ".", "_" and "-"`, t.Name)
	case t.Name != name:
		return cfg.Errorf("$.name", "name %q is not that of its folder, %q", t.Name, name)
	case t.Command == "":
		return cfg.Errorf("$.command", `"command" is missing`)
	case !filepath.IsLocal(t.Command) || filepath.Clean(t.Command) == ".":
		return cfg.Errorf("$.command", "command %q is not a path inside the plugin's folder", t.Command)
	case strings.ContainsRune(t.Command, 0):
		return cfg.Errorf("$.command", "command has a zero byte")
	case t.SHA256 == "":
		return cfg.Errorf("$.sha256", `"sha256" is missing: run "sha256sum %s"`, t.Command)
	case !isSHA256(t.SHA256):
		return cfg.Errorf("$.sha256", "sha256 is not 64 hexadecimal digits")
	case len(t.Drivers)+len(t.Functions) == 0:
		return cfg.Errorf("$.drivers", `"drivers" and "functions" are missing: list what the plugin offers`)
	}
	if err := t.checkArgs(cfg); err != nil {
		return err
	}
	if err := checkOffers(cfg, "driver", t.Drivers, owners.drivers); err != nil {
		return err
	}
	return checkOffers(cfg, "function", t.Functions, owners.functions)
}

func (t *manifestText) checkArgs(cfg drivers.Config) error {
	for i, arg := range t.Args {
		if strings.ContainsRune(arg, 0) {
			return cfg.Errorf(fmt.Sprintf("$.args[%d]", i), "argument has a zero byte")
		}
	}
	for i, v := range t.Env {
		if !nameForms().env.MatchString(v) {
			return cfg.Errorf(fmt.Sprintf("$.env[%d]", i), "%q is not the name of an environment variable (values are not written here)", v)
		}
		if strings.HasPrefix(v, "PLUGIN_") || v == "GATEHOUSE_PLUGIN" {
			return cfg.Errorf(fmt.Sprintf("$.env[%d]", i), "variable %q is reserved", v)
		}
	}
	return nil
}

// checkOffers looks at the names of what is offered, of one kind.
func checkOffers(cfg drivers.Config, what string, names []string, owner map[string]string) error {
	for i, name := range names {
		path := fmt.Sprintf("$.%ss[%d]", what, i)
		switch {
		case !nameForms().driver.MatchString(name):
			return cfg.Errorf(path, `%s %q has characters other than letters, digits, ".", "_" and "-"`, what, name)
		case slices.Contains(names[:i], name):
			return cfg.Errorf(path, "%s %q is listed twice", what, name)
		case owner[name] != "":
			return cfg.Errorf(path, "%s %q is offered by plugin %q already", what, name, owner[name])
		}
	}
	return nil
}

func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64
}

// same reports whether a running plugin need not be restarted for the other
// manifest.
func (m *Manifest) same(o *Manifest) bool {
	return m.Name == o.Name && m.Command == o.Command && m.SHA256 == o.SHA256 &&
		m.Enabled == o.Enabled && m.Folder == o.Folder &&
		slices.Equal(m.Args, o.Args) && slices.Equal(m.Env, o.Env) && slices.Equal(m.Drivers, o.Drivers) &&
		slices.Equal(m.Functions, o.Functions)
}
