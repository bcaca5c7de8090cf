package disk_test

import (
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
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

// TestFullStore takes the room away, and what the ballast gives for it.
func TestFullStore(t *testing.T) {
	disk.Verify(t)
	disks := make(map[store.Store]*crashfs.FS)
	open := func(t *testing.T, fs *crashfs.FS) store.Store {
		s, err := disk.Open(small(fs))
		if err != nil {
			t.Fatal(err)
		}
		disks[s] = fs
		return s
	}
	storetest.Full(t,
		func(t *testing.T) store.Store {
			fs := crashfs.New()
			if err := open(t, fs).Close(); err != nil { // it has made the ballast by then
				t.Fatal(err)
			}
			return open(t, fs)
		},
		func(t *testing.T, s store.Store) {
			disks[s].Limit(200 << 10)
			for i := range 1000 {
				filler := &message.Message{Topic: fmt.Sprint("filler/", i), Payload: make([]byte, 1000), QoS: 1}
				if err := s.Apply([]store.Change{{Op: store.Retain, Message: filler}}).Wait(t.Context()); errors.Is(err, store.ErrFull) {
					return
				}
			}
			t.Fatal("it does not get full")
		},
		func(t *testing.T, s store.Store) store.Store {
			fs := disks[s]
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, fs)
		})
}
