package crash_test

import (
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest/crash"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// diskBench has the store of the product, with segments so small that it cleans them.
func diskBench(seed uint64) crash.Bench {
	return crash.Bench{Seed: seed, Steps: 80, Open: func(fsys durable.FS) (store.Store, error) {
		s, err := disk.Open(disk.Options{Folder: "/store", FS: fsys, SegmentSize: disk.MinSegment})
		if err != nil { // not a nil *disk.Store
			return nil, err
		}
		return s, nil
	}}
}

func TestDiskPowerCuts(t *testing.T) {
	for seed := range uint64(2) {
		b := diskBench(seed)
		cuts := b.PowerCuts(t, sample(40))
		t.Logf("seed %d: %d power cuts in %d variants", seed, cuts, len(crashfs.Variants))
	}
}

func TestDiskFaults(t *testing.T) {
	b := diskBench(0)
	t.Logf("%d runs with faults", b.Faults(t, sample(80)))
}
