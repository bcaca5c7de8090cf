package serial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PortInfo is a serial port that is there.
type PortInfo struct {
	Name string `json:"name"` // "/dev/ttyUSB0"
	// Lasting is what a device file best calls the port: a name that a replug does
	// not change, "usb:1a86:7523" or a link in /dev/serial/by-id, else Name.
	Lasting string `json:"lasting"`
	ByID    string `json:"by_id,omitempty"`  // its link in /dev/serial/by-id
	Driver  string `json:"driver,omitempty"` // of the kernel: "ch341-uart"
	// What USB says of it; empty for other ports. VID and PID have four hexadecimal
	// digits, Interface two.
	VID          string `json:"vid,omitempty"`
	PID          string `json:"pid,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Interface    string `json:"interface,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
}

// Ports lists the serial ports of this machine without opening them: to open one
// would reset an Arduino, and as root would change the speed of one in use.
func Ports() ([]PortInfo, error) { return Finder{}.Ports() }

// Finder finds serial ports. The zero value looks where Linux has them.
type Finder struct {
	Sys string // of sysfs; empty means "/sys"
	Dev string // of the device files; empty means "/dev"
}

func (f Finder) sys() string { return cmp.Or(f.Sys, "/sys") }
func (f Finder) dev() string { return cmp.Or(f.Dev, "/dev") }

// Ports lists the ports by name.
func (f Finder) Ports() ([]PortInfo, error) {
	all, err := f.ports()
	if err != nil {
		return nil, fmt.Errorf("cannot list the serial ports: %w", err)
	}
	links := f.byID()
	for i := range all {
		p := &all[i]
		p.ByID = links[p.Name]
		p.Lasting = cmp.Or(p.ByID, p.Name)
		for _, key := range p.keys() {
			if n := countFunc(all, func(o PortInfo) bool { return o.is(key) }); n == 1 {
				p.Lasting = "usb:" + key
				break
			}
		}
	}
	return all, nil
}

func countFunc[T any](all []T, is func(T) bool) (n int) {
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

// ports lists the ports without what has to do with the others.
func (f Finder) ports() ([]PortInfo, error) {
	class := filepath.Join(f.sys(), "class/tty")
	list, err := os.ReadDir(class)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []PortInfo
	for _, item := range list {
		if p, ok := f.port(class, item.Name()); ok {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b PortInfo) int { return compareNames(a.Name, b.Name) })
	return all, nil
}

// port tells of one terminal; false if it is no serial port: consoles have no
// device, and of the ttyS that are only provided for the type is 0.
func (f Finder) port(class, name string) (PortInfo, bool) {
	if kind, _ := splitNumber(name); kind == "tty" {
		return PortInfo{}, false // a virtual console, of which there are dozens
	}
	tty := filepath.Join(class, name)
	if _, err := os.Lstat(filepath.Join(tty, "device")); err != nil {
		return PortInfo{}, false // a console, a pseudo-terminal: without the many steps below
	}
	device, err := filepath.EvalSymlinks(filepath.Join(tty, "device"))
	if err != nil || attribute(tty, "type") == "0" {
		return PortInfo{}, false
	}
	p := PortInfo{Name: filepath.Join(f.dev(), name)}
	if driver, err := os.Readlink(filepath.Join(device, "driver")); err == nil {
		p.Driver = filepath.Base(driver)
	}
	root, err := filepath.EvalSymlinks(f.sys())
	if err != nil {
		return p, true
	}
	for dir := device; len(dir) > len(root); dir = filepath.Dir(dir) {
		if p.Interface == "" {
			p.Interface = attribute(dir, "bInterfaceNumber")
		}
		if vid := attribute(dir, "idVendor"); vid != "" {
			p.VID, p.PID, p.Serial = strings.ToLower(vid), strings.ToLower(attribute(dir, "idProduct")), attribute(dir, "serial")
			p.Manufacturer, p.Product = attribute(dir, "manufacturer"), attribute(dir, "product")
			break
		}
	}
	return p, true
}

// attribute reads a file of sysfs; what cannot be read is empty.
func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
}

// byID are the links that udev makes, by what they lead to.
func (f Finder) byID() map[string]string {
	links := make(map[string]string)
	dir := filepath.Join(f.dev(), "serial/by-id")
	list, err := os.ReadDir(dir)
	if err != nil {
		return links
	}
	for _, item := range list {
		link := filepath.Join(dir, item.Name())
		if to, err := os.Readlink(link); err == nil {
			links[filepath.Join(dir, to)] = link
		}
	}
	return links
}

// keys are what the port may be called after "usb:", the shortest first.
func (p PortInfo) keys() []string {
	if p.VID == "" {
		return nil
	}
	key := p.VID + ":" + p.PID
	keys := []string{key}
	if p.Serial != "" {
		keys = append(keys, key+":"+p.Serial)
	}
	if p.Interface != "" {
		keys = append(keys, key+":"+p.Serial+":"+p.Interface)
	}
	return keys
}

// is reports whether the port is one that a key means. A serial number may have
// colons (a MAC address), so that the key is not taken apart but compared.
func (p PortInfo) is(key string) bool {
	if p.VID == "" || len(key) < 9 || !strings.EqualFold(key[:9], p.VID+":"+p.PID) {
		return false
	}
	rest := strings.TrimPrefix(key[9:], ":")
	return rest == "" || rest == p.Serial || rest == p.Serial+":"+p.Interface || rest == ":"+p.Interface
}

// isUSBKey reports whether text begins with VID:PID and goes on with a colon, if at all.
func isUSBKey(s string) bool {
	for i, c := range []byte(s[:min(len(s), 10)]) {
		if i == 4 || i == 9 {
			if c != ':' {
				return false
			}
		} else if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return len(s) >= 9
}

// parseUSB gives the key of "usb:KEY"; it is empty for a path.
func parseUSB(port string) (key string, err error) {
	key, usb := strings.CutPrefix(port, "usb:")
	switch {
	case !usb:
		return "", nil
	case !isUSBKey(key):
		return "", fmt.Errorf("a USB port is written usb:VID:PID, usb:VID:PID:SERIAL or usb:VID:PID:SERIAL:INTERFACE, the first two with four hexadecimal digits each, not %q", port)
	}
	return key, nil
}

// Path is the device file that a port has now: port itself if that is a path, else
// of the one USB port that it means. The error is fs.ErrNotExist if there is none.
func (f Finder) Path(port string) (string, error) {
	key, err := parseUSB(port)
	if key == "" || err != nil {
		return port, err
	}
	all, err := f.ports()
	if err != nil {
		return "", err
	}
	all = slices.DeleteFunc(all, func(p PortInfo) bool { return !p.is(key) })
	switch len(all) {
	case 0:
		return "", fmt.Errorf("no such USB port is plugged in: %w", fs.ErrNotExist)
	case 1:
		return all[0].Name, nil
	}
	var which []string
	for _, p := range all {
		keys := p.keys()
		which = append(which, p.Name+" is usb:"+keys[len(keys)-1])
	}
	return "", fmt.Errorf("several USB ports are that: %s", strings.Join(which, ", "))
}

// compareNames puts ttyUSB2 before ttyUSB10.
func compareNames(a, b string) int {
	nameA, nA := splitNumber(a)
	nameB, nB := splitNumber(b)
	return cmp.Or(cmp.Compare(nameA, nameB), cmp.Compare(nA, nB), cmp.Compare(a, b))
}

func splitNumber(s string) (name string, number int) {
	name = strings.TrimRight(s, "0123456789")
	number, _ = strconv.Atoi(s[len(name):]) // 0 if there is none, or one beyond all
	return name, number
}

// appearEvery is how often [Appear] looks.
const appearEvery = 250 * time.Millisecond

// Appear waits until a port that is not there is plugged in, or one that is there
// was replaced by another, and returns nil; it looks four times a second. If the port
// could not be opened because it was not there, gone is true: should it be there by
// now, that is soon enough. It returns ctx's error when that ends first.
func Appear(ctx context.Context, port string, gone bool) error {
	return Finder{}.appear(ctx, port, gone)
}

func (f Finder) appear(ctx context.Context, port string, gone bool) error {
	tick := time.NewTicker(appearEvery)
	defer tick.Stop()
	was := ""
	if !gone {
		was = f.identity(port)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		is := f.identity(port)
		if is != "" && is != was {
			return nil
		}
		was = is
	}
}

// identity tells one plugging-in of a port from the next; empty is not there.
func (f Finder) identity(port string) string {
	path, err := f.Path(port)
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	id := path
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		id += fmt.Sprintf(" %d %d %d", sys.Dev, sys.Ino, sys.Rdev)
	}
	return id
}
