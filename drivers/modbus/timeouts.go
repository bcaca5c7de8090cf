package modbus

import "time"

const (
	// sureAnswers is after how many answers the latency of a unit is known.
	sureAnswers = 8
	// shortestTimeout is the least that is learnt: adapters hold bytes back for 16 ms,
	// and a busy machine looks late.
	shortestTimeout = 100 * time.Millisecond
	// probeShare is how many times as long as a probe of a dead unit its back-off is,
	// while others share the line: they lose 2.5 %.
	probeShare = 40
	// longestShare is how long that is at most.
	longestShare = 5 * time.Minute
)

// learnLatency is for an answer after a latency; the mean and the variation are those
// of TCP's round trips (RFC 6298 §2).
func (h *health) learnLatency(latency time.Duration) {
	if h.answers == 0 {
		h.latency, h.variation = latency, latency/2
	} else {
		h.variation += (max(latency-h.latency, h.latency-latency) - h.variation) / 4
		h.latency += (latency - h.latency) / 8
	}
	h.longest = max(latency, h.longest-h.longest/64)
	h.answers = min(h.answers+1, sureAnswers)
}

// timeout is how long to wait for an answer to a read: what was learnt, at most the
// configured time-out. A unit that was never heard is given what the slowest of its
// neighbours is; 0 is that there are none. The next try after one in vain waits as long
// as is configured, since the unit may be slower or have become so; a unit that is dead
// is given more with every probe.
func (h *health) timeout(configured, neighbours time.Duration) time.Duration {
	t := h.learnt()
	if t == 0 && h.answers == 0 {
		t = neighbours
	}
	if t == 0 || h.strikes > 0 && h.strikes < deadStrikes {
		return configured
	}
	for n := deadStrikes; n < h.strikes && t < configured; n += silenceStrikes {
		t *= 2
	}
	return min(t, configured)
}

// learnt is the time-out that the unit's answers teach; 0 is none yet.
func (h *health) learnt() time.Duration {
	if h.answers < sureAnswers {
		return 0
	}
	return max(h.latency+4*h.variation, 2*h.longest, shortestTimeout)
}

// neighbours is the longest time-out that was learnt of a unit of the line, if one may be
// learnt of another; mu is held.
func (b *bus) neighbours() (longest time.Duration) {
	if !b.rtu {
		return 0
	}
	for i := range b.units {
		longest = max(longest, b.units[i].learnt())
	}
	return longest
}

// latency is how long the unit took to begin its answer, which has just ended: adapters
// that hand it over in one piece make the first byte look late.
func (l *lineLink) latency(sent, first time.Time, f find) time.Duration {
	ended := time.Now().Add(-time.Duration(l.mode.chars(len(f.data)+2)) * l.char)
	if ended.Before(first) {
		first = ended
	}
	return max(0, first.Sub(sent))
}

// latest is how late an answer may come.
func (t timing) latest() time.Duration { return max(t.timeout, t.configured) }
