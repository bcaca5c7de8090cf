package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// TestMain is also the gateway that rows with rules start, and its worker.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "run":
		err = gatewayMain(os.Args[3])
	case len(os.Args) == 2 && os.Args[1] == "worker":
		err = jsvm.Worker(context.Background())
	default:
		goleak.VerifyTestMain(m)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func gatewayMain(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Read(file, nil)
	if err != nil {
		return err
	}
	g, err := gateway.New(cfg, gateway.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Worker: []string{"/proc/self/exe", "worker"}})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// house starts a gateway of its own process with rules.
func house(t *testing.T, r *ruleset) *process {
	t.Helper()
	s := gatehouse("self", "/proc/self/exe")
	s.limits = true
	p, err := start(t.Context(), s, needs{rules: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestRowsWithRulesLoseNothing(t *testing.T) {
	o := &options{version: packet.V311, size: 100, runs: 1, slices: 1, reloads: 3}
	for _, r := range ruleRows(o) {
		if strings.HasSuffix(r.name, "against none") {
			continue // that is memory, which takes its time to settle
		}
		t.Run(r.name, func(t *testing.T) {
			got := try(t, house(t, r.needs.rules), o, r.prepare)
			if got.faults != (faults{}) {
				t.Error(got.faults)
			}
			for _, b := range r.bounds {
				exact := b.of == atLeast || b.value == 0 // what depends on the time may not be there
				if v, ok := got.values[b.metric]; exact && (!ok || b.of == atLeast && v < b.value || b.of == atMost && v != 0) {
					t.Errorf("%s is %v (%v), want %s", b.metric, v, ok, b)
				}
			}
		})
	}
}

func TestControlRowsMeasureEachChange(t *testing.T) {
	for _, r := range controlRows() {
		t.Run(r.name, func(t *testing.T) {
			got := try(t, house(t, r.needs.rules), &options{time: 50 * time.Millisecond}, r.prepare)
			if got.faults.strange+got.faults.twice > 0 || got.values[p50] <= 0 || got.values[p99] < got.values[p50] {
				t.Errorf("%v %+v", got.values, got.faults)
			}
		})
	}
}

func TestMemoryOfRulesIsMeasured(t *testing.T) {
	got := try(t, house(t, manyScripts(2)), &options{}, prepareMany)
	if got.values[workMegabytes] <= 0 {
		t.Errorf("measured %v", got.values)
	}
	if _, ok := got.values[moreMegabytes]; !ok {
		t.Errorf("measured %v", got.values)
	}
}

func TestWhatRulesDoWrongIsFound(t *testing.T) {
	o := &options{version: packet.V311, size: 100, reloads: 3}
	t.Run("another mean", func(t *testing.T) {
		r := meanRules()
		r.files["mean.yaml"] = strings.Replace(r.files["mean.yaml"], "last: 10", "last: 9", 1)
		if got := try(t, house(t, r), o, ruleLoad(&ruled{check: rightMean, quiet: 200 * time.Millisecond}).prepare); got.faults.strange == 0 {
			t.Errorf("%+v", got.faults)
		}
	})
	t.Run("every second message", func(t *testing.T) {
		r := doorRules()
		r.files["door.yaml"] = strings.Replace(r.files["door.yaml"], "payload.open == true", "payload.value % 2 == 0", 1)
		l := ruleLoad(&ruled{quiet: 200 * time.Millisecond})
		l.window, l.rate = 0, 200
		if got := try(t, house(t, r), o, l.prepare); got.faults.lost == 0 {
			t.Errorf("%+v", got.faults)
		}
	})
}

func TestAForgottenCountIsFound(t *testing.T) {
	r := &reload{counts: make([]float64, 2)}
	for _, c := range []struct {
		publisher int
		payload   string
		known     bool
	}{
		{0, `{"stamp":"","value":1,"version":0}`, true},
		{1, `{"stamp":"","value":1,"version":0}`, true},
		{0, `{"stamp":"","value":2,"version":1}`, true},
		{0, `{"stamp":"","value":1,"version":2}`, true}, // begins again
		{1, `{"stamp":"","value":2,"version":2}`, true},
		{0, `{"stamp":""}`, false},
		{2, `{"stamp":"","value":2,"version":2}`, false},
	} {
		if known := r.saw(c.publisher, 0, []byte(c.payload)); known != c.known {
			t.Errorf("%d, %s: %v", c.publisher, c.payload, known)
		}
	}
	if r.forgotten != 1 || r.version != 2 {
		t.Errorf("%d were forgotten, version %d; want 1 and 2", r.forgotten, r.version)
	}
}

func TestRuledPayloads(t *testing.T) {
	for _, size := range []int{20, 100, 333} {
		b := rulePayload(7, size)
		r := &ruled{}
		r.stamp(b, 7, 1<<40+3, 12345)
		var m struct {
			Open      bool
			ID, Value int
			Stamp     string
		}
		if err := json.Unmarshal(b, &m); err != nil || !m.Open || m.ID != 107 || m.Value != 20+(1<<40+3)%10 || size > 99 && len(b) != size {
			t.Errorf("%s, %+v, %v", b, m, err)
		}
		for _, answer := range []string{string(b), m.Stamp, `{"value":24.5,"stamp":"` + m.Stamp + `"}`} {
			publisher, sequence, at, ok := r.read([]byte(answer))
			if publisher != 7 || sequence != 1<<40+3 || at != 12345 || !ok {
				t.Errorf("%s: got %d %d %d %v", answer, publisher, sequence, at, ok)
			}
		}
	}
	for _, bad := range []string{"", "ding", `{"stamp":"00"}`, strings.Repeat("x", 40)} {
		if _, _, _, ok := (&ruled{}).read([]byte(bad)); ok {
			t.Errorf("%q has a stamp", bad)
		}
	}
	for sequence, mean := range map[uint64]string{0: "20", 1: "20.5", 8: "24", 9: "24.5", 12345: "24.5"} {
		if !rightMean(0, sequence, []byte(`{"stamp":"","value":`+mean+`}`)) || rightMean(0, sequence, []byte(`{"value":24.6}`)) {
			t.Errorf("the mean after message %d is not %s", sequence, mean)
		}
	}
	if !rightCount(0, 4, []byte(`{"value":5}`)) || rightCount(0, 4, []byte(`{"value":4}`)) || rightCount(0, 4, []byte(`{}`)) {
		t.Error("counts are judged wrongly")
	}
}

func TestFlowsAreWhole(t *testing.T) {
	for _, r := range ruleRows(&options{reloads: 1}) {
		text, err := house0().flows(r.needs.rules)
		if err != nil {
			t.Fatal(err)
		}
		var nodes []struct {
			ID, Type string
			Wires    []json.RawMessage
		}
		if err := json.Unmarshal(text, &nodes); err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		for _, n := range nodes {
			if n.ID == "" || n.Type == "" || known[n.ID] {
				t.Errorf("%s: node %q of type %q stands twice, or is not named", r.name, n.ID, n.Type)
			}
			known[n.ID] = true
		}
		for _, n := range nodes {
			for _, raw := range n.Wires {
				var to []string
				if err := json.Unmarshal(raw, &to); err != nil {
					t.Fatal(err)
				}
				for _, id := range to {
					if !known[id] {
						t.Errorf("%s: %s goes to %q, which is no node", r.name, n.ID, id)
					}
				}
			}
		}
	}
}

// house0 is a broker that does not run.
func house0() *process { return at("127.0.0.1:1883") }

func TestWithoutNodeRedItsColumnIsLeftOut(t *testing.T) {
	s := nodeRed(t.TempDir(), "true")
	if err := s.find(t.Context()); !errors.Is(err, errNoNodeRed) || !strings.Contains(err.Error(), "node_modules") {
		t.Errorf("got %v", err)
	}
}
