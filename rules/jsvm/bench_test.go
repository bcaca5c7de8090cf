package jsvm_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// rss is the memory of a process that is its own, in bytes: how much of its program's file is
// counted besides depends on the kernel, and "gatehouse" gives that back.
func rss(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// processorTime is what this process and its worker used so far.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond
	var sum int
	for _, pid := range []int{os.Getpid(), worker(t)} {
		user, system := ticks(t, pid)
		sum += user + system
	}
	return time.Duration(sum) * tick
}

// BenchmarkScriptRule makes calls of the door example; ns/call is what counts.
func BenchmarkScriptRule(b *testing.B) {
	bodies := map[string]string{
		"empty": ``,
		"door":  `if (msg.payload.open) publish('home/' + msg.parts[1] + '/light/set', { on: true }, { qos: 1 })`,
		"state": `const n = (state.get('n') || 0) + msg.payload.c; let s = 0; for (let i = 0; i < 50; i++) s += i; state.set('n', n); publish('sum', s)`,
	}
	for _, name := range []string{"empty", "door", "state"} {
		for _, size := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, size), func(b *testing.B) {
				s := start(b)
				p := s.compile(b, "door.js", "on('home/+/door', (msg) => {"+bodies[name]+"})")
				calls := make([]rules.Call, size)
				for i := range calls {
					calls[i] = s.call(0, "home/hall/door", `{"open":true,"c":21.5,"unit":"C","at":1795334400}`)
				}
				b.ReportAllocs()
				cpu := processorTime(b)
				for b.Loop() {
					for _, o := range p.Run(b.Context(), calls) {
						if o.Err != nil {
							b.Fatal(o.Err)
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/call")
				b.ReportMetric(float64((processorTime(b)-cpu).Nanoseconds())/float64(b.N*size), "cpu-ns/call")
				b.ReportMetric(float64(rss(b, worker(b)))/(1<<20), "MiB-worker")
			})
		}
	}
}

// When garbage is collected depends on what else the machine does: the least of three
// workers tells what one takes.
func TestWorkerIsSmall(t *testing.T) {
	least := math.MaxInt
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := start(t)
			for i := range 10 {
				p := s.compile(t, fmt.Sprintf("%d.js", i), counter)
				s.hear(t, p, 0, "count", "")
			}
			size := rss(t, worker(t))
			t.Logf("%.1f MiB with ten scripts", float64(size)/(1<<20))
			least = min(least, size)
		})
	}
	if limit := 15 << 20; least > limit && !raceEnabled {
		t.Errorf("the worker takes %d bytes with ten scripts", least)
	}
}
