package plugins_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
)

// probe runs the probe plugin and gives its driver.
func probe(t *testing.T) drivers.Driver {
	t.Helper()
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	h := start(t, dir, quick(&logs{}))
	running(t, h, "probe")
	return find(t, h, "probe")
}

func opened(t *testing.T, d drivers.Driver, lines ...string) drivers.Device {
	t.Helper()
	dev, err := d.Open(t.Context(), config(t, append([]string{"driver: probe"}, lines...)...))
	must(t, err)
	t.Cleanup(func() { must(t, dev.Close()) })
	return dev
}

func TestDeviceThroughTheProcess(t *testing.T) {
	driver := probe(t)
	dev := opened(t, driver)

	t.Run("values are exact", func(t *testing.T) {
		for _, v := range []drivers.Value{
			drivers.IntValue(math.MinInt64), drivers.UintValue(math.MaxUint64), drivers.IntValue(1<<53 + 1),
			drivers.DecimalValue(123456789012345678, -18), drivers.FloatValue(0.1), drivers.TextValue("客厅"),
			{},
		} {
			must(t, dev.Write(t.Context(), "value", v))
			if got := read(t, dev, "value").Value; !got.Equal(v) {
				t.Errorf("%s came back as %s", v, got)
			}
		}
	})
	t.Run("points keep all they say", func(t *testing.T) {
		want := []drivers.Point{
			{Name: "value", Unit: "°C", Writable: true, Every: 1234567, Deadband: 0.1, Longest: time.Hour},
			{Name: "do", Writable: true},
		}
		checked, err := driver.Check(config(t, "driver: probe"))
		must(t, err)
		if diff := cmp.Diff(want, checked) + cmp.Diff(want, dev.Points()); diff != "" {
			t.Errorf("points differ:\n%s", diff)
		}
	})
	t.Run("times and qualities", func(t *testing.T) {
		if r := read(t, dev, "value"); !r.At.Equal(time.Unix(1700000000, 123456789)) {
			t.Errorf("At = %v", r.At)
		}
		if r := read(t, dev, "zero"); !r.At.IsZero() {
			t.Errorf("zero At = %v", r.At)
		}
		if r := read(t, dev, "bad"); r.Quality != drivers.Bad || r.Err == nil || r.Err.Error() != "exception 2" {
			t.Errorf("bad reading = %+v", r)
		}
	})
	t.Run("a refusal is an error and no loss", func(t *testing.T) {
		err := dev.Write(t.Context(), "do", drivers.TextValue("refuse"))
		if err == nil || err.Error() != "refused by the device" || errors.Is(err, drivers.ErrLost) {
			t.Errorf("Write = %v", err)
		}
	})
	t.Run("a lost device is lost", func(t *testing.T) {
		_, err := dev.Read(t.Context(), []string{"lost"})
		if !errors.Is(err, drivers.ErrLost) || err.Error() != "unplugged: device lost" {
			t.Errorf("Read = %v", err)
		}
	})
	t.Run("a panic loses the device and not the process", func(t *testing.T) {
		_, err := dev.Read(t.Context(), []string{"panic"})
		if !errors.Is(err, drivers.ErrLost) || !strings.Contains(err.Error(), "panicked in Read: read panic") {
			t.Errorf("Read = %v", err)
		}
		read(t, dev, "value")
	})
	t.Run("a message that is too long is refused", func(t *testing.T) {
		err := dev.Write(t.Context(), "value", drivers.TextValue(strings.Repeat("x", 17<<20)))
		if err == nil || errors.Is(err, drivers.ErrLost) {
			t.Errorf("Write = %v", err)
		}
	})
}

func TestOpenErrorsThroughTheProcess(t *testing.T) {
	driver := probe(t)
	for _, tt := range []struct {
		name, line, want string
		is               error
	}{
		{"nobody answers", "open: fail", "nobody answers", nil},
		{"no port", "open: lost", "no port: device lost", drivers.ErrLost},
		{"panic", "open: panic", "device lost: the driver panicked in Open: at the disco", drivers.ErrLost},
		{"unknown key", "nonsense: 1", "devices/it.yaml:2:1: unknown field \"nonsense\"\n   1 | driver: probe\n>  2 | nonsense: 1\n       ^", drivers.ErrConfig},
		{"two places", "wrong: true", "two things: devices/it.yaml:2:8: first\n", drivers.ErrConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := driver.Open(t.Context(), config(t, "driver: probe", tt.line))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("Open = %v, want %q", err, tt.want)
			}
			for _, e := range []error{drivers.ErrLost, drivers.ErrConfig} {
				//nolint:errorlint // the table holds the sentinels themselves
				if want := e == tt.is; errors.Is(err, e) != want {
					t.Errorf("%v is %v: %v", err, e, !want)
				}
			}
			var place *drivers.ConfigError
			if errors.As(err, &place) && (place.File != "devices/it.yaml" || place.Line != 2 || !strings.Contains(place.Snippet, "^")) {
				t.Errorf("place = %+v", place)
			}
		})
	}
	t.Run("Check says the same as Open", func(t *testing.T) {
		cfg := config(t, "driver: probe", "nonsense: 1")
		_, checked := driver.Check(cfg)
		_, opened := driver.Open(t.Context(), cfg)
		if diff := cmp.Diff(checked, opened); diff != "" {
			t.Errorf("errors differ:\n%s", diff)
		}
	})
	t.Run("giving up while it opens", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := driver.Open(ctx, config(t, "driver: probe", "open: slow"))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, drivers.ErrLost) {
			t.Errorf("Open = %v", err)
		}
	})
}

func TestCallsAreOneAtATime(t *testing.T) {
	dev := opened(t, probe(t))
	for range 3 { // each is given up while the driver goes on
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := dev.Read(ctx, []string{"slow"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read = %v", err)
		}
		cancel()
	}
	if most, _ := read(t, dev, "most").Value.Int(); most != 1 {
		t.Errorf("%d calls were in the device at once", most)
	}
}

func TestPushedThroughTheProcess(t *testing.T) {
	driver := probe(t)
	dev := opened(t, driver, "push: true")
	if _, ok := opened(t, driver).(drivers.Pusher); ok {
		t.Error("a device that pushes nothing is a Pusher")
	}
	pushed := dev.(drivers.Pusher).Pushed()
	write(t, dev, "do", "push")
	p := <-pushed
	want := []drivers.Reading{{Point: "value", Value: drivers.IntValue(7), Quality: drivers.Stale}}
	if diff := cmp.Diff(want, p.Readings, cmp.Comparer(drivers.Value.Equal)); diff != "" || p.Err != nil {
		t.Errorf("pushed %v:\n%s", p.Err, diff)
	}
	write(t, dev, "do", "noise")
	if p := <-pushed; p.Err == nil || p.Err.Error() != "cannot understand 0x00" {
		t.Errorf("pushed %+v", p)
	}
	var unplug sync.WaitGroup
	unplug.Go(func() { write(t, dev, "do", "unplug") })
	if p := <-pushed; !errors.Is(p.Err, drivers.ErrLost) {
		t.Errorf("pushed %+v", p)
	}
	if _, open := <-pushed; open {
		t.Error("the channel is open after the loss")
	}
	unplug.Wait()
}
