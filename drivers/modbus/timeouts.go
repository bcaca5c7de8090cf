package modbus

import "time"

const (
	// sureAnswers is after how many answers the latency of a unit is known.
	sureAnswers = 8
	// shortestTimeout is the least that is learnt: adapters hold bytes back for 16 ms,
	// and a busy machine looks late.
	shortestTimeout = 100 * time.Millisecond
	// probeShare is how many times as long as a probe of a dead unit its back-off is,
	// while others share the line: they lose 2.5 %, and 1 % as the line is wary.
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
// configured time-out. The next try after one in vain waits that long, since the unit
// may have become slower; a unit that is dead is given more and more.
func (h *health) timeout(configured time.Duration) time.Duration {
	if h.answers < sureAnswers || h.strikes > 0 && h.strikes < deadStrikes {
		return configured
	}
	t := max(h.latency+4*h.variation, 2*h.longest, shortestTimeout)
	for n := deadStrikes; n <= h.strikes && t < configured; n += silenceStrikes {
		t *= 2
	}
	return min(t, configured)
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
