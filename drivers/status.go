package drivers

import (
	"context"
	"maps"
	"slices"
	"time"
)

// DeviceStatus is what a device is at a moment.
type DeviceStatus struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Driver string `json:"driver,omitempty"` // empty if the file was never understood
	Topic  string `json:"topic,omitempty"`
	// Online says that the device answers.
	Online bool `json:"online"`
	// Reason is why it is not online.
	Reason string `json:"reason,omitempty"`
	// Since is when Online last changed.
	Since time.Time `json:"since,omitzero"`
	// FileError is what is wrong with the file as it is now; the device, if there
	// is one, runs by the version before.
	FileError string `json:"file_error,omitempty"`
	// LastMalformed is why what the device said was last not understood.
	LastMalformed string        `json:"last_malformed,omitempty"`
	Points        []PointStatus `json:"points"`
	Counters      Counters      `json:"counters"`
	// Reads is how long reads took that were answered.
	Reads Latency `json:"-"`
	// Metrics are what the driver counted, if it counts; those of all times that the
	// device was open are added up.
	Metrics Metrics `json:"-"`
}

// PointStatus is what a point is at a moment.
type PointStatus struct {
	Name     string `json:"name"`
	Topic    string `json:"topic"` // where its value is published
	Unit     string `json:"unit,omitempty"`
	Writable bool   `json:"writable"`
	// Min, Max, Step, Confirm, History, Names and Flags are those of the point.
	Min     Value `json:"min,omitzero"`
	Max     Value `json:"max,omitzero"`
	Step    Value `json:"step,omitzero"`
	Confirm bool  `json:"confirm,omitempty"`
	History bool  `json:"history,omitempty"`
	Names   Names `json:"names,omitempty"`
	Flags   Flags `json:"flags,omitempty"`
	// Value is the last good value; null before the first.
	Value   Value     `json:"value"`
	Quality Quality   `json:"quality"` // Bad before the first reading
	At      time.Time `json:"at,omitzero"`
	// Error is why the value is not good.
	Error string `json:"error,omitempty"`
	// Published is when a value was last published.
	Published time.Time `json:"published,omitzero"`
}

// Counters count what happened to a device since its goroutine began.
type Counters struct {
	Opens         uint64 `json:"opens"` // tries to open it
	Reads         uint64 `json:"reads"`
	ReadErrors    uint64 `json:"read_errors"`
	Bad           uint64 `json:"bad"`       // readings of quality bad
	Malformed     uint64 `json:"malformed"` // what it said and was not understood
	Writes        uint64 `json:"writes"`
	WriteErrors   uint64 `json:"write_errors"`
	Refused       uint64 `json:"refused"` // commands that were not tried
	Published     uint64 `json:"published"`
	PublishErrors uint64 `json:"publish_errors"`
	Panics        uint64 `json:"panics"`
}

// state is what a slot shows to the outside; slot.mu guards it.
type state struct {
	entry     *entry
	online    bool
	reason    string
	since     time.Time
	malformed string
	points    []pointState
	reads     Latency
	metered   Metered // nil while it is not open, or does not count
	metrics   Metrics // of the times before
	dirty     bool    // the detail of the status may say something else now
	counters  Counters
}

type pointState struct {
	value   Value // as others see it
	raw     Value // as the device said it
	quality Quality
	known   bool      // value was read
	at      time.Time // of the last reading
	valueAt time.Time // of value
	err     string    // why it is not good
	told    told      // the quality that others know

	published   Value
	publishedAt time.Time
	isPublished bool
}

// Status tells how each device is, sorted by name: those that run, those that wait
// for their driver, and those whose file is not right.
func (h *Host) Status() []DeviceStatus {
	h.mu.Lock()
	wanted, errs, slots := maps.Clone(h.wanted), maps.Clone(h.errs), maps.Clone(h.slots)
	h.mu.Unlock()

	names := make(map[string]bool)
	for name := range wanted {
		names[name] = true
	}
	for name := range errs {
		names[name] = true
	}
	all := make([]DeviceStatus, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d := DeviceStatus{Name: name, File: name + ".yaml", Points: []PointStatus{}}
		if s := slots[name]; s != nil {
			s.status(&d)
			d.Metrics = s.metrics()
		}
		if e := wanted[name]; e != nil {
			d.Driver, d.Topic = e.driverName, e.topic
			if slots[name] == nil {
				d.Reason = "not started"
			}
		}
		if err := errs[name]; err != nil {
			d.FileError = err.Error()
		}
		all = append(all, d)
	}
	return all
}

func (s *slot) status(d *DeviceStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Online, d.Reason, d.Since, d.Counters = s.state.online, s.state.reason, s.state.since, s.state.counters
	d.Reads = s.state.reads
	d.LastMalformed = s.state.malformed
	e := s.state.entry
	if e == nil {
		return
	}
	for i, p := range s.state.points {
		pt := e.points[i]
		st := PointStatus{
			Name: pt.Name, Topic: e.topics[i], Unit: pt.Unit, Writable: pt.Writable,
			Min: pt.Min, Max: pt.Max, Step: pt.Step, Confirm: pt.Confirm, History: pt.History, Names: pt.Names, Flags: pt.Flags,
			Value: p.value, Quality: p.quality, At: p.at, Error: p.err, Published: p.publishedAt,
		}
		if e.together {
			st.Topic = e.topic
		}
		d.Points = append(d.Points, st)
	}
}

// begin starts the state of a new file; counters go on.
func (s *slot) begin(e *entry) {
	points := make([]pointState, len(e.points))
	for i := range points {
		points[i].quality = Bad
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.entry, s.state.points = e, points
	s.state.online, s.state.reason, s.state.since, s.state.dirty = false, "opening", time.Now(), true
}

// metrics adds what the open device counted to what it did before.
func (s *slot) metrics() (all Metrics) {
	s.mu.Lock()
	now := s.state.metered
	all.Add(&s.state.metrics)
	s.mu.Unlock()
	if now != nil {
		m := s.measured(now)
		all.Add(&m)
	}
	return all
}

// measured asks a device what it counted. A panic of it is as good as nothing.
func (s *slot) measured(d Metered) (m Metrics) {
	defer func() {
		if p := recover(); p != nil {
			_ = s.panicked(p)
		}
	}()
	return d.Metrics()
}

// meter has the outside see what an open device counts.
func (s *slot) meter(dev Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.metered, _ = dev.(Metered)
}

// unmeter keeps what a device counted that is closed.
func (s *slot) unmeter() {
	s.mu.Lock()
	was := s.state.metered
	s.mu.Unlock()
	if was == nil {
		return
	}
	m := s.measured(was)
	m.Gauges = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.metrics.Add(&m)
	s.state.metered = nil
}

func (s *slot) count(f func(*Counters)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.state.counters)
}

// countRead counts a read, and how long it took if it was answered.
func (s *slot) countRead(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.counters.Reads++
	if err != nil {
		s.state.counters.ReadErrors++
		return
	}
	s.state.reads.Observe(took)
}

// malformed notes that what the device said was not understood.
func (s *slot) malformed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.counters.Malformed++
	s.state.malformed = err.Error()
}

func (s *slot) reason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.reason
}

// up notes and publishes that the device answers.
func (s *slot) up(ctx context.Context, e *entry) {
	if s.setOnline() {
		s.log.Info("device online", "driver", e.driverName, "topic", e.topic)
	}
	s.announce(ctx, e, statusOnline)
}

func (s *slot) setOnline() (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.online {
		return false
	}
	s.state.online, s.state.reason, s.state.since, s.state.dirty = true, "", time.Now(), true
	return true
}

// down notes and publishes that the device does not answer.
func (s *slot) down(ctx context.Context, e *entry, err error) {
	news := s.setOffline(err.Error())
	if n, due := s.reports.due("down"); due || news {
		s.log.Warn("device offline", "driver", e.driverName, "error", err, "count", n)
	}
	s.fallen(ctx, e)
	s.announce(ctx, e, statusOffline)
}

// setOffline notes why the device is offline and that its values are stale. It
// reports whether that is news.
func (s *slot) setOffline(reason string) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = s.state.online
	if changed || s.state.since.IsZero() {
		s.state.since = time.Now()
	}
	s.state.dirty = s.state.dirty || changed || s.state.reason != reason
	s.state.online, s.state.reason = false, reason
	for i := range s.state.points {
		s.state.points[i].grow("the device is offline: " + reason)
	}
	return changed
}
