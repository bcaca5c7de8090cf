package drivers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// stamp is a time as it is published.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// properties are those of the n-th message of a topic, from 0; below 0 from the end.
func (h *house) properties(topic string, n int) string {
	h.t.Helper()
	all := h.bus.Messages(topic)
	if n < 0 {
		n += len(all)
	}
	if n < 0 || n >= len(all) {
		h.t.Fatalf("there is no message %d on %s", n, topic)
	}
	var s []string
	for _, p := range all[n].UserProperties {
		s = append(s, p.Key+"="+p.Value)
	}
	return strings.Join(s, " ")
}

func TestReadingsCarryQualityAndTime(t *testing.T) {
	t.Run("as user properties", func(t *testing.T) {
		f := &fake{}
		f.set("a", drivers.IntValue(1))
		inHouse(t, one(f), files("d.yaml", device("", "a", "b: {pushed: true}")), func(h *house) {
			began := time.Now()
			if got, want := h.properties("d/a", 0), "quality=good at="+stamp(began); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			f.set("a", drivers.IntValue(2))
			h.after(1500 * time.Millisecond)
			if got, want := h.properties("d/a", 1), "quality=good at="+stamp(began.Add(time.Second)); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
		})
	})
	t.Run("as the device tells the time", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("d.yaml", device("push: true", "a: {pushed: true}")), func(h *house) {
			at := time.Now().Add(-time.Hour + 7*time.Millisecond)
			f.last().pushed <- drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("x"), At: at}}}
			h.after(time.Second)
			if got, want := h.properties("d/a", 0), "quality=good at="+stamp(at); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
		})
	})
	t.Run("and plain values stay as they are when the quality falls", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("d.yaml", device("", "a")), func(h *house) {
			f.change(func(f *fake) { f.bad = map[string]error{"a": errNoAnswer} })
			h.after(2 * time.Second)
			f.change(func(f *fake) { f.readErr = errNoAnswer })
			h.after(time.Minute)
			h.want("d/a", "null")
		})
	})
}

func TestPayloadObject(t *testing.T) {
	file := files("d.yaml", device("payload: object", "a: {writable: true, deadband: 1}"))
	t.Run("tells value, quality, time and each change of quality", func(t *testing.T) {
		f := &fake{}
		f.set("a", drivers.IntValue(7))
		inHouse(t, one(f), file, func(h *house) {
			began := time.Now()
			at := func(d time.Duration) string { return stamp(began.Add(d)) }
			h.after(1500 * time.Millisecond)
			f.change(func(f *fake) { f.bad = map[string]error{"a": errors.New("exception 2")} })
			h.after(2 * time.Second) // bad at 2 and 3 s: told once
			f.change(func(f *fake) { f.bad = nil })
			h.after(time.Second) // good at 4 s: told although it is the same value
			f.change(func(f *fake) { f.readErr = errNoAnswer })
			h.after(4 * time.Second) // stale at 5 s
			f.change(func(f *fake) { f.readErr = nil })
			h.after(4 * time.Second) // good again
			got := h.bus.Payloads("d/a")
			if len(got) != 5 {
				t.Fatalf("want five messages, got %q", got)
			}
			want := []string{
				fmt.Sprintf(`{"value":7,"quality":"good","at":%q}`, at(0)),
				fmt.Sprintf(`{"value":7,"quality":"bad","at":%q,"reason":"exception 2"}`, at(time.Second)),
				fmt.Sprintf(`{"value":7,"quality":"good","at":%q}`, at(4*time.Second)),
				fmt.Sprintf(`{"value":7,"quality":"stale","at":%q,"reason":"the device is offline: no answer"}`, at(4*time.Second)),
			}
			if !slices.Equal(got[:4], want) || !strings.HasPrefix(got[4], `{"value":7,"quality":"good"`) {
				t.Errorf("want %q, got %q", want, got)
			}
			if got, want := h.properties("d/a", 1), "quality=bad at="+at(time.Second)+" reason=exception 2"; got != want {
				t.Errorf("want %s, got %s", want, got)
			}
			for _, m := range h.bus.Messages("d/a") {
				if !m.Retain {
					t.Errorf("want it retained: %+v", m)
				}
			}
		})
	})
	t.Run("never leaves what an earlier run said as good", func(t *testing.T) {
		f := &fake{openErr: errors.New("no route to host")}
		inHouse(t, one(f), file, func(h *house) {
			h.want("d/a", `{"value":null,"quality":"bad","reason":"the device is offline: no route to host"}`)
			h.after(time.Minute)
			if n := len(h.bus.Messages("d/a")); n != 1 {
				t.Errorf("want it said once, got %d", n)
			}
		})
	})
	t.Run("is stale when the gateway ends", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), file, func(h *house) {
			h.end()
			if got := h.bus.Retained("d/a"); !strings.HasPrefix(got, `{"value":null,"quality":"stale","at":`) {
				t.Errorf("want it stale, got %s", got)
			}
			go func() { h.done <- nil }() // it has ended
		})
	})
	t.Run("tells of a point that the device does not answer for", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("d.yaml", device("payload: object", "a", "b")), func(h *house) {
			f.change(func(f *fake) { f.silent = map[string]bool{"b": true} })
			h.after(3 * time.Second)
			all := h.bus.Payloads("d/b")
			if len(all) != 2 || !strings.Contains(all[1], `"quality":"stale"`) || len(h.bus.Payloads("d/a")) != 1 {
				t.Errorf("want b stale once, got %q", all)
			}
		})
	})
	t.Run("is told again after it was refused", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), file, func(h *house) {
			h.bus.Refuse(func(m message.Message) error {
				if m.Topic == "d/a" {
					return errors.New("full")
				}
				return nil
			})
			f.change(func(f *fake) { f.bad = map[string]error{"a": errNoAnswer} })
			h.after(time.Second)
			h.bus.Refuse(nil)
			h.after(time.Second)
			if got := h.bus.Retained("d/a"); !strings.Contains(got, `"quality":"bad"`) {
				t.Errorf("want it bad, got %s", got)
			}
		})
	})
	t.Run("of points together has all of them", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), files("d.yaml", device("payload: object\ntogether: true", "a", "b")), func(h *house) {
			at := stamp(time.Now())
			f.change(func(f *fake) { f.bad = map[string]error{"b": errors.New("exception 2")} })
			h.after(1500 * time.Millisecond)
			want := fmt.Sprintf(`{"a":{"value":null,"quality":"good","at":%q},"b":{"value":null,"quality":"bad","at":%q,"reason":"exception 2"}}`,
				stamp(time.Now().Add(-500*time.Millisecond)), at)
			if got := h.bus.Retained("d"); got != want || len(h.bus.Messages("d")) != 2 {
				t.Errorf("want %s, got %q", want, h.bus.Payloads("d"))
			}
			f.change(func(f *fake) { f.readErr = errNoAnswer })
			h.after(time.Second)
			if got := h.bus.Retained("d"); !strings.Contains(got, `"a":{"value":null,"quality":"stale"`) || len(h.bus.Messages("d")) != 3 {
				t.Errorf("want a stale, got %s", got)
			}
		})
	})
	t.Run("is value or object", func(t *testing.T) {
		h, err := drivers.NewHost(one(&fake{}))
		if err != nil {
			t.Fatal(err)
		}
		err = h.Check(t.Context(), folder(files("d.yaml", device("payload: json", "a"))))
		if err == nil || !strings.Contains(err.Error(), `d.yaml:2:10: payload is value or object, not "json"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTogetherHasGoodValuesOnly(t *testing.T) {
	f := &fake{}
	inHouse(t, one(f), files("d.yaml", device("together: true", "a", "b")), func(h *house) {
		f.change(func(f *fake) { f.bad = map[string]error{"b": errNoAnswer} })
		h.after(2 * time.Second)
		f.change(func(f *fake) { f.bad, f.silent = nil, map[string]bool{"a": true} })
		h.after(2 * time.Second)
		f.change(func(f *fake) { f.silent = nil })
		h.after(2 * time.Second)
		f.change(func(f *fake) { f.readErr = errNoAnswer }) // offline says so
		h.after(2 * time.Second)
		h.want("d", `{"a":null,"b":null}`, `{"a":null}`, `{"a":null,"b":null}`, `{"b":null}`, `{"a":null,"b":null}`)
	})
}

func TestStatusTellsWhy(t *testing.T) {
	f := &fake{openErr: errors.New("no \xff route")}
	inHouse(t, one(f), files("d.yaml", device("", "a", "b")), func(h *house) {
		began := time.Now()
		if got, want := h.properties("d/status", 0), "since="+stamp(began)+" reason=no \uFFFD route"; got != want {
			t.Errorf("want %s, got %s", want, got)
		}
		details := []string{fmt.Sprintf(`{"status":"offline","since":%q,"reason":"no `+"\uFFFD"+` route","driver":"fake"}`, stamp(began))}
		h.after(20 * time.Second) // the same reason is told once
		h.want("d/status/detail", details...)

		f.change(func(f *fake) { f.openErr, f.bad = nil, map[string]error{"b": errors.New("exception 2")} })
		h.after(30 * time.Second)
		since := h.status("d").Since
		if got, want := h.properties("d/status", 1), "since="+stamp(since); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
		details = append(details, fmt.Sprintf(`{"status":"online","since":%q,"driver":"fake","points":{"b":{"quality":"bad","reason":"exception 2"}}}`, stamp(since)))
		h.want("d/status/detail", details...)

		f.change(func(f *fake) { f.bad = nil })
		h.after(time.Second)
		details = append(details, fmt.Sprintf(`{"status":"online","since":%q,"driver":"fake"}`, stamp(since)))
		h.want("d/status/detail", details...)
		h.want("d/status", "offline", "online")
		if m := h.bus.Messages("d/status/detail")[0]; !m.Retain || m.ContentType != "application/json" || m.Origin != "device/d" {
			t.Errorf("want it retained JSON of the device, got %+v", m)
		}

		f.change(func(f *fake) { f.readErr = errNoAnswer })
		h.after(time.Second)
		if got := h.bus.Retained("d/status/detail"); !strings.Contains(got, `"status":"offline"`) || !strings.Contains(got, `"reason":"no answer"`) {
			t.Errorf("want it offline, got %s", got)
		}
	})
}

func TestStatusNamesSomePoints(t *testing.T) {
	f := &fake{bad: make(map[string]error)}
	var points []string
	for i := range 103 {
		points = append(points, fmt.Sprintf("p%d", i))
		f.bad[points[i]] = errNoAnswer
	}
	inHouse(t, one(f), files("d.yaml", device("", points...)), func(h *house) {
		got := h.bus.Retained("d/status/detail")
		if n := strings.Count(got, "no answer"); n != 100 || !strings.HasSuffix(got, `},"more":3}`) {
			t.Errorf("want 100 points and 3 more, got %d in %s", n, got)
		}
	})
}
