package host

import (
	"maps"
	"slices"
)

// LooksUnderWay counts the looks at file systems that have not ended.
func LooksUnderWay(d *Driver) int {
	d.looks.mu.Lock()
	defer d.looks.mu.Unlock()
	return len(d.looks.underWay)
}

// WaitForLooks waits for the looks at file systems that are under way.
func WaitForLooks(d *Driver) {
	d.looks.mu.Lock()
	looks := slices.Collect(maps.Values(d.looks.underWay))
	d.looks.mu.Unlock()
	for _, one := range looks {
		<-one.done
	}
}
