package jsvm

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitMemory bounds the data segment (RLIMIT_DATA) to what the program has mapped
// now and extra bytes. Past it the runtime cannot grow, and the process ends.
func limitMemory(extra int64) error {
	mapped, err := dataMapped()
	if err != nil {
		return err
	}
	limit := uint64(mapped + extra)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("cannot limit the memory of scripts: %w", err)
	}
	// A dump of memory would be of no use and may hold payloads.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot turn off memory dumps: %w", err)
	}
	preferInShortage()
	return nil
}

// dataMapped is the size of the data segment in bytes, as the kernel counts it for
// RLIMIT_DATA.
func dataMapped() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("cannot tell the memory in use: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmData:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read the memory in use: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("cannot tell the memory in use: the kernel does not say")
}

// preferInShortage asks the kernel to end this process before others when memory
// runs out. It is a wish: without it all works as well.
func preferInShortage() {
	f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString("500")
	_ = f.Close()
}

// memoryGauge tells how much memory the scripts hold.
type memoryGauge struct {
	memory int64
	most   int64 // live bytes from which on a script has to go
	base   int64 // mapped when there was no script
	before int64 // mapped when growth was last asked for
	held   []metrics.Sample
	taken  []metrics.Sample
	mapped []metrics.Sample
}

func newMemoryGauge(memory int64) *memoryGauge {
	g := &memoryGauge{
		memory: memory, most: memory * 3 / 8,
		held:   []metrics.Sample{{Name: "/gc/heap/live:bytes"}},
		taken:  []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}},
		mapped: []metrics.Sample{{Name: "/memory/classes/total:bytes"}},
	}
	g.base = read(g.mapped)
	g.before = g.base
	return g
}

// growth is how much more was mapped since the last time, and whether what is left
// is too little to go on with: memory is never unmapped, and the next thing to run
// short could be an innocent event.
func (g *memoryGauge) growth() (bytes int64, worn bool) {
	now := read(g.mapped)
	bytes, g.before = now-g.before, now
	return bytes, now-g.base > g.memory*3/4
}

// live is what was in use at the end of the last collection.
func (g *memoryGauge) live() int64 { return read(g.held) }

// high reports whether that is too much.
func (g *memoryGauge) high() bool { return g.live() > g.most }

// littered reports whether there is so much garbage that it is worth a collection.
func (g *memoryGauge) littered() bool { return read(g.taken) > g.most }

func read(sample []metrics.Sample) int64 {
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
