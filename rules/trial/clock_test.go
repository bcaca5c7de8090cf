package trial_test

import (
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules/trial"
)

func TestMonotonicAndWallAreApart(t *testing.T) {
	start := time.Date(2026, 11, 25, 18, 0, 0, 7, time.UTC)
	clock, err := trial.NewClock(start)
	if err != nil {
		t.Fatal(err)
	}
	before := clock.Now()
	if !before.Round(0).Equal(start) || before.Location() != time.UTC {
		t.Errorf("it is %v", before)
	}
	for _, wall := range []time.Time{
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2100, 1, 1, 0, 0, 0, 999, time.FixedZone("here", 7200)),
	} {
		if err := clock.Set(wall); err != nil {
			t.Fatal(err)
		}
		now := clock.Now()
		if now.Sub(before) != 0 || before.Before(now) || before.After(now) {
			t.Errorf("the monotonic clock went by %v", now.Sub(before))
		}
		if !now.Round(0).Equal(wall) || now.Location() != wall.Location() {
			t.Errorf("it is %v, not %v", now, wall)
		}
		later := now.Add(time.Hour)
		if later.Sub(before) != time.Hour || !later.Round(0).Equal(wall.Add(time.Hour)) {
			t.Errorf("an hour later it is %v, %v later", later, later.Sub(before))
		}
	}
	select {
	case <-clock.After(0):
	default:
		t.Error("nothing is not over at once")
	}
	select {
	case <-clock.After(1):
		t.Error("the clock moves by itself")
	default:
	}
}
