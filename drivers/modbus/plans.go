package modbus

import "slices"

// maxPlans is how many sets of points that are due together have a plan: as many as
// intervals meet in ways that matter.
const maxPlans = 8

// plans remembers how points that are due together are read.
type plans struct {
	list []planned
	next int // which is forgotten next
}

// planned is a plan, and what it was made of.
type planned struct {
	due     []int
	gap     int
	version uint64 // of the refusals
	blocks  []block
}

// blocks plans what is due. The result must not be changed.
func (d *device) blocks(due []int) []block {
	c := d.cost()
	d.refused.expire()
	for i := range d.plans.list {
		p := &d.plans.list[i]
		if p.gap == c.gap() && p.version == d.refused.version && slices.Equal(p.due, due) {
			return p.blocks
		}
	}
	made := planned{
		due: slices.Clone(due), gap: c.gap(), version: d.refused.version,
		blocks: plan(d.spans, due, c, &d.spec.limits, &d.refused),
	}
	if len(d.plans.list) < maxPlans {
		d.plans.list = append(d.plans.list, made)
	} else {
		d.plans.list[d.plans.next] = made
		d.plans.next = (d.plans.next + 1) % maxPlans
	}
	return made.blocks
}
