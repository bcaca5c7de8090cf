package drivers

import (
	"maps"
	"slices"
	"strings"
)

// Description is what a device is by its file, for those who tell others of it.
type Description struct {
	Name   string
	Driver string
	Topic  string // of the device; its points are below it unless Together
	// Together is as in [Common]; Object says that payloads are [PayloadObject].
	Together, Object bool
	// Discovery is as in [Common]: nil if the file does not say, empty for none.
	Discovery []string
	Points    []Point
}

// Described tells what the devices are that should run, by name, and a channel that is
// closed when that changes. Those that wait for their driver are left out, and the points
// that show a topic, which others tell of. The slices are shared and must not be written.
func (h *Host) Described() (all []Description, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(h.wanted)) {
		e := h.wanted[name]
		if e.driver == nil {
			continue
		}
		all = append(all, Description{
			Name: name, Driver: e.driverName, Topic: e.topic, Together: e.together, Object: e.object,
			Discovery: e.discovery, Points: e.told(),
		})
	}
	return all, h.moved
}

// told are the points that the device itself has values of.
func (e *entry) told() []Point {
	if !slices.ContainsFunc(e.points, func(p Point) bool { return p.Feed.Topic != "" }) {
		return e.points
	}
	return slices.DeleteFunc(slices.Clone(e.points), func(p Point) bool { return p.Feed.Topic != "" })
}

// checkDiscovery judges the key "discovery" of a file.
func (h *Host) checkDiscovery(cfg Config, conventions []string) error {
	for _, c := range conventions {
		if !slices.Contains(h.opts.Conventions, c) {
			return cfg.Errorf("$.discovery", "%q is not one of %s", c, strings.Join(h.opts.Conventions, ", "))
		}
	}
	return nil
}
