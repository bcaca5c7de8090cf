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

// memoryGauge tells how much memory the scripts hold, as of the last collection.
type memoryGauge struct {
	most   int64 // live bytes from which on a script has to go
	sample []metrics.Sample
}

func newMemoryGauge(memory int64) *memoryGauge {
	return &memoryGauge{most: memory / 2, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
}

func (g *memoryGauge) live() int64 {
	metrics.Read(g.sample)
	if g.sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(g.sample[0].Value.Uint64())
}

func (g *memoryGauge) high() bool { return g.live() > g.most }
