package drivers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

func TestUncertainWrite(t *testing.T) {
	uncertain := fmt.Errorf("%w: no answer within 1s", drivers.ErrUncertain)
	t.Run("says that it may have been written, and what the device holds", func(t *testing.T) {
		f := &fake{writeErr: uncertain}
		f.set("level", drivers.IntValue(3))
		inHouse(t, one(f), lamp(), func(h *house) {
			want := `{"ok":false,"error":"unknown: may have been written: no answer within 1s","unknown":true,"value":3}`
			if got := h.set("home/lamp/level/set", "7"); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			if !h.status("lamp").Online {
				t.Error("want it online: it answered the read")
			}
		})
	})
	t.Run("is good if the device holds the value", func(t *testing.T) {
		f := &fake{writeErr: uncertain, took: true}
		inHouse(t, one(f), lamp(), func(h *house) {
			want := `{"ok":true,"value":7,"warning":"point \"level\": the write was not answered, but the device holds the value"}`
			if got := h.set("home/lamp/level/set", "7"); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			if got := h.bus.Retained("home/lamp/level"); got != "7" {
				t.Errorf("want it published, got %s", got)
			}
		})
	})
	t.Run("of a device that does not answer at all is unknown, and the device offline", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			f.change(func(f *fake) { f.writeErr, f.readErr = uncertain, errNoAnswer })
			want := `{"ok":false,"error":"unknown: may have been written: no answer within 1s","unknown":true}`
			if got := h.set("home/lamp/level/set", "7"); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			if h.status("lamp").Online {
				t.Error("want it offline")
			}
		})
	})
	t.Run("is one that takes too long", func(t *testing.T) {
		f := &fake{}
		o := one(f)
		o.CallTimeout = time.Second
		inHouse(t, o, lamp(), func(h *house) {
			f.change(func(f *fake) { f.delay = 5 * time.Second })
			got := h.set("home/lamp/level/set", "7")
			if want := `{"ok":false,"error":"unknown: may have been written: context deadline exceeded","unknown":true}`; got != want {
				t.Errorf("want %s, got %s", want, got)
			}
		})
	})
	t.Run("is one in which the driver panics", func(t *testing.T) {
		f := &fake{panics: "write"}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/level/set", "7"); !strings.HasSuffix(got, `unknown: may have been written","unknown":true}`) {
				t.Errorf("want it unknown, got %s", got)
			}
		})
	})
	t.Run("is none that the device refused", func(t *testing.T) {
		f := &fake{writeErr: errors.New("exception 3")}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/level/set", "7"); got != `{"ok":false,"error":"exception 3"}` {
				t.Errorf("want it refused, got %s", got)
			}
		})
	})
}

// Who saves a device file, or stops the gateway, does not wait for a write, and does not
// leave who commanded it without an answer.
func TestWriteWhenTheDeviceIsClosed(t *testing.T) {
	const unknown = `{"ok":false,"error":"unknown: may have been written: the device is being closed","unknown":true}`
	begun := func(t *testing.T, end func(h *house), statuses ...string) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.after(500 * time.Millisecond)
			f.change(func(f *fake) { f.delay = 4 * time.Second })
			h.publish(message.Message{Topic: "home/lamp/level/set", Payload: []byte("7")})
			h.after(100 * time.Millisecond)
			end(h)
			synctest.Wait()
			h.want("home/lamp/level/set/result", unknown)
			h.want("home/lamp/status", statuses...)
			if strings.Contains(h.log.String(), "device offline") {
				t.Errorf("want nothing said of a device that did not answer, got\n%s", h.log)
			}
		})
	}
	t.Run("because its file was saved", func(t *testing.T) {
		begun(t, func(h *house) { h.load(files("lamp.yaml", lamp()["lamp.yaml"]+"# saved\n")) }, "online")
	})
	t.Run("because the gateway stops", func(t *testing.T) {
		begun(t, func(h *house) { h.stop() }, "online", "offline")
	})
	t.Run("writes nothing more", func(t *testing.T) {
		f := &fake{}
		together := files("lamp.yaml", device("together: true\ntopic: home/lamp", "on: {writable: true}", "level: {writable: true}"))
		inHouse(t, one(f), together, func(h *house) {
			f.change(func(f *fake) { f.written = h.stop })
			h.publish(message.Message{Topic: "home/lamp/set", Payload: []byte(`{"on":true,"level":5}`)})
			h.want("home/lamp/set/result", `{"ok":false,"error":"the device is being closed","written":["on"],"not_tried":["level"]}`)
			if !slices.Equal(f.writes, []string{"on=true"}) {
				t.Errorf("want the first written only, got %q", f.writes)
			}
		})
	})
}

func TestWriteOfSeveralThatFails(t *testing.T) {
	together := files("lamp.yaml", device("together: true\ntopic: home/lamp", "on: {writable: true}", "level: {writable: true}", "hue: {writable: true}"))
	command := `{"on":true,"level":5,"hue":9}`
	t.Run("says which were written, and publishes them", func(t *testing.T) {
		f := &fake{writeErrs: map[string]error{"level": errors.New("exception 3")}}
		inHouse(t, one(f), together, func(h *house) {
			if got, want := h.set("home/lamp/set", command), `{"ok":false,"error":"exception 3","written":["on"],"failed":["level"],"not_tried":["hue"]}`; got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			if got := h.bus.Retained("home/lamp"); got != `{"on":true,"level":null,"hue":null}` {
				t.Errorf("want on published, got %s", got)
			}
		})
	})
	t.Run("says what is unknown", func(t *testing.T) {
		f := &fake{writeErrs: map[string]error{"hue": drivers.ErrUncertain}}
		inHouse(t, one(f), together, func(h *house) {
			if got, want := h.set("home/lamp/set", command), `{"ok":false,"error":"unknown: may have been written","unknown":true,"value":null,"written":["on","level"],"failed":["hue"]}`; got != want {
				t.Errorf("want %s, got %s", want, got)
			}
		})
	})
	t.Run("goes on after one that was not answered and is done", func(t *testing.T) {
		f := &fake{writeErrs: map[string]error{"on": drivers.ErrUncertain}, took: true}
		inHouse(t, one(f), together, func(h *house) {
			want := `{"ok":true,"value":{"on":true,"level":5,"hue":9},"warning":"point \"on\": the write was not answered, but the device holds the value"}`
			if got := h.set("home/lamp/set", command); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			if want := []string{"on=true", "level=5", "hue=9"}; !slices.Equal(f.writes, want) {
				t.Errorf("want each written once, got %q", f.writes)
			}
		})
	})
}

func TestReadBackCompares(t *testing.T) {
	float := drivers.FloatValue
	for _, c := range []struct {
		given string
		holds drivers.Value
		warns bool
	}{
		{"1", drivers.BoolValue(true), false},
		{"true", drivers.IntValue(1), false},
		{"0", drivers.BoolValue(true), true},
		{"21.50", drivers.DecimalValue(215, -1), false},
		{"21.5", float(21.5), false},
		{"0.1", float(0.1), false},
		{"21.53", drivers.DecimalValue(215, -1), true},
		{"9007199254740993", drivers.UintValue(9007199254740993), false},
		{"9007199254740993", drivers.IntValue(9007199254740991), true},
		{"-1", drivers.UintValue(65535), true},
		{"ON", text("ON"), false},
		{"ON", text("OFF"), true},
		{"ON", drivers.BoolValue(true), false}, // who knows
		{`{"a": 1}`, text("a=1"), false},
	} {
		t.Run(c.given+" "+c.holds.String(), func(t *testing.T) {
			f := &fake{clamp: map[string]drivers.Value{"on": c.holds}}
			inHouse(t, one(f), lamp(), func(h *house) {
				got := h.set("home/lamp/on/set", c.given)
				if !strings.HasPrefix(got, `{"ok":true,"value":`+string(c.holds.AppendJSON(nil))) || strings.Contains(got, "the device holds") != c.warns {
					t.Errorf("warning wanted: %v; got %s", c.warns, got)
				}
			})
		})
	}
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	f := &fake{}
	inHouse(t, one(f), lamp(), func(h *house) {
		f.change(func(f *fake) { f.delay = 5 * time.Second })
		h.after(time.Second)
		h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), UserProperties: []message.Property{{Key: "k", Value: strings.Repeat("v", 128<<10)}}})
		h.publish(message.Message{Topic: "home/lamp/on/set", Payload: make([]byte, 64<<10+1)})
		h.want("home/lamp/on/set/result", // at once, not in turn
			`{"ok":false,"error":"the command is over 131072 bytes with its properties"}`,
			`{"ok":false,"error":"the payload is over 65536 bytes"}`)
	})
}

// What was to be written may be long, and is not for a log.
func TestWriteThatFailsIsLoggedInShort(t *testing.T) {
	f := &fake{writeErr: errors.New(strings.Repeat("x", 5000) + " does not fit")}
	inHouse(t, one(f), lamp(), func(h *house) {
		if got := h.set("home/lamp/level/set", "7"); !strings.Contains(got, "does not fit") {
			t.Errorf("want all of it in the answer, got %.100s", got)
		}
		if n := strings.Count(h.log.String(), "x"); n < 100 || n > 300 {
			t.Errorf("want the beginning in the log, got %d characters", n)
		}
	})
}
