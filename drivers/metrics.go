package drivers

import (
	"maps"
	"math/bits"
	"sync"
	"time"
)

// Metered is a Device that counts what happens on its wire.
type Metered interface {
	Device
	// Metrics tells what was counted since Open. It may be called by any goroutine
	// after Open, also while another method runs and after Close; it does not wait
	// for the equipment.
	Metrics() Metrics
}

// Metrics are what a driver counted of one device since it was opened. The Host adds
// up those of a device that was opened several times.
type Metrics struct {
	// Counters are numbers that only grow, by name: "polls", "answers", "timeouts",
	// "exception_2", "crc_errors", "retries", "sent_bytes", "received_bytes". A name
	// has the letters a to z, digits and "_", and there are few.
	Counters map[string]uint64
	// Gauges are numbers as they are now, by name: "bus_load_percent". They are not
	// added up.
	Gauges map[string]float64
	// Exchanges are how long requests took to their answer, each of them; the zero
	// value tells nothing.
	Exchanges Latency
}

// latencyBuckets is how many buckets a Latency has: of each power of two of
// microseconds four, which ends at about 9 minutes.
const latencyBuckets = 4 * 28

// Latency is how often something took how long, in buckets of less than a quarter of
// their bound. The zero value is empty.
type Latency struct {
	Count   uint64
	Sum     time.Duration
	Most    time.Duration
	Buckets [latencyBuckets]uint64
}

// bucketOf is the bucket of a duration.
func bucketOf(d time.Duration) int {
	us := uint64(max(0, d/time.Microsecond))
	if us < 4 {
		return int(us)
	}
	n := bits.Len64(us) - 3 // us>>n is 4 to 7
	return min(4*n+int(us>>n), latencyBuckets-1)
}

// bucketEnd is the duration that a bucket ends before.
func bucketEnd(i int) time.Duration {
	if i < 4 {
		return time.Duration(i+1) * time.Microsecond
	}
	return time.Duration((uint64(i)%4+5)<<(i/4-1)) * time.Microsecond
}

// Observe counts one duration.
func (l *Latency) Observe(d time.Duration) {
	l.Count++
	l.Sum += d
	l.Most = max(l.Most, d)
	l.Buckets[bucketOf(d)]++
}

// Add counts what another one has counted.
func (l *Latency) Add(m *Latency) {
	l.Count += m.Count
	l.Sum += m.Sum
	l.Most = max(l.Most, m.Most)
	for i, n := range m.Buckets {
		l.Buckets[i] += n
	}
}

// Quantile is the duration that the share q (0 to 1) of all is within, at most a
// quarter too long; 0 if there are none.
func (l *Latency) Quantile(q float64) time.Duration {
	left := q * float64(l.Count)
	for i, n := range l.Buckets {
		if left -= float64(n); n > 0 && left <= 0 {
			return min(bucketEnd(i), l.Most)
		}
	}
	return l.Most
}

// Within is how many took no longer than a duration, as far as buckets tell: of the
// bucket that d falls into, all.
func (l *Latency) Within(d time.Duration) uint64 {
	sum := uint64(0)
	for _, n := range l.Buckets[:bucketOf(d)+1] {
		sum += n
	}
	return sum
}

// Add adds up counters and latency, and takes the gauges of m.
func (t *Metrics) Add(m *Metrics) {
	if t.Counters == nil && len(m.Counters) > 0 {
		t.Counters = make(map[string]uint64, len(m.Counters))
	}
	for name, n := range m.Counters {
		t.Counters[name] += n
	}
	t.Gauges = m.Gauges
	t.Exchanges.Add(&m.Exchanges)
}

// Meter is a set of counters, gauges and a Latency that a driver may keep its Metrics
// in. The zero value is empty. Its methods may be called by any goroutine.
type Meter struct {
	mu       sync.Mutex
	counters map[string]uint64
	gauges   map[string]float64
	latency  Latency
}

// Set sets a gauge.
func (m *Meter) Set(name string, v float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gauges == nil {
		m.gauges = make(map[string]float64)
	}
	m.gauges[name] = v
}

// Count adds to a counter.
func (m *Meter) Count(name string, n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counters == nil {
		m.counters = make(map[string]uint64)
	}
	m.counters[name] += n
}

// Observe counts how long one exchange took.
func (m *Meter) Observe(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latency.Observe(d)
}

// Metrics returns what was counted.
func (m *Meter) Metrics() Metrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Metrics{Counters: maps.Clone(m.counters), Gauges: maps.Clone(m.gauges), Exchanges: m.latency}
}
