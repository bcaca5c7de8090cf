package drivers_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

func TestPolling(t *testing.T) {
	t.Run("points are read together, each at its interval", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("plc.yaml", device("every: 2s", "a", "b", "c: {every: 5s}")), func(h *house) {
			h.after(10*time.Second + time.Millisecond)
			want := []string{"a,b,c", "a,b", "a,b", "c", "a,b", "a,b", "a,b,c"}
			if !slices.Equal(f.reads, want) {
				t.Errorf("want reads of %q, got %q", want, f.reads)
			}
		})
	})
	t.Run("what a slow device misses is not made up for", func(t *testing.T) {
		f := &fake{delay: 3500 * time.Millisecond}
		inHouse(t, one(f), files("plc.yaml", device("", "a")), func(h *house) {
			h.after(12 * time.Second)
			if len(f.reads) != 3 {
				t.Errorf("want 3 reads in 12 s, one each 4 s, got %d", len(f.reads))
			}
		})
	})
	t.Run("a slow device does not delay another", func(t *testing.T) {
		slow, quick := &fake{delay: 25 * time.Second}, &fake{}
		o := drivers.Options{Drivers: map[string]drivers.Driver{"slow": slow, "fake": quick}}
		inHouse(t, o, files("a.yaml", "driver: slow\npoints: {x: {}}\n", "b.yaml", device("", "x")), func(h *house) {
			h.after(10*time.Second + time.Millisecond)
			if len(quick.reads) != 11 {
				t.Errorf("want 11 reads of the quick device, got %d", len(quick.reads))
			}
		})
	})
	t.Run("the value of a point that the device no longer tells is stale", func(t *testing.T) {
		f := &fake{}
		f.set("a", drivers.IntValue(1))
		f.set("b", drivers.IntValue(2))
		inHouse(t, one(f), files("plc.yaml", device("", "a", "b", "c: {every: 1h}")), func(h *house) {
			quality := func() string {
				var all []string
				for _, p := range h.status("plc").Points {
					all = append(all, p.Name+" "+p.Quality.String())
				}
				return strings.Join(all, ", ")
			}
			h.after(1500 * time.Millisecond)
			f.change(func(f *fake) { f.silent = map[string]bool{"b": true} })
			h.after(time.Second)
			if d := h.status("plc"); !d.Online || quality() != "a good, b stale, c good" || d.Points[1].Value.String() != "2" {
				t.Errorf("want b stale, got %s of %+v", quality(), d)
			}
			f.change(func(f *fake) { f.silent = nil })
			h.after(time.Second)
			if quality() != "a good, b good, c good" {
				t.Errorf("want all good again, got %s", quality())
			}
		})
	})
	t.Run("a call that takes too long is no answer", func(t *testing.T) {
		o := one(&fake{delay: time.Minute})
		o.CallTimeout = 2 * time.Second
		inHouse(t, o, files("plc.yaml", device("", "a")), func(h *house) {
			h.after(3 * time.Second)
			if d := h.status("plc"); d.Online || !strings.Contains(d.Reason, "deadline") {
				t.Errorf("want it offline because of the deadline, got %+v", d)
			}
		})
	})
}

func TestPublishing(t *testing.T) {
	t.Run("a value is published when it changes, retained, as JSON", func(t *testing.T) {
		f := &fake{}
		f.set("door", text("open"))
		inHouse(t, one(f), files("hall.yaml", device("topic: home/hall", "door")), func(h *house) {
			h.after(5 * time.Second)
			f.set("door", text("closed"))
			h.after(5 * time.Second)
			h.want("home/hall/door", `"open"`, `"closed"`)
			m := h.bus.Messages("home/hall/door")[0]
			if !m.Retain || m.QoS != message.AtLeastOnce || m.Origin != "device/hall" || m.Hops != 0 {
				t.Errorf("want it retained at QoS 1 from device/hall, got %+v", m)
			}
		})
	})
	t.Run("a change within the deadband is not published, and does not creep", func(t *testing.T) {
		f := &fake{}
		f.set("t", drivers.IntValue(21))
		inHouse(t, one(f), files("hall.yaml", device("", "t: {deadband: 0.5}")), func(h *house) {
			for _, tenths := range []int64{210, 212, 214, 215, 216, 218, 211, 210} {
				f.set("t", drivers.DecimalValue(tenths, -1))
				h.after(time.Second)
			}
			h.want("hall/t", "21", "21.6", "21")
		})
	})
	t.Run("an unchanged value is published again after the longest interval", func(t *testing.T) {
		f := &fake{}
		f.set("t", drivers.IntValue(7))
		inHouse(t, one(f), files("hall.yaml", device("", "t: {longest: 10s}", "u")), func(h *house) {
			h.after(31 * time.Second)
			h.want("hall/t", "7", "7", "7", "7")
			h.want("hall/u", "null")
		})
	})
	t.Run("a bad reading is shown and counted, never published", func(t *testing.T) {
		f := &fake{bad: map[string]error{"b": errors.New("illegal data address")}}
		f.set("a", drivers.IntValue(1))
		inHouse(t, one(f), files("plc.yaml", device("", "a", "b")), func(h *house) {
			h.after(90*time.Second + time.Millisecond)
			h.want("plc/a", "1")
			h.want("plc/b")
			d := h.status("plc")
			wantPoints(t, d, map[string]string{"a": "1 good", "b": "null bad"})
			if !d.Online || d.Counters.Bad != 91 || d.Points[1].Error != "illegal data address" {
				t.Errorf("want it online, with the error and 91 bad readings, got %+v", d)
			}
			if n := strings.Count(h.log.String(), "point has no good value"); n != 2 {
				t.Errorf("want the error in the log once a minute, it is there %d times", n)
			}
		})
	})
	t.Run("together, the good values are one object", func(t *testing.T) {
		f := &fake{bad: map[string]error{"c": errNoAnswer}}
		f.set("b", drivers.BoolValue(true))
		f.set("a", drivers.DecimalValue(215, -1))
		inHouse(t, one(f), files("hall.yaml", device("together: true\ntopic: home/hall", "b", "a", "c")), func(h *house) {
			h.after(5 * time.Second)
			f.set("a", drivers.IntValue(3))
			h.after(5 * time.Second)
			h.want("home/hall", `{"b":true,"a":21.5}`, `{"b":true,"a":3}`)
			h.want("home/hall/+", "online")
		})
	})
	t.Run("a refused value keeps no other back and is offered again", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), nil, func(h *house) {
			h.bus.Refuse(func(m message.Message) error {
				if m.Topic == "plc/a" {
					return errors.New("full")
				}
				return nil
			})
			h.load(files("plc.yaml", device("", "a", "b")))
			h.after(3500 * time.Millisecond)
			h.want("plc/a")
			h.want("plc/b", "null")
			h.bus.Refuse(nil)
			h.after(3 * time.Second)
			h.want("plc/a", "null")
			if d := h.status("plc"); d.Counters.PublishErrors != 4 || d.Counters.Published != 2 {
				t.Errorf("want 4 publish errors and 2 published, got %+v", d.Counters)
			}
		})
	})
	t.Run("what was accepted before a refused value is not said again", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), nil, func(h *house) {
			h.bus.Refuse(func(m message.Message) error {
				if m.Topic == "plc/b" {
					return errors.New("full")
				}
				return nil
			})
			h.load(files("plc.yaml", device("", "a", "b", "c")))
			h.after(3500 * time.Millisecond)
			h.want("plc/+", "null", "null", "online")
		})
	})
	t.Run("a reading of an unknown point is counted", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("s.yaml", device("push: true", "a: {pushed: true}")), func(h *house) {
			f.last().pushed <- drivers.Pushed{Readings: []drivers.Reading{{Point: "zz"}, {Point: "a", Value: text("x")}}}
			h.after(time.Millisecond)
			h.want("s/a", `"x"`)
			if d := h.status("s"); d.Counters.Malformed != 1 {
				t.Errorf("want 1 malformed, got %+v", d.Counters)
			}
		})
	})
}

func TestBackOff(t *testing.T) {
	t.Run("a device that does not answer is asked ever more rarely, and is back at once", func(t *testing.T) {
		f := &fake{}
		f.set("a", drivers.IntValue(1))
		inHouse(t, one(f), files("plc.yaml", device("", "a")), func(h *house) {
			h.after(1500 * time.Millisecond)
			f.change(func(f *fake) { f.readErr, f.readAt = errNoAnswer, nil })
			h.after(3 * time.Minute)
			d := h.status("plc")
			wantPoints(t, d, map[string]string{"a": "1 stale"})
			if d.Online || d.Reason != "no answer" {
				t.Errorf("want it offline with the reason, got %+v", d)
			}
			wantPauses(t, f.readAt, time.Second, 30*time.Second)
			f.change(func(f *fake) { f.readErr = nil })
			h.after(30*time.Second + time.Millisecond)
			wantPoints(t, h.status("plc"), map[string]string{"a": "1 good"})
			h.want("plc/status", "online", "offline", "online")
			h.want("plc/a", "1")
			if f.opens != 1 {
				t.Errorf("want it opened once, got %d", f.opens)
			}
		})
	})
	t.Run("a lost device is closed and opened again", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("plc.yaml", device("", "a")), func(h *house) {
			h.after(10500 * time.Millisecond)
			f.change(func(f *fake) {
				f.readErr = fmt.Errorf("read /dev/ttyUSB0: %w", drivers.ErrLost)
				f.openErr = errors.New("no such file")
			})
			h.after(20 * time.Second)
			if d := h.status("plc"); d.Online || d.Reason != "no such file" || f.closes != 1 {
				t.Errorf("want it offline for the open error after one close, got %+v, %d closes", d, f.closes)
			}
			f.change(func(f *fake) { f.readErr, f.openErr = nil, nil })
			h.after(30 * time.Second)
			if d := h.status("plc"); !d.Online || d.Reason != "" {
				t.Errorf("want it online again, got %+v", d)
			}
			h.want("plc/status", "online", "offline", "online")
		})
	})
	t.Run("a device that is lost at once is not opened in a loop", func(t *testing.T) {
		f := &fake{readErr: drivers.ErrLost}
		inHouse(t, one(f), files("plc.yaml", device("", "a")), func(h *house) {
			h.after(5 * time.Minute)
			if f.opens < 12 || f.opens > 20 {
				t.Errorf("want 12 to 20 opens in 5 min, got %d", f.opens)
			}
		})
	})
	t.Run("what only another file can heal waits for it", func(t *testing.T) {
		f := &fake{openErr: fmt.Errorf("unit 300: %w", drivers.ErrConfig)}
		inHouse(t, one(f), files("plc.yaml", device("", "a")), func(h *house) {
			h.after(time.Hour)
			if f.opens != 1 {
				t.Errorf("want one open in an hour, got %d", f.opens)
			}
			f.change(func(f *fake) { f.openErr = nil })
			h.load(files("plc.yaml", device("# changed", "a")))
			h.after(time.Second)
			if !h.status("plc").Online {
				t.Errorf("want it online after the change, got %+v", h.status("plc"))
			}
		})
	})
	t.Run("the pauses come from the options", func(t *testing.T) {
		f := &fake{readErr: errNoAnswer}
		o := one(f)
		o.RetryFirst, o.RetryMost = 10*time.Millisecond, 40*time.Millisecond
		inHouse(t, o, files("plc.yaml", device("", "a")), func(h *house) {
			h.after(time.Second)
			wantPauses(t, f.readAt, 10*time.Millisecond, 40*time.Millisecond)
		})
	})
}

// wantPauses wants the times apart by pauses that double from first to most, each
// shortened by up to a quarter.
func wantPauses(t *testing.T, at []time.Time, first, most time.Duration) {
	t.Helper()
	if len(at) < 6 {
		t.Fatalf("want at least 6 reads, got %d", len(at))
	}
	pause := first
	for i := 1; i < len(at); i++ {
		if got := at[i].Sub(at[i-1]); got > pause || got < pause*3/4 {
			t.Errorf("pause %d: want %v less up to a quarter, got %v", i, pause, got)
		}
		pause = min(2*pause, most)
	}
}

func TestPushed(t *testing.T) {
	push := func(h *house, f *fake, p drivers.Pushed) {
		f.last().pushed <- p
		h.after(time.Millisecond)
	}
	t.Run("what a device says by itself is published", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("s.yaml", device("push: true", "a: {pushed: true}")), func(h *house) {
			h.want("s/status", "online")
			push(h, f, drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("x")}}})
			push(h, f, drivers.Pushed{Err: errors.New("line of noise")})
			push(h, f, drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("x")}}})
			push(h, f, drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("y")}}})
			h.want("s/a", `"x"`, `"y"`)
			d := h.status("s")
			if d.Counters.Malformed != 1 || d.LastMalformed != "line of noise" || !d.Online {
				t.Errorf("want the noise counted and shown, got %+v", d)
			}
			if len(f.reads) != 0 {
				t.Errorf("want no polls, got %q", f.reads)
			}
		})
	})
	t.Run("a lost one is opened again", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("s.yaml", device("push: true", "a: {pushed: true}")), func(h *house) {
			push(h, f, drivers.Pushed{Err: fmt.Errorf("unplugged: %w", drivers.ErrLost)})
			if d := h.status("s"); d.Online || d.Reason != "unplugged: device lost" {
				t.Errorf("want it offline, got %+v", d)
			}
			h.after(time.Second)
			push(h, f, drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("x")}}})
			h.want("s/a", `"x"`)
			h.want("s/status", "online", "offline", "online")
		})
	})
}

func TestPanics(t *testing.T) {
	for _, where := range []string{"open", "read", "write", "close"} {
		t.Run("in "+where+" stops that device only, and it comes back", func(t *testing.T) {
			f, other := &fake{panics: where}, &fake{}
			o := drivers.Options{Drivers: map[string]drivers.Driver{"bad": f, "fake": other}}
			inHouse(t, o, files("a.yaml", "driver: bad\npoints: {x: {writable: true}}\n", "b.yaml", device("", "x")), func(h *house) {
				h.after(time.Second)
				switch where {
				case "write":
					h.publish(message.Message{Topic: "a/x/set", Payload: []byte("1")})
				case "close":
					f.change(func(f *fake) { f.readErr = drivers.ErrLost })
				}
				h.after(5 * time.Second)
				if d := h.status("a"); d.Counters.Panics == 0 {
					t.Errorf("want the panic counted, got %+v", d)
				}
				f.change(func(f *fake) { f.panics, f.readErr = "", nil })
				h.after(30 * time.Second)
				if !h.status("a").Online {
					t.Errorf("want it online again, got %+v", h.status("a"))
				}
				if len(other.reads) < 36 {
					t.Errorf("want the other device read each second, got %d reads", len(other.reads))
				}
				if !strings.Contains(h.log.String(), "panicked") {
					t.Error("want the panic in the log")
				}
			})
		})
	}
}

// A counter of 64 bits is published as it passes from signed to unsigned integers, which
// share a float64 there; a number that is the same in another kind is not.
func TestPublishingOfKinds(t *testing.T) {
	f := &fake{}
	f.set("n", drivers.IntValue(math.MaxInt64))
	inHouse(t, one(f), files("c.yaml", device("", "n")), func(h *house) {
		for _, v := range []drivers.Value{
			drivers.UintValue(1 << 63), drivers.IntValue(5), drivers.UintValue(5), drivers.FloatValue(5),
		} {
			f.set("n", v)
			h.after(time.Second)
		}
		h.want("c/n", "9223372036854775807", "9223372036854775808", "5")
	})
}
