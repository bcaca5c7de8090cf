package broker

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, rate := range []int{1, 3, 100, 1_000_000} {
		p, now := newPace(rate), time.Unix(1000, 0)
		start, taken := now, 0
		for now.Sub(start) < 10*time.Second && taken < 5_000_000 {
			p.take(now)
			taken++
			if !p.spent {
				continue
			}
			p.spent = false
			now = now.Add(max(p.rest(now), 0))
		}
		// What the bucket held at first, and what ten seconds brought.
		if most := 11*rate + 1; taken > most || taken < 10*rate && taken < 5_000_000 {
			t.Errorf("rate %d: %d in %v", rate, taken, now.Sub(start))
		}
	}
}

func TestPaceGivesNoMoreAfterAPause(t *testing.T) {
	p, now := newPace(10), time.Unix(1000, 0)
	p.take(now)
	now = now.Add(time.Hour)
	n := 0
	for p.spent = false; !p.spent; n++ {
		p.take(now)
	}
	if n != 10 {
		t.Errorf("%d at once after an hour, want those of one second", n)
	}
}

func TestPaceOff(t *testing.T) {
	p := newPace(0)
	for range 1000 {
		if p.take(time.Unix(1000, 0)); p.spent {
			t.Fatal("it holds up who has no limit")
		}
	}
}
