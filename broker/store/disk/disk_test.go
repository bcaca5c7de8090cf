package disk_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
	"github.com/gatehouse/gatehouse/broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	disk.Verify(t)
	for name, size := range map[string]int64{"segments of 4 MiB": 0, "small segments": disk.MinSegment} {
		t.Run(name, func(t *testing.T) {
			disks := make(map[store.Store]disk.Options)
			open := func(t *testing.T, o disk.Options) store.Store {
				s, err := disk.Open(o)
				if err != nil {
					t.Fatal(err)
				}
				disks[s] = o
				return s
			}
			storetest.Run(t, func(t *testing.T) store.Store {
				o := disk.Options{Folder: "/store", FS: crashfs.New(), SegmentSize: size}
				if size == 0 {
					o = disk.Options{Folder: t.TempDir()}
				}
				return open(t, o)
			}, func(t *testing.T, s store.Store) store.Store {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return open(t, disks[s])
			})
		})
	}
}
