package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/drivers"
)

// limit is how long a call of a device may take before the suite fails it.
const limit = 20 * time.Second

// Config parses a device file for a test.
func Config(t testing.TB, device, text string) drivers.Config {
	t.Helper()
	cfg, err := drivers.ParseConfig(device, device+".yaml", []byte(text))
	if err != nil {
		t.Fatalf("device file: %v", err)
	}
	return cfg
}

// Run tests that a driver keeps the contract of drivers.Driver with each of the
// configurations, whose equipment must answer.
func Run(t *testing.T, driver drivers.Driver, cfgs ...drivers.Config) {
	if len(cfgs) == 0 {
		t.Fatal("the suite needs at least one configuration")
	}
	for _, cfg := range cfgs {
		t.Run(cfg.Device, func(t *testing.T) {
			s := suite{driver: driver, cfg: cfg}
			t.Run("check and open agree on the points", s.points)
			t.Run("an unknown key has its place in the error", s.unknownKey)
			t.Run("a driver key of another type has its place in the error", s.wrongType)
			t.Run("opening with an ended context returns", s.openEnded)
			t.Run("all points can be read", s.read)
			t.Run("no readings are for points that were not asked for", s.readSome)
			t.Run("reading with an ended context returns", s.readEnded)
			t.Run("what is not writable is not written", s.writeRefused)
			t.Run("closing leaves no goroutine and can be opened again", s.reopen)
			t.Run("closing ends what is pushed", s.pushed)
			t.Run("what is fed is taken", s.fed)
		})
	}
}

type suite struct {
	driver drivers.Driver
	cfg    drivers.Config
}

// open opens the device and closes it with the test.
func (s suite) open(t *testing.T) drivers.Device {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dev, err := s.driver.Open(ctx, s.cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { closeInTime(t, dev) })
	return dev
}

// polled opens the device, and skips the test if that is never read.
func (s suite) polled(t *testing.T) drivers.Device {
	t.Helper()
	dev := s.open(t)
	if _, serves := dev.(drivers.Server); serves {
		t.Skip("a device that shows topics is not read")
	}
	return dev
}

func closeInTime(t *testing.T, dev drivers.Device) {
	t.Helper()
	inTime(t, "Close", func() {
		if err := dev.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// inTime runs f and fails if it does not return.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s has not returned after %v", what, limit)
	}
}

func names(points []drivers.Point) []string {
	all := make([]string, len(points))
	for i, p := range points {
		all[i] = p.Name
	}
	return all
}

func (s suite) points(t *testing.T) {
	checked, err := s.driver.Check(s.cfg)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if diff := cmp.Diff(checked, s.open(t).Points()); diff != "" {
		t.Errorf("Points differ from those of Check (-check +open):\n%s", diff)
	}
	seen := make(map[string]bool)
	for _, p := range checked {
		if !topic.ValidName("device/"+p.Name) || strings.HasPrefix(p.Name, "/") || seen[p.Name] {
			t.Errorf("point %q cannot be part of a topic, or is there twice", p.Name)
		}
		if p.Every < 0 || p.Longest < 0 || !(p.Deadband >= 0) {
			t.Errorf("point %q: negative Every, Longest or Deadband: %+v", p.Name, p)
		}
		seen[p.Name] = true
	}
}

// broken is the configuration with a text put before or after it.
func (s suite) broken(t *testing.T, text string) drivers.Config {
	t.Helper()
	cfg, err := drivers.ParseConfig(s.cfg.Device, s.cfg.File, []byte(text))
	if err != nil {
		t.Fatalf("the suite's device file: %v", err)
	}
	return cfg
}

func (s suite) unknownKey(t *testing.T) {
	text := strings.TrimRight(string(s.cfg.Text), "\n") + "\nno_such_key: 1\n"
	line := strings.Count(text, "\n")
	s.wantPlace(t, s.broken(t, text), line)
}

func (s suite) wrongType(t *testing.T) {
	text := strings.TrimRight(string(s.cfg.Text), "\n") + "\n"
	if strings.Contains(text, "\nevery:") || strings.HasPrefix(text, "every:") {
		text = strings.Replace(text, "every:", "every: [1] #", 1)
		s.wantPlace(t, s.broken(t, text), 0)
		return
	}
	text += "every: [1]\n"
	s.wantPlace(t, s.broken(t, text), strings.Count(text, "\n"))
}

// wantPlace wants Check and Open to refuse the file, naming the line; 0 is any.
func (s suite) wantPlace(t *testing.T, cfg drivers.Config, line int) {
	t.Helper()
	_, err := s.driver.Check(cfg)
	var at *drivers.ConfigError
	if !errors.As(err, &at) || !errors.Is(err, drivers.ErrConfig) {
		t.Fatalf("Check: want a *drivers.ConfigError, got %v", err)
	}
	if at.File != cfg.File || at.Line == 0 || at.Column == 0 || (line != 0 && at.Line != line) {
		t.Errorf("want the place %s:%d, got %v", cfg.File, line, at)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if dev, err := s.driver.Open(ctx, cfg); !errors.Is(err, drivers.ErrConfig) {
		if err == nil {
			closeInTime(t, dev)
		}
		t.Errorf("Open: want an error that is drivers.ErrConfig, got %v", err)
	}
}

func (s suite) openEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	inTime(t, "Open", func() {
		if dev, err := s.driver.Open(ctx, s.cfg); err == nil {
			closeInTime(t, dev)
		}
	})
}

func (s suite) read(t *testing.T) {
	dev := s.polled(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	all := names(dev.Points())
	readings, err := dev.Read(ctx, all)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if err := judge(readings, all); err != nil {
		t.Error(err)
	}
	polled := make(map[string]bool)
	for _, r := range readings {
		polled[r.Point] = true
	}
	for _, p := range dev.Points() {
		if p.Every > 0 && !polled[p.Name] {
			t.Errorf("polled point %q has no reading", p.Name)
		}
	}
}

// judge says what is wrong with readings of the points that were asked for.
func judge(readings []drivers.Reading, asked []string) error {
	left := make(map[string]bool)
	for _, name := range asked {
		left[name] = true
	}
	for _, r := range readings {
		switch {
		case !left[r.Point]:
			return fmt.Errorf("a reading of %q, which was not asked for or is there twice", r.Point)
		case r.Quality == drivers.Bad && (r.Err == nil || !r.Value.IsNull()):
			return fmt.Errorf("a bad reading has an error and no value: %+v", r)
		case r.Quality != drivers.Bad && r.Err != nil:
			return fmt.Errorf("a %v reading has no error: %+v", r.Quality, r)
		}
		delete(left, r.Point)
	}
	return nil
}

func (s suite) readSome(t *testing.T) {
	dev := s.polled(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, name := range names(dev.Points()) {
		readings, err := dev.Read(ctx, []string{name})
		if err != nil {
			t.Fatalf("Read of %q: %v", name, err)
		}
		if err := judge(readings, []string{name}); err != nil {
			t.Errorf("Read of %q: %v", name, err)
		}
	}
	inTime(t, "Read of an unknown point", func() {
		readings, err := dev.Read(ctx, []string{"no such point"})
		for _, r := range readings {
			if err == nil && r.Quality != drivers.Bad {
				t.Errorf("a point that does not exist was read: %+v", r)
			}
		}
	})
}

func (s suite) readEnded(t *testing.T) {
	dev := s.polled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	inTime(t, "Read", func() {
		readings, err := dev.Read(ctx, names(dev.Points()))
		if bad := judge(readings, names(dev.Points())); err == nil && bad != nil {
			t.Error(bad)
		}
	})
}

func (s suite) writeRefused(t *testing.T) {
	dev := s.polled(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	refused := []string{"no such point"}
	for _, p := range dev.Points() {
		if !p.Writable {
			refused = append(refused, p.Name)
		}
	}
	for _, name := range refused {
		err := dev.Write(ctx, name, drivers.IntValue(1))
		if err == nil || errors.Is(err, drivers.ErrLost) || errors.Is(err, drivers.ErrConfig) {
			t.Errorf("Write of %q: want an error that leaves the device open, got %v", name, err)
		}
	}
	if _, err := dev.Read(ctx, names(dev.Points())); err != nil {
		t.Errorf("Read after a refused Write: %v", err)
	}
}

func (s suite) reopen(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		dev, err := s.driver.Open(ctx, s.cfg)
		if err != nil {
			cancel()
			t.Fatalf("Open: %v", err)
		}
		if _, serves := dev.(drivers.Server); !serves {
			if _, err = dev.Read(ctx, names(dev.Points())); err != nil {
				t.Errorf("Read: %v", err)
			}
		}
		closeInTime(t, dev)
		cancel()
	}
	if err := goleak.Find(before); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func (s suite) pushed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dev, err := s.driver.Open(ctx, s.cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	p, pushes := dev.(drivers.Pusher)
	var said <-chan drivers.Pushed
	if pushes {
		said = p.Pushed()
	}
	closeInTime(t, dev)
	if !pushes {
		return
	}
	inTime(t, "the channel of Pushed", func() {
		for range said { // ends when the channel is closed
		}
	})
}

func (s suite) fed(t *testing.T) {
	dev, serves := s.open(t).(drivers.Server)
	if !serves {
		t.Skip("it shows no topics")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, r := range []drivers.Reading{
		{Quality: drivers.Bad, Err: errors.New("nothing was heard yet")},
		{Value: drivers.IntValue(1)},
		{Value: drivers.IntValue(1), Quality: drivers.Stale},
		{Value: drivers.TextValue("no number")},
		{Value: drivers.FloatValue(1e300)},
	} {
		var all []drivers.Reading
		for _, p := range dev.Points() {
			if p.Feed.Topic == "" {
				t.Errorf("point %q shows no topic", p.Name)
			}
			r.Point, r.At = p.Name, time.Now()
			all = append(all, r)
		}
		inTime(t, "Feed", func() {
			if err := dev.Feed(ctx, all); err != nil {
				t.Errorf("Feed of %s %v: %v", r.Value, r.Quality, err)
			}
		})
	}
}
