package main

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLedger(t *testing.T) {
	for _, c := range []struct {
		name      string
		sequences []uint64
		sent      uint64
		want      faults
	}{
		{"nothing sent", nil, 0, faults{}},
		{"all came", []uint64{0, 1, 2}, 3, faults{}},
		{"none came", nil, 3, faults{lost: 3}},
		{"the first is lost", []uint64{1, 2}, 3, faults{lost: 1}},
		{"one in the middle is lost", []uint64{0, 2}, 3, faults{lost: 1}},
		{"the last are lost", []uint64{0}, 200, faults{lost: 199}},
		{"one twice", []uint64{0, 0, 1}, 2, faults{twice: 1}},
		{"one twice, later", []uint64{0, 1, 2, 0}, 3, faults{twice: 1}},
		{"one twice and one lost", []uint64{0, 0}, 2, faults{twice: 1, lost: 1}},
		{"two change places", []uint64{1, 0}, 2, faults{disordered: 1}},
		{"one late by far", []uint64{1, 2, 3, 64, 0}, 65, faults{disordered: 1, lost: 60}},
		{"one that was never sent", []uint64{0, 1}, 1, faults{strange: 1}},
		{"one that nobody can have sent", []uint64{1 << 60, 0}, 1, faults{strange: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l ledger
			for _, s := range c.sequences {
				l.enter(s)
			}
			if got := l.close(c.sent); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestStamp(t *testing.T) {
	payload := make([]byte, headerSize)
	now := time.Now()
	stamp(payload, 7, 1<<40, now)
	publisher, sequence, at, ok := readStamp(payload)
	if publisher != 7 || sequence != 1<<40 || !at.Equal(now) || !ok {
		t.Errorf("got %d %d %v %v", publisher, sequence, at, ok)
	}
	if _, _, _, ok := readStamp(payload[1:]); ok {
		t.Error("a short payload has a stamp")
	}
}

func TestWindowLetsNoMoreThroughThanIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWindow(3)
		taken := make(chan bool, 10)
		go func() {
			for w.take(ctx, 2) {
				taken <- true
			}
			close(taken)
		}()
		for i, want := range []int{1, 2, 2, 3} { // after 0, 1, 2, 3 given
			if i > 0 {
				w.give()
			}
			if synctest.Wait(); len(taken) != want {
				t.Errorf("%d given: taken %d times, want %d", i, len(taken), want)
			}
		}
		cancel()
		synctest.Wait()
		for range taken { // until it is closed
			continue
		}
	})
}

func TestUsageKnowsTheProcessorTime(t *testing.T) {
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
		continue
	}
	after, err := usageOf(os.Getpid())
	if spent := after.cpu - before.cpu; err != nil || spent <= 0 || spent > 10*time.Second {
		t.Errorf("%v, %v", spent, err)
	}
}

func TestUsageCountsChildren(t *testing.T) {
	// The child waits for a line until its input is closed, the shell for the child.
	cmd := exec.Command("sh", "-c", "exec 3<&0; (read line <&3) & wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); err == nil; {
		var u usage
		u, err = usageOf(cmd.Process.Pid)
		if alone, _ := resident(cmd.Process.Pid); u.rss > alone*5/4 {
			break
		}
		if time.Now().After(deadline) {
			err = errors.New("the child is not counted")
		}
	}
	if err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the status is that of read, which failed
	if _, err := usageOf(math.MaxInt32); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

func TestTable(t *testing.T) {
	var table table
	for i, cpu := range []float64{3, 1, 2} {
		table.add("s", "a", result{values: map[string]float64{cpuPerMessage: cpu}})
		table.add("s", "b", result{values: map[string]float64{cpuPerMessage: 4}, faults: faults{lost: uint64(i)}})
	}
	text := strings.Join(strings.Fields(table.String()), " ")
	if want := "s CPU us/msg 2.00 (1.00 to 3.00) 4.00 (4.00 to 4.00) 0.50 b: 3 LOST"; !strings.HasSuffix(text, want) {
		t.Errorf("got %q, want it to end in %q", text, want)
	}
	if table.faulty("a") || !table.faulty("b") {
		t.Error("the wrong side is faulty")
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-only", "fan", "-mqtt", "5.0", "-ours", "bin/gatehouse"})
	if err != nil || !o.only.MatchString("fan-in") || o.version != 5 {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-mqtt", "3.2"}, {"-only", "("}, {"-runs", "0"}, {"-size", "19"}, {"more"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
