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

// lamp is a device with points of each kind.
func lamp() map[string]string {
	return files("lamp.yaml", device("topic: home/lamp", "on: {writable: true}", "level: {writable: true}", "watts"))
}

func TestCommand(t *testing.T) {
	t.Run("is written, read back, published at once and answered", func(t *testing.T) {
		f := &fake{}
		f.set("on", drivers.BoolValue(false))
		inHouse(t, one(f), lamp(), func(h *house) {
			h.after(100 * time.Millisecond) // nine tenths of a second before the next poll
			if got := h.set("home/lamp/on/set", "true"); got != `{"ok":true,"value":true}` {
				t.Errorf("want ok, got %s", got)
			}
			h.want("home/lamp/on", "false", "true")
			var order []string
			for _, m := range h.bus.Messages("home/lamp/#")[5:] {
				order = append(order, m.Topic)
			}
			if want := []string{"home/lamp/on/set", "home/lamp/on", "home/lamp/on/set/result"}; !slices.Equal(order, want) {
				t.Errorf("want %q, got %q", want, order)
			}
		})
	})
	t.Run("publishes what was read back, not what was written", func(t *testing.T) {
		f := &fake{clamp: map[string]drivers.Value{"level": drivers.IntValue(100)}}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/level/set", "250"); got != `{"ok":true,"value":100,"warning":"point \"level\": the device holds 100, not 250"}` {
				t.Errorf("want 100, got %s", got)
			}
			h.want("home/lamp/level", "null", "100")
		})
	})
	t.Run("takes bare text for text", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.set("home/lamp/on/set", "ON")
			h.set("home/lamp/on/set", `"OFF"`)
			h.set("home/lamp/on/set", ` {"a": 1} `)
			if want := []string{"on=ON", "on=OFF", `on={"a": 1}`}; !slices.Equal(f.writes, want) {
				t.Errorf("want %q written, got %q", want, f.writes)
			}
		})
	})
	t.Run("that cannot be is answered and not written", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			for payload, want := range map[string]string{
				"":                            "the payload is empty",
				"null":                        `point \"on\": null cannot be written`,
				"\xff":                        "the payload is not UTF-8",
				strings.Repeat("x", 64<<10+1): "the payload is over 65536 bytes",
			} {
				if got := h.set("home/lamp/on/set", payload); got != `{"ok":false,"error":"`+want+`"}` {
					t.Errorf("want %s, got %s", want, got)
				}
			}
			if got := h.set("home/lamp/watts/set", "1"); got != `{"ok":false,"error":"point \"watts\" is not writable"}` {
				t.Errorf("want it not writable, got %s", got)
			}
			if len(f.writes) != 0 || h.status("lamp").Counters.Refused != 5 {
				t.Errorf("want no writes and 5 refused, got %q, %+v", f.writes, h.status("lamp").Counters)
			}
		})
	})
	t.Run("for a device that is gone is answered", func(t *testing.T) {
		inHouse(t, one(&fake{}), nil, func(h *house) {
			h.bus.Deliver(drivers.SubscriptionName, message.Message{Topic: "home/lamp/on/set", Payload: []byte("1")})
			got := string(h.bus.Wait(t, "home/lamp/on/set/result", 1).Payload)
			if got != `{"ok":false,"error":"there is no such device or point"}` {
				t.Errorf("want no such device, got %s", got)
			}
		})
	})
	t.Run("that the device refuses is answered with its words", func(t *testing.T) {
		f := &fake{writeErr: errors.New(`exception 2: "illegal data address"`)}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/on/set", "1"); got != `{"ok":false,"error":"exception 2: \"illegal data address\""}` {
				t.Errorf("want the exception, got %s", got)
			}
			if d := h.status("lamp"); !d.Online || d.Counters.WriteErrors != 1 {
				t.Errorf("want it online with one write error, got %+v", d)
			}
		})
	})
	t.Run("that loses the device is answered, and the device opened again", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			f.change(func(f *fake) { f.writeErr = fmt.Errorf("unplugged: %w", drivers.ErrLost) })
			if got := h.set("home/lamp/on/set", "1"); got != `{"ok":false,"error":"unplugged: device lost"}` {
				t.Errorf("want unplugged, got %s", got)
			}
			h.after(2 * time.Second)
			if f.opens != 2 || !h.status("lamp").Online {
				t.Errorf("want it opened twice and online, got %d, %+v", f.opens, h.status("lamp"))
			}
		})
	})
	t.Run("that makes the driver panic is answered", func(t *testing.T) {
		f := &fake{panics: "write"}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/on/set", "1"); !strings.Contains(got, `"error":"the driver panicked: the fake`) {
				t.Errorf("want the panic, got %s", got)
			}
		})
	})
	t.Run("that cannot be read back says so", func(t *testing.T) {
		f := &fake{bad: map[string]error{"on": errors.New("write only")}, silent: map[string]bool{"level": true}}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/on/set", "1"); got != `{"ok":true,"value":1,"warning":"point \"on\" cannot be read back: write only"}` {
				t.Errorf("want a warning, got %s", got)
			}
			if got := h.set("home/lamp/level/set", "1"); got != `{"ok":true,"value":1}` {
				t.Errorf("want ok, got %s", got)
			}
			f.change(func(f *fake) { f.readErr = errNoAnswer })
			if got := h.set("home/lamp/on/set", "1"); got != `{"ok":true,"value":1,"warning":"it cannot be read back: no answer"}` {
				t.Errorf("want a warning, got %s", got)
			}
			h.want("home/lamp/level")
		})
	})
	t.Run("carries its hops on, so that loops end", func(t *testing.T) {
		inHouse(t, one(&fake{}), lamp(), func(h *house) {
			h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), Hops: 3})
			for _, topic := range []string{"home/lamp/on", "home/lamp/on/set/result"} {
				all := h.bus.Messages(topic)
				if m := all[len(all)-1]; m.Hops != 3 || m.Origin != "device/lamp" {
					t.Errorf("on %s: want 3 hops from device/lamp, got %+v", topic, m)
				}
			}
		})
	})
}

func TestCommandTime(t *testing.T) {
	t.Run("an expired command is not written", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), Expires: time.Now()})
			h.want("home/lamp/on/set/result", `{"ok":false,"error":"the command has expired"}`)
			h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), Expires: time.Now().Add(time.Second)})
			if len(f.writes) != 1 {
				t.Errorf("want one write, got %q", f.writes)
			}
		})
	})
	t.Run("one that expires while it waits is not written", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			f.change(func(f *fake) { f.delay = 4 * time.Second })
			h.after(time.Second) // a slow read has begun
			for range 2 {
				h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), Expires: time.Now().Add(5 * time.Second)})
			}
			h.after(time.Minute)
			if len(f.writes) != 1 {
				t.Errorf("want one write, got %q", f.writes)
			}
			h.want("home/lamp/on/set/result", `{"ok":true,"value":1}`, `{"ok":false,"error":"the command has expired"}`)
		})
	})
	t.Run("a retained message is no command", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.bus.Deliver(drivers.SubscriptionName, message.Message{Topic: "home/lamp/on/set", Payload: []byte("1"), Retain: true})
			synctest.Wait()
			h.want("home/lamp/on/set/result", `{"ok":false,"error":"a retained message is not a command"}`)
			if len(f.writes) != 0 {
				t.Errorf("want no write, got %q", f.writes)
			}
		})
	})
	t.Run("commands go ahead of polls", func(t *testing.T) {
		f := &fake{delay: 100 * time.Millisecond}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.after(950 * time.Millisecond)
			for i := range 5 {
				h.publish(message.Message{Topic: "home/lamp/level/set", Payload: fmt.Append(nil, i)})
			}
			h.after(5*200*time.Millisecond + 50*time.Millisecond)
			if len(f.writes) != 5 || f.reads[len(f.reads)-1] != "level" {
				t.Errorf("want all five written before the next poll, got %q, %q", f.writes, f.reads)
			}
		})
	})
	t.Run("a flood of commands does not end polling", func(t *testing.T) {
		f := &fake{delay: 10 * time.Millisecond}
		inHouse(t, one(f), lamp(), func(h *house) {
			for range 1000 {
				h.publish(message.Message{Topic: "home/lamp/level/set", Payload: []byte("1")})
				h.after(15 * time.Millisecond)
			}
			polls := 0
			for _, r := range f.reads {
				if strings.Contains(r, "watts") {
					polls++
				}
			}
			if polls < 10 {
				t.Errorf("want at least 10 polls in 15 s, got %d", polls)
			}
		})
	})
	t.Run("a flood of commands does not silence the device", func(t *testing.T) {
		f := &fake{delay: 10 * time.Millisecond}
		inHouse(t, one(f), files("s.yaml", device("push: true", "a: {pushed: true}", "b: {pushed: true, writable: true}")), func(h *house) {
			for i := range 300 {
				h.publish(message.Message{Topic: "s/b/set", Payload: []byte("1")})
				if i == 100 {
					f.last().pushed <- drivers.Pushed{Readings: []drivers.Reading{{Point: "a", Value: text("x")}}}
				}
				h.after(15 * time.Millisecond)
			}
			h.want("s/a", `"x"`)
		})
	})
	t.Run("more commands than the queue takes are busy", func(t *testing.T) {
		f := &fake{}
		o := one(f)
		o.Queue = 3
		inHouse(t, o, lamp(), func(h *house) {
			f.change(func(f *fake) { f.delay = 5 * time.Second })
			h.after(time.Second)
			for range 5 {
				h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1")})
			}
			const busy = `{"ok":false,"error":"busy: 3 commands wait for the device already"}`
			h.want("home/lamp/on/set/result", busy, busy)
			if n := h.status("lamp").Counters.Refused; n != 2 {
				t.Errorf("want two counted, got %d", n)
			}
			h.after(time.Minute)
			if len(f.writes) != 3 {
				t.Errorf("want three writes, got %q", f.writes)
			}
		})
	})
	t.Run("a command for a device that is not open is refused at once", func(t *testing.T) {
		f := &fake{openErr: errors.New("no such port")}
		inHouse(t, one(f), lamp(), func(h *house) {
			if got := h.set("home/lamp/on/set", "1"); got != `{"ok":false,"error":"device is offline: no such port"}` {
				t.Errorf("want offline, got %s", got)
			}
		})
	})
	t.Run("a write to a silent device that succeeds brings it back", func(t *testing.T) {
		f := &fake{readErr: errNoAnswer}
		inHouse(t, one(f), lamp(), func(h *house) {
			h.after(100 * time.Second)
			f.change(func(f *fake) { f.readErr = nil })
			h.set("home/lamp/on/set", "1")
			h.after(time.Millisecond)
			if d := h.status("lamp"); !d.Online || d.Points[2].Quality != drivers.Good {
				t.Errorf("want it online and read, got %+v", d)
			}
		})
	})
	t.Run("commands left at the end are answered", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), lamp(), func(h *house) {
			f.change(func(f *fake) { f.delay = 5 * time.Second })
			h.after(time.Second)
			h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1")})
			h.load(nil)
			synctest.Wait()
			h.want("home/lamp/on/set/result", `{"ok":false,"error":"device is closed"}`)
		})
	})
}

func TestResponse(t *testing.T) {
	ask := func(h *house, response string) {
		h.publish(message.Message{
			Topic: "home/lamp/on/set", Payload: []byte("true"),
			ResponseTopic: response, CorrelationData: []byte{7, 0, 9},
		})
	}
	t.Run("goes to the response topic with the correlation data", func(t *testing.T) {
		inHouse(t, one(&fake{}), lamp(), func(h *house) {
			ask(h, "clients/me/answers")
			all := h.bus.Messages("clients/me/answers")
			if len(all) != 1 || string(all[0].Payload) != `{"ok":true,"value":true}` || string(all[0].CorrelationData) != "\x07\x00\x09" {
				t.Errorf("want one answer with the correlation data, got %+v", all)
			}
			h.want("home/lamp/on/set/result")
		})
	})
	t.Run("does not go where the sender may not publish", func(t *testing.T) {
		inHouse(t, one(&fake{}), lamp(), func(h *house) {
			h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("true"), ResponseTopic: "alarm/off", NoResponse: true})
			h.want("alarm/off")
			h.want("home/lamp/on/set/result", `{"ok":true,"value":true,"warning":"the sender may not publish to the response topic"}`)
		})
	})
	for _, topic := range []string{"home/lamp/level/set", "$SYS/x", "a/+", "a\x00b"} {
		t.Run(fmt.Sprintf("does not go to %q", topic), func(t *testing.T) {
			f := &fake{}
			inHouse(t, one(f), lamp(), func(h *house) {
				ask(h, topic)
				h.want("home/lamp/on/set/result", `{"ok":true,"value":true}`)
				if len(f.writes) != 1 {
					t.Errorf("want one write, got %q", f.writes)
				}
			})
		})
	}
}

func TestCommandTogether(t *testing.T) {
	together := files("lamp.yaml", device("together: true\ntopic: home/lamp", "on: {writable: true}", "level: {writable: true}", "watts"))
	t.Run("an object writes several points in its order", func(t *testing.T) {
		f := &fake{}
		f.set("watts", drivers.IntValue(9))
		inHouse(t, one(f), together, func(h *house) {
			if got := h.set("home/lamp/set", `{"level": 50, "on": true}`); got != `{"ok":true,"value":{"level":50,"on":true}}` {
				t.Errorf("want both, got %s", got)
			}
			if want := []string{"level=50", "on=true"}; !slices.Equal(f.writes, want) {
				t.Errorf("want %q written, got %q", want, f.writes)
			}
			if got := h.bus.Retained("home/lamp"); got != `{"on":true,"level":50,"watts":9}` {
				t.Errorf("want the object published, got %s", got)
			}
		})
	})
	t.Run("what is no point is passed over, with a warning", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), together, func(h *house) {
			if got := h.set("home/lamp/set", `{"on":true,"since":"noon"}`); got != `{"ok":true,"value":{"on":true},"warning":"there is no point \"since\""}` {
				t.Errorf("want a warning, got %s", got)
			}
			if want := []string{"on=true"}; !slices.Equal(f.writes, want) {
				t.Errorf("want %q written, got %q", want, f.writes)
			}
		})
	})
	t.Run("its points have control topics, too", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), together, func(h *house) {
			h.set("home/lamp/on/set", "true")
			if got := h.bus.Retained("home/lamp"); got != `{"on":true,"level":null,"watts":null}` {
				t.Errorf("want the object published, got %s", got)
			}
		})
	})
	for payload, want := range map[string]string{
		`{"zz":1,"yy":2}`:       `there is no point \"zz\"`,
		`{"on":true,"watts":1}`: `point \"watts\" is not writable`,
		`{"on":null}`:           `point \"on\": null cannot be written`,
		`{}`:                    "the payload is not a JSON object of points and values",
		`[1]`:                   "the payload is not a JSON object of points and values",
		`{"on":true`:            "the payload is not a JSON object of points and values",
		`{"on":true} {}`:        "the payload is not a JSON object of points and values",
	} {
		t.Run("of "+payload+" nothing is written", func(t *testing.T) {
			f := &fake{}
			inHouse(t, one(f), together, func(h *house) {
				if got := h.set("home/lamp/set", payload); got != `{"ok":false,"error":"`+want+`"}` {
					t.Errorf("want %s, got %s", want, got)
				}
				if len(f.writes) != 0 {
					t.Errorf("want no write, got %q", f.writes)
				}
			})
		})
	}
}

func TestCommandForAPointThatIsGone(t *testing.T) {
	f := &fake{}
	inHouse(t, one(f), lamp(), func(h *house) {
		f.change(func(f *fake) { f.delay = 4 * time.Second })
		h.after(time.Second) // a slow read has begun
		h.publish(message.Message{Topic: "home/lamp/on/set", Payload: []byte("1")})
		h.load(files("lamp.yaml", "driver: fake\ntopic: home/lamp\npoints: {}\n"))
		h.after(time.Minute)
		h.want("home/lamp/on/set/result", `{"ok":false,"error":"there is no point \"on\""}`)
		if n := h.status("lamp").Counters.Panics; n != 0 {
			t.Errorf("%d panics", n)
		}
	})
}
