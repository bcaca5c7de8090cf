package exposition

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// ofRuntime is a metric of the Go runtime: the sum of some that runtime/metrics has.
type ofRuntime struct {
	name, kind, help string
	of               []string
}

// fromRuntime are the names that every exporter of a Go program has, which dashboards know.
var fromRuntime = []ofRuntime{
	{"go_gc_gogc_percent", gauge, "How much the heap may grow before it is collected.", []string{"/gc/gogc:percent"}},
	{"go_gc_gomemlimit_bytes", gauge, "What the runtime may take of the memory.", []string{"/gc/gomemlimit:bytes"}},
	{"go_memstats_alloc_bytes", gauge, "Bytes of the heap in use.", []string{heapObjects}},
	{"go_memstats_alloc_bytes_total", counter, "Bytes allocated in the heap until now.", []string{"/gc/heap/allocs:bytes"}},
	{"go_memstats_buck_hash_sys_bytes", gauge, "Bytes of tables for profiles.", []string{"/memory/classes/profiling/buckets:bytes"}},
	{"go_memstats_frees_total", counter, "Objects freed.", []string{"/gc/heap/frees:objects", heapTiny}},
	{"go_memstats_gc_sys_bytes", gauge, "Bytes that the collector keeps its books with.", []string{"/memory/classes/metadata/other:bytes"}},
	{"go_memstats_heap_alloc_bytes", gauge, "Bytes of the heap in use.", []string{heapObjects}},
	{"go_memstats_heap_idle_bytes", gauge, "Bytes of the heap that wait to be used.", []string{heapReleased, heapFree}},
	{"go_memstats_heap_inuse_bytes", gauge, "Bytes of the parts of the heap in use.", []string{heapObjects, heapUnused}},
	{"go_memstats_heap_objects", gauge, "Objects in the heap.", []string{"/gc/heap/objects:objects"}},
	{"go_memstats_heap_released_bytes", gauge, "Bytes of the heap that were given back.", []string{heapReleased}},
	{"go_memstats_heap_sys_bytes", gauge, "Bytes of the heap in all.", []string{heapObjects, heapUnused, heapReleased, heapFree}},
	{"go_memstats_mallocs_total", counter, "Objects allocated.", []string{"/gc/heap/allocs:objects", heapTiny}},
	{"go_memstats_mcache_inuse_bytes", gauge, "Bytes of mcache structures in use.", []string{mcacheInUse}},
	{"go_memstats_mcache_sys_bytes", gauge, "Bytes of mcache structures.", []string{mcacheInUse, "/memory/classes/metadata/mcache/free:bytes"}},
	{"go_memstats_mspan_inuse_bytes", gauge, "Bytes of mspan structures in use.", []string{mspanInUse}},
	{"go_memstats_mspan_sys_bytes", gauge, "Bytes of mspan structures.", []string{mspanInUse, "/memory/classes/metadata/mspan/free:bytes"}},
	{"go_memstats_next_gc_bytes", gauge, "Bytes of the heap when it is collected next.", []string{"/gc/heap/goal:bytes"}},
	{"go_memstats_other_sys_bytes", gauge, "Bytes of what else the runtime has.", []string{"/memory/classes/other:bytes"}},
	{"go_memstats_stack_inuse_bytes", gauge, "Bytes of stacks in use.", []string{stacks}},
	{"go_memstats_stack_sys_bytes", gauge, "Bytes of stacks.", []string{stacks, "/memory/classes/os-stacks:bytes"}},
	{"go_memstats_sys_bytes", gauge, "Bytes that the runtime has of the system.", []string{"/memory/classes/total:bytes"}},
	{"go_sched_gomaxprocs_threads", gauge, "Threads that may run Go code at once.", []string{"/sched/gomaxprocs:threads"}},
}

// The metrics of runtime/metrics that several are made of.
const (
	heapFree     = "/memory/classes/heap/free:bytes"
	heapObjects  = "/memory/classes/heap/objects:bytes"
	heapReleased = "/memory/classes/heap/released:bytes"
	heapTiny     = "/gc/heap/tiny/allocs:objects"
	heapUnused   = "/memory/classes/heap/unused:bytes"
	mcacheInUse  = "/memory/classes/metadata/mcache/inuse:bytes"
	mspanInUse   = "/memory/classes/metadata/mspan/inuse:bytes"
	stacks       = "/memory/classes/heap/stacks:bytes"
)

// Runtime shows the Go runtime: go_goroutines, go_threads, go_info, go_gc_* and
// go_memstats_*, as usual. What the runtime does not have is left out.
func (p *Page) Runtime() {
	p.Gauge("go_info", "The version of Go.", 1, "version", runtime.Version())
	p.Gauge("go_goroutines", "Goroutines that there are.", float64(runtime.NumGoroutine()))
	threads, _ := runtime.ThreadCreateProfile(nil) // how many there are to tell
	p.Gauge("go_threads", "Threads of the operating system that were made.", float64(threads))
	p.pauses()
	for _, m := range fromRuntime {
		samples := make([]metrics.Sample, len(m.of))
		for i, name := range m.of {
			samples[i].Name = name
		}
		metrics.Read(samples)
		sum, known := 0.0, true
		for i := range samples {
			if known = known && samples[i].Value.Kind() == metrics.KindUint64; known {
				sum += float64(samples[i].Value.Uint64())
			}
		}
		if known {
			p.add(m.kind, m.name, m.help, nil, sample{value: sum})
		}
	}
}

// pauses shows for how long the collector stopped everything.
func (p *Page) pauses() {
	gc := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&gc)
	var samples []sample
	for i, pause := range gc.PauseQuantiles {
		quantile := float64(i) / float64(len(gc.PauseQuantiles)-1)
		samples = append(samples, sample{label: `quantile="` + number(quantile) + `"`, value: pause.Seconds()})
	}
	samples = append(samples, sample{suffix: "_sum", value: gc.PauseTotal.Seconds()}, sample{suffix: "_count", value: float64(gc.NumGC)})
	p.add(summary, "go_gc_duration_seconds", "For how long the collector stopped everything.", nil, samples...)
	last := 0.0
	if !gc.LastGC.IsZero() {
		last = float64(gc.LastGC.UnixNano()) / 1e9
	}
	p.Gauge("go_memstats_last_gc_time_seconds", "When the collector ran last, as Unix time.", last)
}
