package drivers

import (
	"fmt"
	"io/fs"
)

// MaxIncludedBytes bounds a file that a device file names.
const MaxIncludedBytes = 256 << 10

// Includer is a Driver whose device files name other files of their folder, such as the
// script of a codec. The [Host] reads them, gives them in [Config].Included, and judges
// the device file anew when one of them has changed: the device is opened again, or goes
// on with the former files if the new ones are not right.
type Includer interface {
	Driver
	// Includes lists the names, which count from the folder of the device files, in
	// slashes. Of a file that is not right it lists what it can.
	Includes(cfg Config) []string
}

// Included is a file that a device file names, as it was when the device file was judged.
type Included struct {
	Text string
	Err  error // why it could not be read; nil otherwise
}

// include reads the files that the device files of a driver name.
func include(fsys fs.FS, d Driver, cfg Config) (all map[string]Included) {
	includer, ok := d.(Includer)
	if !ok {
		return nil
	}
	for _, name := range includer.Includes(cfg) {
		if all == nil {
			all = make(map[string]Included)
		}
		all[name] = readIncluded(fsys, name)
	}
	return all
}

// unchanged reports whether the files that a device file names are what they were.
func unchanged(fsys fs.FS, all map[string]Included) bool {
	for name, was := range all {
		if now := readIncluded(fsys, name); now.Text != was.Text || fmt.Sprint(now.Err) != fmt.Sprint(was.Err) {
			return false
		}
	}
	return true
}

func readIncluded(fsys fs.FS, name string) Included {
	if !fs.ValidPath(name) {
		return Included{Err: fmt.Errorf("%q is not a file in the folder of the devices", name)}
	}
	info, err := fs.Stat(fsys, name)
	switch {
	case err != nil:
		return Included{Err: err}
	case !info.Mode().IsRegular() || info.Size() > MaxIncludedBytes:
		return Included{Err: fmt.Errorf("%q is not a regular file of at most %d bytes", name, MaxIncludedBytes)}
	}
	text, err := fs.ReadFile(fsys, name)
	return Included{Text: string(text), Err: err}
}
