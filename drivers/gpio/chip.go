package gpio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chip is an open GPIO chip.
type chip struct {
	file  *os.File
	path  string
	info  chipInfo
	ioctl ioctl
}

func (c *chip) label() string { return text(c.info.label) }

// openChips opens the chips that the computer has. Those that cannot be opened are an
// error only if there is no other.
func (d *Driver) openChips() (all []*chip, err error) {
	paths, _ := filepath.Glob(filepath.Join(d.dev, "gpiochip*")) // the pattern is right
	var errs []error
	for _, path := range paths {
		c, err := d.openChip(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, c)
	}
	switch {
	case len(paths) == 0:
		return nil, fmt.Errorf("this computer has no GPIO chip: there is no %s", filepath.Join(d.dev, "gpiochip0"))
	case len(all) == 0:
		return nil, errors.Join(errs...)
	}
	return all, nil
}

func (d *Driver) openChip(path string) (*chip, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, errors.Unwrap(err))
	}
	c := &chip{file: file, path: path, ioctl: d.ioctl}
	if err := c.do(getChipInfo, unsafe.Pointer(&c.info)); err != nil {
		_ = file.Close() // the error at hand says more
		return nil, fmt.Errorf("%q is no GPIO chip: %w", path, err)
	}
	return c, nil
}

// openError says why a chip cannot be opened, and what to do.
func openError(path string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("cannot open %q: %w: the user of the gateway must be in the group gpio "+
			"(usermod -aG gpio NAME, then start it again)", path, err)
	}
	return fmt.Errorf("cannot open %q: %w", path, err)
}

func (c *chip) do(request uint32, arg unsafe.Pointer) error {
	return c.ioctl(int(c.file.Fd()), request, arg)
}

// lineInfo tells of a line by its number.
func (c *chip) lineInfo(offset uint32) (lineInfo, error) {
	info := lineInfo{offset: offset}
	err := c.do(getLineInfo, unsafe.Pointer(&info))
	if errors.Is(err, unix.ENOTTY) {
		return info, errors.New("the kernel is older than Linux 5.10, which GPIO lines need")
	}
	return info, err
}

// find is the chip and the number of a line.
func find(chips []*chip, l *line) (*chip, uint32, error) {
	if l.chip != "" {
		var named []*chip
		for _, c := range chips {
			if name := filepath.Base(c.path); l.chip == name || l.chip == c.path || l.chip == c.label() {
				named = append(named, c)
			}
		}
		if len(named) == 0 {
			return nil, 0, fmt.Errorf("there is no GPIO chip %q (there are: %s)", l.chip, chipNames(chips))
		}
		chips = named
	}
	if offset, err := strconv.ParseUint(l.name, 10, 32); err == nil {
		if c := chips[0]; uint32(offset) < c.info.lines {
			return c, uint32(offset), nil
		}
		return nil, 0, fmt.Errorf("chip %q has the lines 0 to %d, not %d", l.chip, chips[0].info.lines-1, offset)
	}
	var found *chip
	var at uint32
	for _, c := range chips {
		for offset := range c.info.lines {
			info, err := c.lineInfo(offset)
			if err != nil {
				return nil, 0, fmt.Errorf("cannot look at line %d of %q: %w", offset, c.path, err)
			}
			if text(info.name) != l.name {
				continue
			}
			if found != nil {
				return nil, 0, fmt.Errorf("line %q is there twice, on %q and on %q: the key \"chip\" chooses", l.name, found.path, c.path)
			}
			found, at = c, offset
		}
	}
	if found == nil {
		return nil, 0, fmt.Errorf("there is no GPIO line %q on %s", l.name, chipNames(chips))
	}
	return found, at, nil
}

func chipNames(chips []*chip) string {
	all := make([]string, len(chips))
	for i, c := range chips {
		all[i] = fmt.Sprintf("%s %q", filepath.Base(c.path), c.label())
	}
	return strings.Join(all, ", ")
}

// request asks for a line and returns its descriptor.
func (c *chip) request(l *line, offset uint32) (int, error) {
	r := lineRequest{numLines: 1, config: lineConfig{flags: l.flags}}
	r.offsets[0] = offset
	copy(r.consumer[:31], "gatehouse "+l.Name)
	switch {
	case l.output:
		initial := uint64(0)
		if l.initial {
			initial = 1
		}
		r.config.add(lineAttribute{id: attrValues, value: initial})
	default:
		r.eventBuffer = eventBuffer
	}
	if l.debounce > 0 {
		a := lineAttribute{id: attrDebounce}
		*(*uint32)(unsafe.Pointer(&a.value)) = uint32(l.debounce.Microseconds())
		r.config.add(a)
	}
	err := c.do(getLine, unsafe.Pointer(&r))
	switch {
	case err == nil:
		return int(r.fd), nil
	case errors.Is(err, unix.EBUSY):
		by := "something else"
		if info, err := c.lineInfo(offset); err == nil && info.flags&flagUsed != 0 && text(info.consumer) != "" {
			by = strconv.Quote(text(info.consumer))
		}
		return 0, fmt.Errorf("line %q is used by %s", l.name, by)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		return 0, fmt.Errorf("the chip %q refuses line %q as it is described (pull, drive, edges, debounce): %w", c.label(), l.name, err)
	}
	return 0, fmt.Errorf("cannot request line %q of %q: %w", l.name, c.path, err)
}

// add adds an attribute of the only line.
func (c *lineConfig) add(a lineAttribute) {
	c.attrs[c.numAttrs] = configAttribute{attr: a, mask: 1}
	c.numAttrs++
}
