package gateway_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// statuses is a message.Bus that keeps nothing but what it tells of one device's status.
type statuses struct {
	topic string
	told  chan string
}

func (s *statuses) Publish(ctx context.Context, msgs ...message.Message) error {
	for _, m := range msgs {
		if m.Topic != s.topic {
			continue
		}
		select {
		case s.told <- string(m.Payload):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *statuses) Subscribe(ctx context.Context, sub message.Subscription, _ message.Handler) error {
	sub.Ready()
	<-ctx.Done()
	return nil
}

func (s *statuses) Resubscribe(context.Context, string, []string) error { return nil }

// want waits for a status.
func (s *statuses) want(t *testing.T, status string) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		select {
		case got := <-s.told:
			if got == status {
				return
			}
		case <-late:
			t.Fatalf("want the device %s", status)
		}
	}
}

// TestReplugCyclesOfModbus pulls the port of a line out and plugs it in again under
// another name, over and over: 1,000 times with SOAK, as `make soak` has it.
func TestReplugCyclesOfModbus(t *testing.T) {
	cycles := 30
	switch {
	case os.Getenv("SOAK") != "":
		cycles = 1000
	case testing.Short():
		cycles = 12
	}
	const settle = 10 // cycles until what is kept for good is there
	const atRest = 5  // of these, the last that are looked at: one may be seen before all has begun to wait
	link := filepath.Join(t.TempDir(), "port")
	d, err := modbus.New(modbus.Options{OpenSerial: gateway.OpenSerial, Appear: serial.Appear})
	if err != nil {
		t.Fatal(err)
	}
	unit := drivertest.Config(t, "unit", "driver: modbus-simulator\nserial: {port: 'pty:"+link+"'}\npoints:\n  x: {holding: 0, initial: 7}\n")
	host, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"modbus": d}, RetryFirst: 5 * time.Minute, RetryMost: 10 * time.Minute, OpenTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	file := "driver: modbus\nserial: {port: " + link + ", baud: 115200}\ntimeout: 30s\nevery: 20ms\npoints:\n  x: {holding: 0}\n"
	if err := host.Load(t.Context(), fstest.MapFS{"meter.yaml": {Data: []byte(file)}}); err != nil {
		t.Fatal(err)
	}
	bus := &statuses{topic: "meter/status", told: make(chan string, 16)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx, bus) }()
	bus.want(t, "offline")

	var before [3]uint64
	var waited []time.Duration
	names := map[string]bool{}
	for i := range cycles {
		if i > settle-atRest && i <= settle {
			before = most(before, resting(t))
		}
		release := func() {}
		if i%2 == 1 {
			release = takeName(t)
		}
		port, err := d.Simulator().Open(t.Context(), unit)
		release()
		if err != nil {
			t.Fatal(err)
		}
		plugged := time.Now()
		name, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		names[name] = true
		bus.want(t, "online")
		waited = append(waited, time.Since(plugged))
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
		bus.want(t, "offline")
	}
	after := resting(t)
	for late := time.Now().Add(time.Minute); after[0] > before[0] || after[1] > before[1]; after = resting(t) {
		if time.Now().After(late) { // what is ending has ended by now
			break
		}
	}
	slices.Sort(waited)
	t.Logf("%d cycles under %d names: online again after %v (half), %v (most); descriptors %d to %d, goroutines %d to %d, heap %d to %d bytes",
		cycles, len(names), waited[len(waited)/2], waited[len(waited)-1], before[0], after[0], before[1], after[1], before[2], after[2])
	if len(names) < 2 {
		t.Error("want the port under more than one name")
	}
	if after[0] > before[0] || after[1] > before[1] || after[2] > before[2]+256<<10 {
		t.Error("want no growth of descriptors and goroutines, and at most 256 KiB of heap")
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// takeName has the next pseudo-terminal get another name.
func takeName(t *testing.T) (release func()) {
	t.Helper()
	p, err := serial.OpenPseudo(t.Context(), filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// resting are the resources once no goroutine has come or gone for a fifth of a second:
// the status is told while the port is still being waited for, or before.
func resting(t *testing.T) [3]uint64 {
	t.Helper()
	n, same := runtime.NumGoroutine(), 0
	for late := time.Now().Add(time.Minute); same < 20 && time.Now().Before(late); same++ {
		<-time.After(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n, same = now, 0
		}
	}
	return resources(t)
}

// most has the greater of each.
func most(a, b [3]uint64) [3]uint64 {
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
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
