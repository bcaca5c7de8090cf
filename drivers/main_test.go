package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a driver whose equipment is a map of values in the test's hands.
type fake struct {
	mu        sync.Mutex
	devices   []*fakeDevice
	values    map[string]drivers.Value
	openErr   error
	readErr   error
	writeErr  error
	writeErrs map[string]error // by point
	took      bool             // a write is done although it has an error
	written   func()           // is called by each write; nil is nothing
	meters    bool             // devices count
	panics    string           // "check", "open", "read", "write", "close"
	delay     time.Duration    // of a read or write
	opening   time.Duration    // of an open
	closing   time.Duration    // of a close
	clamp     map[string]drivers.Value
	reads     []string
	readAt    []time.Time
	writes    []string
	opens     int
	insisted  int // opens because somebody asks
	closes    int
	silent    map[string]bool // points that a Read has no reading for
	bad       map[string]error
}

type fakePoint struct {
	drivers.PointCommon `yaml:",inline"`
	Pushed              bool `yaml:"pushed"`
}

type fakeFile struct {
	drivers.Common `yaml:",inline"`
	Push           bool                 `yaml:"push"`
	Points         map[string]fakePoint `yaml:"points"`
}

func (f *fake) set(name string, v drivers.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.values == nil {
		f.values = make(map[string]drivers.Value)
	}
	f.values[name] = v
}

// change runs c with the lock held.
func (f *fake) change(c func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c(f)
}

func (f *fake) trip(where string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics == where {
		panic("the fake was told to panic in " + where)
	}
}

func (f *fake) Check(cfg drivers.Config) ([]drivers.Point, error) {
	f.trip("check")
	var file fakeFile
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	var points []drivers.Point
	for _, name := range cfg.Keys("$.points") {
		p := file.Points[name]
		if p.Pushed {
			points = append(points, p.PointCommon.Pushed(name))
		} else {
			points = append(points, p.Polled(name, file.Common))
		}
	}
	return points, nil
}

func (f *fake) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	f.trip("open")
	f.mu.Lock()
	opening := f.opening
	f.mu.Unlock()
	if opening > 0 {
		<-time.After(opening)
	}
	points, err := f.Check(cfg)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens++
	if cfg.Insist {
		f.insisted++
	}
	if f.openErr != nil {
		return nil, f.openErr
	}
	d := &fakeDevice{fake: f, points: points, pushed: make(chan drivers.Pushed, 8)}
	f.devices = append(f.devices, d)
	if strings.Contains(string(cfg.Text), "push: true") {
		return &fakePusher{d}, nil
	}
	if f.meters {
		return &fakeMetered{fakeDevice: d}, nil
	}
	return d, nil
}

// last is the device that was opened last.
func (f *fake) last() *fakeDevice {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.devices) == 0 {
		return nil
	}
	return f.devices[len(f.devices)-1]
}

type fakeDevice struct {
	fake   *fake
	points []drivers.Point
	pushed chan drivers.Pushed
}

type fakePusher struct{ *fakeDevice }

// fakeMetered also counts.
type fakeMetered struct {
	*fakeDevice
	meter drivers.Meter
}

func (d *fakeMetered) Metrics() drivers.Metrics {
	d.fake.trip("metrics")
	return d.meter.Metrics()
}

func (d *fakeMetered) Read(ctx context.Context, points []string) ([]drivers.Reading, error) {
	began := time.Now()
	readings, err := d.fakeDevice.Read(ctx, points)
	d.meter.Count("polls", 1)
	if err != nil {
		d.meter.Count("timeouts", 1)
		return readings, err
	}
	d.meter.Observe(time.Since(began))
	d.meter.Set("load_percent", 12.5)
	return readings, nil
}

func (d *fakePusher) Pushed() <-chan drivers.Pushed { return d.pushed }

func (d *fakeDevice) Points() []drivers.Point { return d.points }

func (d *fakeDevice) wait(ctx context.Context) error {
	d.fake.mu.Lock()
	delay := d.fake.delay
	d.fake.mu.Unlock()
	if delay == 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *fakeDevice) Read(ctx context.Context, points []string) ([]drivers.Reading, error) {
	d.fake.trip("read")
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	f := d.fake
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, strings.Join(points, ","))
	f.readAt = append(f.readAt, time.Now())
	if f.readErr != nil {
		return nil, f.readErr
	}
	var all []drivers.Reading
	for _, name := range points {
		r := drivers.Reading{Point: name, Value: f.values[name], At: time.Now()}
		if err := f.bad[name]; err != nil {
			r.Value, r.Quality, r.Err = drivers.Value{}, drivers.Bad, err
		}
		if !f.silent[name] {
			all = append(all, r)
		}
	}
	return all, nil
}

func (d *fakeDevice) Write(ctx context.Context, point string, v drivers.Value) error {
	d.fake.trip("write")
	if err := d.wait(ctx); err != nil {
		return err
	}
	f := d.fake
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = append(f.writes, point+"="+v.String())
	if f.written != nil {
		f.written()
	}
	err := f.writeErr
	if e := f.writeErrs[point]; e != nil {
		err = e
	}
	if err != nil && !f.took {
		return err
	}
	if c, ok := f.clamp[point]; ok {
		v = c
	}
	if f.values == nil {
		f.values = make(map[string]drivers.Value)
	}
	f.values[point] = v
	return err
}

func (d *fakeDevice) Close() error {
	d.fake.mu.Lock()
	d.fake.closes++
	closing := d.fake.closing
	d.fake.mu.Unlock()
	<-time.After(closing)
	close(d.pushed)
	d.fake.trip("close")
	return nil
}

// house is a host that runs on a bus with fake drivers, in virtual time.
type house struct {
	t    *testing.T
	host *drivers.Host
	bus  *drivertest.Bus
	log  *strings.Builder
	stop context.CancelFunc
	done chan error
	fs   fstest.MapFS
}

// inHouse runs f in a bubble of virtual time with a host that runs.
func inHouse(t *testing.T, o drivers.Options, files map[string]string, f func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := startHouse(t, o, files)
		f(h)
		h.end()
	})
}

func startHouse(t *testing.T, o drivers.Options, files map[string]string) *house {
	t.Helper()
	h := &house{t: t, bus: drivertest.NewBus(), log: &strings.Builder{}, done: make(chan error, 1)}
	o.Log = slog.New(slog.NewTextHandler(h.log, nil))
	host, err := drivers.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	h.host = host
	h.load(files)
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.done <- host.Run(ctx, h.bus) }()
	<-host.Ready()
	synctest.Wait()
	return h
}

func (h *house) load(files map[string]string) {
	h.t.Helper()
	if err := h.tryLoad(files); err != nil {
		h.t.Fatalf("Load: %v", err)
	}
}

func (h *house) tryLoad(files map[string]string) error {
	h.fs = folder(files)
	return h.host.Load(h.t.Context(), h.fs)
}

func (h *house) end() {
	h.t.Helper()
	h.stop()
	if err := <-h.done; err != nil {
		h.t.Errorf("Run: %v", err)
	}
}

// after lets virtual time pass.
func (h *house) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (h *house) publish(m message.Message) {
	h.t.Helper()
	if err := h.bus.Publish(h.t.Context(), m); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

// set publishes a command and returns the result.
func (h *house) set(topic, payload string) string {
	h.t.Helper()
	before := len(h.bus.Messages(topic + "/result"))
	h.publish(message.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Origin: "client/test"})
	return string(h.bus.Wait(h.t, topic+"/result", before+1).Payload)
}

func (h *house) status(name string) drivers.DeviceStatus {
	h.t.Helper()
	all := h.host.Status()
	i := slices.IndexFunc(all, func(d drivers.DeviceStatus) bool { return d.Name == name })
	if i < 0 {
		h.t.Fatalf("no device %q in the status", name)
	}
	return all[i]
}

// want compares payloads of what was published on the filter.
func (h *house) want(filter string, payloads ...string) {
	h.t.Helper()
	if got := h.bus.Payloads(filter); !slices.Equal(got, payloads) {
		h.t.Errorf("on %s: want %q, got %q", filter, payloads, got)
	}
}

func one(f *fake) drivers.Options {
	return drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}
}

// device is a file with points that are polled each second.
func device(keys string, points ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "driver: fake\n%s\npoints:\n", keys)
	for _, p := range points {
		if !strings.Contains(p, ":") {
			p += ": {}"
		}
		fmt.Fprintf(&b, "  %s\n", p)
	}
	return b.String()
}

func files(pairs ...string) map[string]string {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func text(s string) drivers.Value { return drivers.TextValue(s) }

var errNoAnswer = errors.New("no answer")

func points(d drivers.DeviceStatus) map[string]string {
	m := make(map[string]string)
	for _, p := range d.Points {
		m[p.Name] = p.Value.String() + " " + p.Quality.String()
	}
	return m
}

func wantPoints(t *testing.T, d drivers.DeviceStatus, want map[string]string) {
	t.Helper()
	if got := points(d); !maps.Equal(got, want) {
		t.Errorf("points of %s: want %v, got %v", d.Name, want, got)
	}
}

func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}
