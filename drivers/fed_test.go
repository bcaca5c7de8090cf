package drivers_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

// shop is a server device with points of each kind.
const shop = `
driver: server
topic: panel
points:
  t:     {topic: hall/t, max_age: 1m}
  nested: {topic: hall/all, field: air.t}
  mode:  {topic: ac/mode, names: {0: off, 1: heat}, writable: true}
  bits:  {topic: pump/bits, flags: {0: run, 3: fault}, writable: true}
  level: {topic: lamp/level, set: lamp/level/set, min: 0, max: 100, step: 5}
  own:   {topic: panel-value, set: panel-value}
  twice: {topic: panel-value}
  risky: {topic: valve, writable: true, confirm: true}
`

func inShop(t *testing.T, f func(h *house, s *drivertest.Server)) {
	t.Helper()
	s := drivertest.NewServer()
	inHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"server": s}}, files("plc.yaml", shop), func(h *house) { f(h, s) })
}

func (h *house) say(topic, payload string, props ...message.Property) {
	h.t.Helper()
	h.publish(message.Message{Topic: topic, Payload: []byte(payload), Retain: true, Origin: "client/test", UserProperties: props})
}

func wantShown(t *testing.T, s *drivertest.Server, point, value string, q drivers.Quality, why string) {
	t.Helper()
	r := s.Shown("plc", point)
	if r.Value.String() != value || r.Quality != q || (r.Err == nil) != (why == "") || r.Err != nil && !strings.Contains(r.Err.Error(), why) {
		t.Errorf("%s: want %s %v %q, got %s %v %v", point, value, q, why, r.Value, r.Quality, r.Err)
	}
}

func TestServerShowsTopics(t *testing.T) {
	t.Run("nothing heard is bad, and the device is online", func(t *testing.T) {
		inShop(t, func(h *house, s *drivertest.Server) {
			for _, p := range []string{"t", "nested", "mode", "bits", "level", "own", "risky"} {
				wantShown(t, s, p, "null", drivers.Bad, "nothing was heard")
			}
			if d := h.status("plc"); !d.Online || h.bus.Retained("panel/status") != "online" || d.Points[0].Topic != "hall/t" {
				t.Errorf("want it online, got %+v", d)
			}
			if f := h.bus.Filters(drivers.SubscriptionName); len(f) != 0 {
				t.Errorf("want no control topics, got %q", f)
			}
		})
	})
	t.Run("what is retained is shown at once, and again after a restart of the device", func(t *testing.T) {
		s := drivertest.NewServer()
		inHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"server": s}}, nil, func(h *house) {
			h.say("hall/t", "21.5")
			h.load(files("plc.yaml", shop))
			h.after(time.Millisecond)
			wantShown(t, s, "t", "21.5", drivers.Good, "")
			s.End("plc")
			h.after(2 * time.Second)
			wantShown(t, s, "t", "21.5", drivers.Good, "")
			if n := h.status("plc").Counters.Opens; n != 2 {
				t.Errorf("want it opened twice, got %d", n)
			}
		})
	})
	for _, c := range []struct {
		topic, payload, point, value string
		q                            drivers.Quality
		why                          string
	}{
		{"hall/t", "18446744073709551615", "t", "18446744073709551615", drivers.Good, ""},
		{"hall/t", "warm", "t", "warm", drivers.Good, ""},
		{"hall/t", "null", "t", "null", drivers.Bad, "null"},
		{"hall/t", "", "t", "null", drivers.Bad, "cleared"},
		{"hall/t", strings.Repeat("1", 64<<10+1), "t", "null", drivers.Bad, "over 65536 bytes"},
		{"hall/t", `{"value":7,"quality":"good","at":"2000-01-01T00:00:00Z"}`, "t", "7", drivers.Good, ""},
		{"hall/t", `{"value":7,"quality":"stale","reason":"no answer"}`, "t", "7", drivers.Stale, ""},
		{"hall/t", `{"value":7,"quality":"bad","reason":"exception 2"}`, "t", "null", drivers.Bad, "exception 2"},
		{"hall/t", `{"value":7}`, "t", "null", drivers.Bad, `the key "field" says which member`},
		{"hall/t", `[7]`, "t", "null", drivers.Bad, "an object or a list"},
		{"hall/all", `{"air":{"t":21.50}}`, "nested", "21.5", drivers.Good, ""},
		{"hall/all", `{"air":{}}`, "nested", "null", drivers.Bad, `no field "air.t"`},
		{"hall/all", `21.5`, "nested", "null", drivers.Bad, `no field "air.t"`},
		{"ac/mode", `"heat"`, "mode", "1", drivers.Good, ""},
		{"ac/mode", `heat`, "mode", "1", drivers.Good, ""},
		{"ac/mode", `0`, "mode", "0", drivers.Good, ""},
		{"ac/mode", `cool`, "mode", "null", drivers.Bad, "none of off, heat"},
		{"pump/bits", `{"run":true,"fault":true}`, "bits", "9", drivers.Good, ""},
		{"lamp/level", "250", "level", "250", drivers.Good, ""}, // ranges judge what is written
	} {
		t.Run(c.topic+" "+c.payload[:min(len(c.payload), 40)], func(t *testing.T) {
			inShop(t, func(h *house, s *drivertest.Server) {
				h.say(c.topic, c.payload)
				wantShown(t, s, c.point, c.value, c.q, c.why)
			})
		})
	}
	t.Run("a value that grows too old is stale, and good again when it comes", func(t *testing.T) {
		inShop(t, func(h *house, s *drivertest.Server) {
			h.say("hall/t", "1")
			h.after(59 * time.Second)
			wantShown(t, s, "t", "1", drivers.Good, "")
			h.after(2 * time.Second)
			wantShown(t, s, "t", "1", drivers.Stale, "")
			h.say("hall/t", "1")
			wantShown(t, s, "t", "1", drivers.Good, "")
			h.say("hall/t", "2", message.Property{Key: "at", Value: time.Now().Add(-50 * time.Second).Format(time.RFC3339)})
			h.after(9 * time.Second)
			wantShown(t, s, "t", "2", drivers.Good, "")
			h.after(2 * time.Second)
			wantShown(t, s, "t", "2", drivers.Stale, "")
			h.say("hall/t", "3", message.Property{Key: "quality", Value: "stale"})
			wantShown(t, s, "t", "3", drivers.Stale, "")
		})
	})
	t.Run("an error of Feed opens the device again", func(t *testing.T) {
		inShop(t, func(h *house, s *drivertest.Server) {
			s.Fail(errors.New("address in use"))
			h.say("hall/t", "1")
			if d := h.status("plc"); d.Online || !strings.Contains(d.Reason, "address in use") {
				t.Errorf("want it offline, got %+v", d)
			}
			s.Fail(nil)
			h.after(2 * time.Second)
			wantShown(t, s, "t", "1", drivers.Good, "")
			if !h.status("plc").Online {
				t.Error("want it online again")
			}
		})
	})
}

func TestServerWrites(t *testing.T) {
	write := func(point string, v drivers.Value) drivers.Written { return drivers.Written{Point: point, Value: v} }
	t.Run("go to the topics of the points, all or nothing", func(t *testing.T) {
		inShop(t, func(h *house, s *drivertest.Server) {
			if err := s.Ask("plc", write("mode", drivers.IntValue(1)), write("level", drivers.IntValue(45)), write("bits", drivers.UintValue(8))); err != nil {
				t.Fatal(err)
			}
			h.want("ac/mode/set", `"heat"`)
			h.want("lamp/level/set", "45")
			h.want("pump/bits/set", `{"run":false,"fault":true}`)
			m := h.bus.Messages("lamp/level/set")[0]
			if m.Origin != "device/plc" || m.Retain || m.QoS != 1 || time.Until(m.Expires) > 30*time.Second || m.Expires.IsZero() {
				t.Errorf("want a command of 30 s, got %+v", m)
			}
		})
	})
	for name, c := range map[string]struct {
		w    drivers.Written
		want string
	}{
		"of a point that takes none":       {write("t", drivers.IntValue(1)), `point "t" is not writable`},
		"of a point that is not there":     {write("zz", drivers.IntValue(1)), `there is no point "zz"`},
		"out of range":                     {write("level", drivers.IntValue(105)), `point "level": 105 is outside of what may be written, which is 0 to 100 in steps of 5`},
		"without a name":                   {write("mode", drivers.IntValue(2)), `point "mode": 2 is none of off, heat`},
		"that would need a confirmation":   {write("risky", drivers.IntValue(2)), `point "risky" needs a confirmation, which cannot be given here`},
		"that the broker refuses, as such": {write("own", drivers.IntValue(13)), `cannot publish to "panel-value": quota`},
	} {
		t.Run(name+" are refused", func(t *testing.T) {
			inShop(t, func(h *house, s *drivertest.Server) {
				h.bus.Refuse(func(m message.Message) error {
					if m.Topic == "panel-value" {
						return errors.New("quota")
					}
					return nil
				})
				before := len(h.bus.Messages("#"))
				if err := s.Ask("plc", write("mode", drivers.IntValue(0)), c.w); err == nil || err.Error() != c.want {
					t.Errorf("want %s, got %v", c.want, err)
				}
				if n := len(h.bus.Messages("#")) - before; n > 0 && !strings.Contains(c.want, "quota") {
					t.Errorf("%d messages were published", n)
				}
				if d := h.status("plc"); !d.Online || d.Counters.WriteErrors != 1 {
					t.Errorf("want it online with one write error, got %+v", d)
				}
			})
		})
	}
	t.Run("of a topic that is shown, too, are seen at once and kept", func(t *testing.T) {
		inShop(t, func(h *house, s *drivertest.Server) {
			if err := s.Ask("plc", write("own", drivers.IntValue(7))); err != nil {
				t.Fatal(err)
			}
			h.after(time.Millisecond)
			wantShown(t, s, "own", "7", drivers.Good, "")
			wantShown(t, s, "twice", "7", drivers.Good, "")
			if got := h.bus.Retained("panel-value"); got != "7" {
				t.Errorf("want it retained, got %q", got)
			}
		})
	})
}

func TestFeedKeysAreJudged(t *testing.T) {
	for keys, want := range map[string]string{
		"points: {a: {}}":                                     `d.yaml:2:13: point "a" needs a topic`,
		"points: {a: {topic: a/#}}":                           `d.yaml:2:21: point "a": "a/#" cannot be a topic`,
		"points: {a: {topic: a, set: $SYS/x}}":                `d.yaml:2:29: point "a": "$SYS/x" cannot be a topic to publish on`,
		"points: {a: {topic: a, max_age: -1s}}":               `d.yaml:2:33: point "a": max_age must not be negative`,
		"together: true\npoints: {a: {topic: a}}":             `d.yaml:2:11: together is for points that are published`,
		"points: {a: {topic: a, min: 5, max: 4, set: a/set}}": `min 5 is above max 4`,
	} {
		t.Run(keys, func(t *testing.T) {
			h, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"server": drivertest.NewServer()}})
			if err != nil {
				t.Fatal(err)
			}
			err = h.Check(t.Context(), folder(files("d.yaml", "driver: server\n"+keys+"\n")))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %s, got %v", want, err)
			}
		})
	}
}
