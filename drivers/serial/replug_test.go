package serial_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// TestReplugCycles pulls a port out and plugs it in again, over and over: 1,000 times
// with SOAK, as `make soak` has it.
func TestReplugCycles(t *testing.T) {
	cycles := 60
	if os.Getenv("SOAK") != "" {
		cycles = 1000
	}
	const settle = 20 // cycles until what is kept for good is there
	w := newWire(t)
	cfg := drivertest.Config(t, "d", "driver: serial\nport: "+w.path+"\n"+doorFile)
	var before [3]uint64
	for i := range cycles {
		if i == settle {
			before = resources(t)
		}
		dev, err := serial.New(serial.Options{}).Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		pusher := dev.(drivers.Pusher)
		<-time.After(31 * time.Millisecond) // what begins sooner may be half a line
		w.say("DOOR=open\n")
		wantNext(t, pusher, "door=true")
		w.unplug()
		for p := range pusher.Pushed() {
			if p.Err == nil {
				t.Errorf("want no reading of a port that is gone, got %v", p.Readings)
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		w.plug()
	}
	after := resources(t)
	t.Logf("after %d cycles: descriptors %d to %d, goroutines %d to %d, heap %d to %d bytes", cycles,
		before[0], after[0], before[1], after[1], before[2], after[2])
	if after[0] > before[0] || after[1] > before[1] || after[2] > before[2]+256<<10 {
		t.Error("want no growth of descriptors and goroutines, and at most 256 KiB of heap")
	}
}

// resources are the descriptors, goroutines and bytes of heap in use.
func resources(t *testing.T) [3]uint64 {
	t.Helper()
	runtime.GC()
	runtime.GC()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return [3]uint64{uint64(len(list)), uint64(runtime.NumGoroutine()), m.HeapAlloc}
}
