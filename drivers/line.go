package drivers

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// LineSharer is a [Driver] whose devices may share lines that only so much fits on, as
// serial ones do. Its methods may be called by any goroutine.
type LineSharer interface {
	// Forecast lists the lines of device files that Check accepts, and how much of
	// their time the files ask for.
	Forecast(files []Config) []Line
	// Busy is how much of the last minute a line was in use, in percent; ok is false
	// for one that is not open.
	Busy(line string) (percent float64, ok bool)
}

// Line is a line that devices share.
type Line struct {
	Name    string   `json:"name"`    // "serial /dev/ttyUSB0"
	Speed   string   `json:"speed"`   // "9600 baud"
	Devices []string `json:"devices"` // by name
	// Asked is how much of the line's time the device files ask for, in percent. It is
	// a forecast: what is read is known, how soon the devices answer is not.
	Asked float64 `json:"asked"`
	// Busy is how much of the last minute the line was in use, in percent.
	Busy float64 `json:"busy"`
}

// From these percents on a line's forecast is noted, and warned of.
const (
	lineNoted = 80
	lineFull  = 100
)

// Warning says that the device files ask for too much of the line, and what to do; it
// is empty if they do not.
func (l Line) Warning() string {
	if l.Asked < lineNoted {
		return ""
	}
	who, ask := "device "+strings.Join(l.Devices, ""), "asks"
	if len(l.Devices) > 1 {
		who, ask = "devices "+strings.Join(l.Devices, ", "), "ask"
	}
	said := fmt.Sprintf("%s %s for %.0f %% of the line %q (%s)", who, ask, l.Asked, l.Name, l.Speed)
	if l.Asked <= lineFull {
		return said + ": little is left for writes and repetitions"
	}
	return said + ": points will be read less often than they say. Read some of them less often (every), only those that are " +
		"needed, or side by side; raise the baud rate; or split the line"
}

// Forecast reads a folder as [Host.Check] does, and lists the lines of its devices. What
// Check has judged before is not judged again.
func (h *Host) Forecast(ctx context.Context, fsys fs.FS) ([]Line, error) {
	h.loading.Lock()
	defer h.loading.Unlock()
	files, err := h.readFiles(ctx, fsys)
	if err != nil {
		return nil, err
	}
	return forecast(h.plan(files, h.checked).entries), nil
}

// Lines lists the lines that the devices share, by name.
func (h *Host) Lines() []Line {
	h.mu.Lock()
	lines := slices.Clone(h.lines)
	sharers := make(map[string]LineSharer)
	for name, e := range h.wanted {
		if s, ok := e.driver.(LineSharer); ok {
			sharers[name] = s
		}
	}
	h.mu.Unlock()
	for i := range lines {
		if s := sharers[lines[i].Devices[0]]; s != nil {
			lines[i].Busy, _ = s.Busy(lines[i].Name)
		}
	}
	return lines
}

// forecast lists the lines of devices.
func forecast(entries map[string]*entry) []Line {
	files := make(map[LineSharer][]Config)
	for _, e := range entries {
		if s, ok := e.driver.(LineSharer); ok {
			files[s] = append(files[s], e.cfg)
		}
	}
	var all []Line
	for s, cfgs := range files {
		slices.SortFunc(cfgs, func(a, b Config) int { return cmp.Compare(a.Device, b.Device) })
		all = append(all, s.Forecast(cfgs)...)
	}
	slices.SortFunc(all, func(a, b Line) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// setLines notes the lines of the wanted devices, and warns of those that are too full.
func (h *Host) setLines(entries map[string]*entry) {
	lines := forecast(entries)
	h.mu.Lock()
	before := h.lines
	h.lines = lines
	h.mu.Unlock()
	for _, l := range lines {
		known := slices.ContainsFunc(before, func(b Line) bool { return b.Name == l.Name && b.Asked == l.Asked })
		if said := l.Warning(); said != "" && !known {
			h.opts.Log.Warn("line is full", "line", l.Name, "asked", fmt.Sprintf("%.0f %%", l.Asked), "reason", said)
		}
	}
}
