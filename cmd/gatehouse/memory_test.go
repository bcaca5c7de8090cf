package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
	"time"
)

func TestMemoryLimit(t *testing.T) {
	const meminfo = "MemTotal:         400000 kB\nMemFree:          1 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing known":               {nil, 0},
		"the machine's":               {map[string]string{"proc/meminfo": meminfo}, 400000 << 10 / 4 * 3},
		"a group of the old kind":     {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "3:memory:/x\n"}, 400000 << 10 / 4 * 3},
		"a group without limit":       {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "max\n"}, 400000 << 10 / 4 * 3},
		"the group's":                 {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "4000\n"}, 3000},
		"the group's lower one":       {map[string]string{"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "4000\n", "sys/fs/cgroup/x/memory.high": "400\n"}, 300},
		"that of a group above":       {map[string]string{"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/memory.max": "4000\n", "sys/fs/cgroup/a/b/c/memory.max": "8000\n"}, 3000},
		"that of a container's root":  {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4000\n"}, 3000},
		"numbers that make no sense":  {map[string]string{"proc/meminfo": "MemTotal: x kB\n", "proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "-4\n"}, 0},
		"a number beyond all numbers": {map[string]string{"proc/meminfo": "MemTotal: 9223372036854775807 kB\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := memoryLimit(root); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestPacer(t *testing.T) {
	p := &pacer{percent: calmPercent}
	now := time.Now()
	after := func(pause time.Duration, times int) {
		for range times {
			now = now.Add(pause)
			p.percent = p.goal(now)
		}
	}
	for _, step := range []struct {
		what  string
		pause time.Duration
		times int
		want  int
	}{
		{"a start collects a few times", 5 * time.Millisecond, busyCollections, calmPercent},
		{"an idle program", time.Minute, 10, calmPercent},
		{"one that collects twice a second", 500 * time.Millisecond, 20, calmPercent},
		{"messages come fast", 50 * time.Millisecond, busyCollections + 1, busyPercent},
		{"they come a little slower", 500 * time.Millisecond, 20, busyPercent},
		{"they have ended", 2 * time.Minute, 1, calmPercent},
	} {
		after(step.pause, step.times)
		if p.percent != step.want {
			t.Errorf("%s: got %d %%, want %d %%", step.what, p.percent, step.want)
		}
	}
}

func TestGivesBack(t *testing.T) {
	p := &pacer{spareMost: spareMost, percent: busyPercent, quiet: time.NewTimer(time.Hour)}
	defer debug.SetGCPercent(debug.SetGCPercent(calmPercent))
	var held [][]byte
	for range 512 {
		held = append(held, make([]byte, 1<<18))
	}
	runtime.KeepAlive(held)
	held = nil
	runtime.GC()
	if got, _ := spare(); got <= spareMost { // the runtime gives back too, but not so fast
		t.Fatalf("%d bytes are spare, of %d that were let go", got, 512<<18)
	}
	p.giveBack()
	if got, _ := spare(); got > spareMost {
		t.Errorf("%d bytes are spare still", got)
	}
	if p.percent != calmPercent {
		t.Errorf("the goal is %d %%", p.percent)
	}
}

// TestGivingBackCostsLittle has a program with much that is live, whose garbage grows
// slowly, collect for nothing but that at most one hundredth of the time.
func TestGivingBackCostsLittle(t *testing.T) {
	p := &pacer{spareMost: spareMost, percent: calmPercent, quiet: time.NewTimer(time.Hour)}
	defer p.stop()
	now, cost := time.Now(), time.Duration(0)
	begin := now
	for range 10_000 { // a look each two seconds
		now = now.Add(quietTime)
		if p.mayGiveBack(now) {
			took := 400 * time.Millisecond
			p.gaveBack(now, now.Add(took))
			now, cost = now.Add(took), cost+took
		}
	}
	if spent := now.Sub(begin); cost > spent/giveBackShare || cost == 0 {
		t.Errorf("of %v it has collected for %v", spent, cost)
	}
	for _, tt := range []struct {
		spare, live int64
		want        bool
	}{
		{spareMost, 0, false},
		{spareMost + 1, 4 * spareMost, true},
		{20 << 20, 400 << 20, false},
		{101 << 20, 400 << 20, true},
	} {
		if got := p.worthwhile(tt.spare, tt.live); got != tt.want {
			t.Errorf("%d bytes spare beside %d: got %v", tt.spare, tt.live, got)
		}
	}
}
