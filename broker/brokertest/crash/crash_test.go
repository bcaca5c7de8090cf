package crash_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/brokertest/crash"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func journalBench(fl flaws) crash.Bench {
	return crash.Bench{Open: func(fsys durable.FS) (store.Store, error) { return openJournal(fsys, fl) }}
}

// sample chooses each n-th operation; with CRASH set in the environment, as by make
// crash, all of them.
func sample(n int) crash.Which {
	if os.Getenv("CRASH") != "" {
		return crash.Every(1)
	}
	return crash.Sample(n)
}

// TestJournal shows that a broker over a store that keeps its word keeps its own.
func TestJournal(t *testing.T) {
	for seed := range uint64(2) {
		b := journalBench(flaws{})
		b.Seed = seed
		cuts, faults := b.PowerCuts(t, sample(20)), b.Faults(t, sample(60))
		t.Logf("seed %d: %d power cuts in %d variants, %d runs with faults", seed, cuts, len(crashfs.Variants), faults)
		if cuts == 0 || faults == 0 {
			t.Error("nothing was tested")
		}
	}
}

// accused is a test that is to fail.
type accused struct {
	*testing.T
	found []string
}

func (a *accused) Errorf(format string, args ...any) {
	a.found = append(a.found, fmt.Sprintf(format, args...))
}

func (a *accused) Failed() bool { return len(a.found) > 0 }

// TestBenchFindsFlaws has stores with one flaw each.
func TestBenchFindsFlaws(t *testing.T) {
	for name, c := range map[string]struct {
		flaws  flaws
		faults bool
		want   string
	}{
		"no sync":                   {flaws{noSync: true}, false, "lost: "},
		"no name":                   {flaws{noDir: true}, false, "lost: "},
		"acknowledges failures":     {flaws{liar: true}, true, "lost: "},
		"forgets QoS 2 identifiers": {flaws{unheld: true}, false, "doubled: "},
		"forgets what was received": {flaws{unsent: true}, false, "doubled: "},
		"forgets messages":          {flaws{forgets: true}, false, "lost: "},
		"swaps messages":            {flaws{swaps: true}, false, "reordered: "},
		"forgets retained":          {flaws{retained: true}, false, "retained"},
		"remembers the dropped":     {flaws{visitors: true}, false, "\"guest\" got message"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &accused{T: t}
			for seed := range uint64(5) {
				b := journalBench(c.flaws)
				b.Seed, b.Patience = seed, 300*time.Millisecond
				if c.faults {
					b.Faults(a, crash.Sample(20))
				} else {
					b.PowerCuts(a, crash.Sample(8))
				}
				if a.Failed() {
					break
				}
			}
			if got := strings.Join(a.found, "\n"); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
