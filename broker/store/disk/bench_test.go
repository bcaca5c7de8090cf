package disk_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
)

// device is what a disk was given, by the statistics of the kernel.
type device struct{ sectors, flushes int64 }

// deviceOf reads the statistics of the disk that a folder is on; ok is false where
// there are none.
func deviceOf(folder string) (d device, ok bool) {
	var st syscall.Stat_t
	if syscall.Stat(folder, &st) != nil {
		return d, false
	}
	dev := uint64(st.Dev)
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", dev>>8&0xfff, dev&0xff|dev>>12&^0xff))
	if err != nil {
		return d, false
	}
	fields := strings.Fields(string(b))
	if len(fields) < 16 {
		return d, false
	}
	d.sectors, _ = strconv.ParseInt(fields[6], 10, 64)
	d.flushes, _ = strconv.ParseInt(fields[15], 10, 64)
	return d, true
}

func queued(payload int) *message.Message {
	return &message.Message{
		Topic: "home/hall/lamp/state", Payload: make([]byte, payload), QoS: 1,
		Origin: "client/lamp-17", At: time.Unix(1.7e9, 0),
	}
}

// BenchmarkStoreCommit queues messages of 256 bytes and waits until each is safe. The
// bytes and flushes of the device are those of all who use it meanwhile.
func BenchmarkStoreCommit(b *testing.B) {
	for _, producers := range []int{1, 64} {
		b.Run(fmt.Sprint("producers=", producers), func(b *testing.B) {
			folder := b.TempDir()
			s, err := disk.Open(disk.Options{Folder: folder})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			m := queued(256)
			put := func(changes ...store.Change) {
				if err := s.Apply(changes).Wait(context.Background()); err != nil {
					b.Error(err)
				}
			}
			for p := range producers {
				put(session(p))
			}
			put(store.Change{Op: store.Enqueue, Session: "p0", Position: 1, Message: m})
			syscall.Sync()
			before, known := deviceOf(folder)
			start := s.Stats()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for p := range producers {
				wg.Go(func() {
					for at := uint64(2); left.Add(-1) >= 0; at++ {
						put(store.Change{Op: store.Enqueue, Session: fmt.Sprint("p", p), Position: at, Message: m})
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			stats := s.Stats()
			after, _ := deviceOf(folder)
			n := float64(b.N)
			b.ReportMetric(float64(stats.Written-start.Written)/n, "written-B/op")
			b.ReportMetric(float64(stats.Syncs-start.Syncs)/n, "syncs/op")
			if known {
				b.ReportMetric(512*float64(after.sectors-before.sectors)/n, "device-B/op")
				b.ReportMetric(float64(after.flushes-before.flushes)/n, "flushes/op")
			}
		})
	}
}

func session(p int) store.Change {
	id := fmt.Sprint("p", p)
	return store.Change{Op: store.PutSession, Session: id, Record: &store.SessionRecord{ClientID: id, Expiry: time.Hour}}
}

// fill makes a store with n messages in the queue of one session, and closes it.
func fill(b *testing.B, folder string, n int) {
	s, err := disk.Open(disk.Options{Folder: folder, Durability: disk.Durability{Mode: disk.Off}})
	if err != nil {
		b.Fatal(err)
	}
	m := queued(256)
	s.Apply([]store.Change{session(0)})
	for at := 1; at <= n; {
		var changes []store.Change
		for range min(100, n-at+1) {
			changes = append(changes, store.Change{Op: store.Enqueue, Session: "p0", Position: uint64(at), Message: m})
			at++
		}
		s.Apply(changes)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// resident is the memory of this process, in bytes.
func resident() float64 {
	runtime.GC()
	b, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize())
}

// BenchmarkStoreOpen opens a store, with nothing of it in memory if that may be had.
func BenchmarkStoreOpen(b *testing.B) {
	for _, n := range []int{10000, 1000000} {
		b.Run(fmt.Sprint("messages=", n), func(b *testing.B) {
			folder := b.TempDir()
			fill(b, folder, n)
			cold := 0.0
			var heap float64
			for b.Loop() {
				b.StopTimer()
				syscall.Sync()
				if os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil {
					cold++
				}
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				s, err := disk.Open(disk.Options{Folder: folder})
				if err != nil {
					b.Fatal(err)
				}
				snap, err := s.Load(context.Background())
				b.StopTimer()
				if err != nil || snap.Sessions[0].Queued != n {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				heap = float64(after.HeapAlloc) - float64(before.HeapAlloc)
				b.ReportMetric(resident()/1e6, "resident-MB")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(heap/float64(n), "index-B/message")
			b.ReportMetric(cold/float64(b.N), "cold")
		})
	}
}

// BenchmarkStoreFetch drains a queue as the broker does.
func BenchmarkStoreFetch(b *testing.B) {
	folder := b.TempDir()
	const n = 50000
	fill(b, folder, n)
	s, err := disk.Open(disk.Options{Folder: folder})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		for from := uint64(0); from < n && done < b.N; {
			found, err := s.Fetch(context.Background(), "p0", from, min(1024, b.N-done))
			if err != nil || len(found) == 0 {
				b.Fatal(len(found), err)
			}
			from = found[len(found)-1].Position + 1
			done += len(found)
		}
	}
}

// BenchmarkStoreChurn queues and takes out messages beside many that stay, and reports
// how much is written for each byte that is queued.
func BenchmarkStoreChurn(b *testing.B) {
	folder := b.TempDir()
	fill(b, folder, 100000) // 38 MB
	s, err := disk.Open(disk.Options{Folder: folder, Durability: disk.Durability{Mode: disk.Off}, Budget: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.Apply([]store.Change{session(1)})
	m := queued(256)
	for at := uint64(1); at <= uint64(b.N); at++ {
		s.Apply([]store.Change{{Op: store.Enqueue, Session: "p1", Position: at, Message: m}})
		s.Apply([]store.Change{{Op: store.Dequeue, Session: "p1", Position: at}})
	}
	if _, err := s.Fetch(context.Background(), "p1", 0, 1); err != nil {
		b.Fatal(err)
	}
	stats := s.Stats()
	b.ReportMetric(float64(stats.Written)/float64(b.N), "written-B/op")
	b.ReportMetric(float64(stats.Rewritten)/float64(b.N), "rewritten-B/op")
	b.ReportMetric(float64(stats.Segments), "segments")
	b.ReportMetric(float64(stats.Live)/1e6, "live-MB")
}
