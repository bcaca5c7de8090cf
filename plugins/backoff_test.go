package plugins_test

import (
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/plugins"
)

func TestBackoff(t *testing.T) {
	next := plugins.Backoff(time.Second, time.Minute, 10*time.Minute)
	for i, step := range []struct {
		ran     time.Duration
		refused bool
		want    time.Duration
		failing bool
	}{
		{0, false, time.Second, false},
		{time.Minute, false, 2 * time.Second, false},
		{0, false, 4 * time.Second, false},
		{0, false, 8 * time.Second, false},
		{0, false, 16 * time.Second, false},
		{0, false, 32 * time.Second, true}, // the budget is used up
		{0, false, time.Minute, true},
		{0, false, time.Minute, true},
		{10 * time.Minute, false, time.Second, false}, // it was healthy
		{0, true, time.Minute, true},                  // refused: once a minute
		{0, false, 4 * time.Second, false},
	} {
		pause, failing := next(step.ran, step.refused)
		if pause > step.want || pause < step.want*3/4 || failing != step.failing {
			t.Errorf("step %d: pause %v, failing %v; want %v less up to a quarter, %v", i, pause, failing, step.want, step.failing)
		}
	}
	long := plugins.Backoff(time.Second, time.Minute, time.Hour)
	for range 100 {
		if pause, _ := long(0, false); pause <= 0 || pause > time.Minute {
			t.Fatalf("pause = %v", pause)
		}
	}
}
