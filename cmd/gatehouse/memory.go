package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The garbage collector's goals: how much a heap may grow before it is collected,
// in percent of what is live.
const (
	calmPercent = 100 // Go's own
	busyPercent = 400
)

// When a program is busy: it collects so often that it spends a good part of its time
// at it. It is calm again when collections are calm apart.
const (
	busyCollections = 8
	busyTime        = 2 * time.Second
	calm            = time.Second
)

// What was needed for a while, such as for the handshakes of thousands of clients at
// once, is given back when there was no collection for quietTime, if it is more than
// spareMost bytes and one part in spareShare of what is live. That takes a collection, the
// longer the more is live: all that do it take at most one part in giveBackShare of the
// time.
const (
	quietTime     = 2 * time.Second
	spareMost     = 16 << 20 // of the gateway
	spareWorker   = 4 << 20  // of the script worker
	spareShare    = 4
	giveBackShare = 100
)

// boundMemory has the collector work harder before the machine or the control group is
// out of memory, and less hard while messages come fast: an idle gateway stays small, a
// busy one does not spend on garbage what messages need. GOMEMLIMIT and GOGC of the
// environment are obeyed. What is returned ends it.
func boundMemory(getenv func(string) string) (stop func()) {
	if getenv("GOMEMLIMIT") == "" {
		if limit := memoryLimit(os.DirFS("/")); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
	}
	if getenv("GOGC") != "" {
		return func() {}
	}
	// A start is no time to collect: most of what it allocates stays. The first collection,
	// or quiet, ends that.
	return pace(busyPercent, spareMost)
}

// pace begins with a goal, and gives back what is spare above that many bytes. What is
// returned ends it.
func pace(percent int, spareMost int64) (stop func()) {
	p := &pacer{percent: percent, spareMost: spareMost}
	debug.SetGCPercent(percent)
	p.quiet = time.AfterFunc(quietTime, p.giveBack)
	p.arm()
	return p.stop
}

// pacer sees every collection and sets the goal of the next.
type pacer struct {
	spareMost int64

	mu      sync.Mutex
	last    [busyCollections]time.Time // in a circle
	at      int
	percent int
	stopped bool
	quiet   *time.Timer
	rests   time.Time // nothing is given back before
}

// arm has the next collection call collected: it finds that nobody holds the object.
func (p *pacer) arm() {
	type canary struct{ _ [16]byte } // of its own block, not of a tiny allocator's
	runtime.AddCleanup(&canary{}, func(p *pacer) { p.collected(time.Now()) }, p)
}

func (p *pacer) collected(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	if percent := p.goal(now); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	p.quiet.Reset(quietTime)
	p.arm()
}

// giveBack gives the kernel what is spare. The collection that this takes is followed
// by another look, which finds nothing more.
func (p *pacer) giveBack() {
	if !p.mayGiveBack(time.Now()) || !p.worthwhile(spare()) {
		return
	}
	began := time.Now()
	debug.FreeOSMemory()
	p.gaveBack(began, time.Now())
}

// mayGiveBack reports whether it is quiet and has been for long enough; if not, it is
// asked again.
func (p *pacer) mayGiveBack(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	if p.percent != calmPercent {
		p.percent = calmPercent
		debug.SetGCPercent(calmPercent)
	}
	if rest := p.rests.Sub(now); rest > 0 {
		p.quiet.Reset(rest)
		return false
	}
	return true
}

// gaveBack notes how long it took.
func (p *pacer) gaveBack(began, ended time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rests = ended.Add(ended.Sub(began) * giveBackShare)
}

// worthwhile reports whether what is spare is worth a collection of what is live.
func (p *pacer) worthwhile(spare, live int64) bool {
	return spare > max(p.spareMost, live/spareShare)
}

// spare is how much memory of the heap holds nothing that is live, and is not given
// back, and how much is live, in bytes.
func spare() (bytes, live int64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	var n [3]int64
	for i := range samples {
		if samples[i].Value.Kind() == metrics.KindUint64 { // else there is no such metric
			n[i] = int64(samples[i].Value.Uint64())
		}
	}
	free, objects := n[0], n[1]
	return free + max(objects-n[2], 0), n[2]
}

// goal takes note of a collection and says what the next one's goal is.
func (p *pacer) goal(now time.Time) int {
	before, first := p.last[(p.at+busyCollections-1)%busyCollections], p.last[p.at]
	p.last[p.at] = now
	p.at = (p.at + 1) % busyCollections
	switch {
	case now.Sub(before) > calm:
		return calmPercent
	case now.Sub(first) < busyTime:
		return busyPercent
	default:
		return p.percent
	}
}

func (p *pacer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.quiet.Stop()
}

// memoryLimit is what the heap may take of the machine, or of the control group if
// that is less: three quarters, since the script worker, plugins and the page cache
// live there too. 0 is unknown.
func memoryLimit(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	if total := machineMemory(root); total > 0 {
		least = total
	}
	if group, err := fs.ReadFile(root, "proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(group)) {
			name, unified := strings.CutPrefix(strings.TrimSpace(line), "0::/") // cgroups(7), version 2
			for ; unified; name = path.Dir(name) {
				least = min(least, groupMemory(root, name))
				unified = name != "." && name != ""
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least / 4 * 3
}

// machineMemory reads proc_meminfo(5), in bytes; 0 if it cannot.
func machineMemory(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			kB, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || kB > math.MaxInt64>>10 {
				return 0
			}
			return kB << 10
		}
	}
	return 0
}

// groupMemory is the least of a control group's limits.
func groupMemory(root fs.FS, name string) int64 {
	least := int64(math.MaxInt64)
	for _, file := range []string{"memory.max", "memory.high"} {
		text, err := fs.ReadFile(root, path.Join("sys/fs/cgroup", name, file))
		if err != nil {
			continue // a group without the controller, or the root
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // else "max"
			least = min(least, n)
		}
	}
	return least
}
