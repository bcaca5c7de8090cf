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

func refusal(why string) string { return fmt.Sprintf(`{"ok":false,"error":%q}`, why) }

func TestRangeOfWrites(t *testing.T) {
	bounded := files("lamp.yaml", device("topic: lamp", "on: {writable: true, min: 0.1, max: 30, step: 0.1}",
		"low: {writable: true, min: -5}", "high: {writable: true, max: 0x10}", "step: {writable: true, step: 15}"))
	for _, c := range []struct{ point, payload, want string }{
		{"on", "0.3", `{"ok":true,"value":0.3}`}, // 0.3 is no whole step of a tenth in binary
		{"on", "29.9", `{"ok":true,"value":29.9}`},
		{"on", "0.1", `{"ok":true,"value":0.1}`},
		{"on", "30", `{"ok":true,"value":30}`},
		{"on", "30.1", refusal(`point "on": 30.1 is outside of what may be written, which is 0.1 to 30 in steps of 0.1`)},
		{"on", "0", refusal(`point "on": 0 is outside of what may be written, which is 0.1 to 30 in steps of 0.1`)},
		{"on", "0.25", refusal(`point "on": 0.25 is not a whole step, which is 0.1 to 30 in steps of 0.1`)},
		{"on", "1e300", refusal(`point "on": 1e+300 is outside of what may be written, which is 0.1 to 30 in steps of 0.1`)},
		{"on", "true", refusal(`point "on": true is not a number, which is 0.1 to 30 in steps of 0.1`)},
		{"on", "warm", refusal(`point "on": "warm" is not a number, which is 0.1 to 30 in steps of 0.1`)},
		{"low", "-5", `{"ok":true,"value":-5}`},
		{"low", "-5.000000000000000001", refusal(`point "low": -5.000000000000000001 is outside of what may be written, which is at least -5`)},
		{"high", "17", refusal(`point "high": 17 is outside of what may be written, which is at most 16`)},
		{"high", "18446744073709551615", refusal(`point "high": 18446744073709551615 is outside of what may be written, which is at most 16`)},
		{"step", "-30", `{"ok":true,"value":-30}`},
		{"step", "20", refusal(`point "step": 20 is not a whole step, which is a multiple of 15`)},
	} {
		t.Run(c.point+" "+c.payload, func(t *testing.T) {
			f := &fake{}
			inHouse(t, one(f), bounded, func(h *house) {
				if got := h.set("lamp/"+c.point+"/set", c.payload); got != c.want {
					t.Errorf("want %s, got %s", c.want, got)
				}
				if ok := strings.Contains(c.want, "true,"); len(f.writes) != 0 != ok {
					t.Errorf("%q was written", f.writes)
				}
			})
		})
	}
	t.Run("does not judge what is read", func(t *testing.T) {
		f := &fake{}
		f.set("on", drivers.IntValue(99))
		inHouse(t, one(f), bounded, func(h *house) { h.want("lamp/on", "99") })
	})
}

func TestNearest(t *testing.T) {
	number := func(s string) drivers.Value {
		if s == "" {
			return drivers.Value{}
		}
		v, err := drivers.ParseNumber(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct{ low, step, value, want string }{
		{"", "0.5", "20.3", "20.5"},
		{"", "0.5", "20.25", "20.5"},
		{"", "0.5", "-20.25", "-20"},
		{"", "0.5", "-20.3", "-20.5"},
		{"0.1", "0.5", "20.3", "20.1"},
		{"-5", "3", "-9", "-8"}, // also below the least
		{"0.1", "0.1", "0.3", "0.3"},
		{"", "0.1", "1e3", "1000"},
		{"", "0.000000000000000001", "0.1", "0.1"},
		{"", "7", "18446744073709551615", "18446744073709551614"},
		{"", "7", "9223372036854775807", "9223372036854775807"}, // exactly 7 times
		{"", "2", "9223372036854775807", "9223372036854775808"},
		{"", "", "20.3", "20.3"},
	} {
		p := drivers.Point{Min: number(c.low), Step: number(c.step)}
		if got := p.Nearest(number(c.value)); !got.Equal(number(c.want)) {
			t.Errorf("steps of %s from %q: want %s for %s, got %v", c.step, c.low, c.want, c.value, got)
		}
	}
	p := drivers.Point{Step: drivers.IntValue(1)}
	if got := p.Nearest(drivers.TextValue("warm")); !got.Equal(drivers.TextValue("warm")) {
		t.Errorf("want a text as it is, got %v", got)
	}
}

func TestPointKeysAreJudged(t *testing.T) {
	for point, want := range map[string]string{
		"a: {min: 5, max: 4}":                      `d.yaml:4:12: point "a": min 5 is above max 4`,
		"a: {min: warm}":                           `d.yaml:4:12: this must be a number`,
		`a: {max: "5"}`:                            `d.yaml:4:12: this must be a number`,
		"a: {max: [5]}":                            `d.yaml:4:12: this must be a number`,
		"a: {step: 0}":                             `d.yaml:4:13: point "a": step must be a number above 0`,
		"a: {step: .nan}":                          `d.yaml:4:13: this must be a number`,
		"a: {confirm: true}":                       `d.yaml:4:16: point "a": confirm is for a writable point`,
		"a: {names: [x]}":                          `d.yaml:4:14: this must be a mapping`,
		"a: {names: {1.5: x}}":                     `d.yaml:4:15: the key 1.5 must be quoted`,
		`a: {names: {"1.5": x}}`:                   `d.yaml:4:15: "1.5" is not a whole number, true or false, which are what has names`,
		"a: {names: {1: [x]}}":                     `d.yaml:4:18: this must be text`,
		"a: {names: {1: }}":                        `d.yaml:4:17: this must be text`,
		"a: {names: {1: x, 2: x}}":                 `point "a": 1 and 2 are told apart neither way: "x" and "x"`,
		`a: {names: {1: x, "+1": y}}`:              `"+1" is not a whole number`,
		"a: {flags: {64: x}}":                      `d.yaml:4:15: "64" is not a bit, which is 0 to 63`,
		"a: {flags: {1: x, 0x2: x}}":               `"0x2" is not a bit, which is 0 to 63`,
		"a: {flags: {1: x, 2: x}}":                 `point "a": bits 1 and 2 are told apart neither way: "x" and "x"`,
		"a: {flags: {1: x}, names: {1: x}}":        `point "a": a point has either names or flags`,
		`a: {names: {1: ""}}`:                      `point "a": the name of 1 is empty`,
		"a: {names: {1: x, 1: y}}":                 `1`, // the decoder's own words
		"a: {flags: {0: " + `""` + "}}":            `point "a": the name of bit 0 is empty`,
		"a: {names: {1: x}, min: 1, max: no}":      `this must be a number`,
		"a: {writable: true, min: 1e400}":          `this must be a number`,
		"a: {writable: true, min: 1, unknown: 12}": `unknown field "unknown"`,
	} {
		t.Run(point, func(t *testing.T) {
			h, err := drivers.NewHost(one(&fake{}))
			if err != nil {
				t.Fatal(err)
			}
			fsys := folder(files("d.yaml", device("", point)))
			err = h.Check(t.Context(), fsys)
			var at *drivers.ConfigError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), want) || at.Line == 0 {
				t.Errorf("want %s, got %v", want, err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	mode := files("ac.yaml", device("topic: ac", "on: {writable: true, names: {0: off, 1: heat, -1: fault}}", `door: {names: {"true": open, "false": closed}}`))
	t.Run("are what a value is published as, and stay numbers without", func(t *testing.T) {
		f := &fake{}
		f.set("on", drivers.UintValue(1))
		f.set("door", drivers.BoolValue(true))
		inHouse(t, one(f), mode, func(h *house) {
			for _, v := range []drivers.Value{drivers.IntValue(-1), drivers.IntValue(-1), drivers.IntValue(7), drivers.UintValue(1<<64 - 1)} {
				f.set("on", v)
				h.after(time.Second)
			}
			h.want("ac/on", `"heat"`, `"fault"`, "7", "18446744073709551615")
			h.want("ac/door", `"open"`)
			wantPoints(t, h.status("ac"), map[string]string{"on": "18446744073709551615 good", "door": "open good"})
		})
	})
	for payload, want := range map[string]string{
		"heat":    `{"ok":true,"value":"heat"} on=1`,
		`"off"`:   `{"ok":true,"value":"off"} on=0`,
		"-1":      `{"ok":true,"value":"fault"} on=-1`,
		"cool":    refusal(`point "on": "cool" is none of off, heat, fault`) + " ",
		"7":       refusal(`point "on": 7 is none of off, heat, fault`) + " ",
		`{"a":1}`: `{"ok":false,"error":"point \"on\": {\"a\":1} is none of off, heat, fault"}` + " ",
	} {
		t.Run("are written: "+payload, func(t *testing.T) {
			f := &fake{}
			inHouse(t, one(f), mode, func(h *house) {
				got := h.set("ac/on/set", payload)
				if got += " " + strings.Join(f.writes, ","); got != want {
					t.Errorf("want %s, got %s", want, got)
				}
			})
		})
	}
}

func TestFlags(t *testing.T) {
	pump := files("pump.yaml", device("topic: pump", "on: {writable: true, flags: {0: run, 15: fault}}"))
	t.Run("are published as an object", func(t *testing.T) {
		f := &fake{}
		f.set("on", drivers.UintValue(3))
		inHouse(t, one(f), pump, func(h *house) {
			f.set("on", drivers.IntValue(-32768))
			h.after(time.Second)
			f.set("on", text("?"))
			h.after(time.Second)
			h.want("pump/on", `{"run":true,"fault":false}`, `{"run":false,"fault":true}`, `"?"`)
		})
	})
	for _, c := range []struct{ payload, want string }{
		{`{"fault":true}`, `{"ok":true,"value":{"run":true,"fault":true}} on=32775`},
		{`{"run":false}`, `{"ok":true,"value":{"run":false,"fault":false}} on=6`},
		{`{"run":0,"fault":1}`, `{"ok":true,"value":{"run":false,"fault":true}} on=32774`},
		{"1", `{"ok":true,"value":{"run":true,"fault":false}} on=1`},
		{`{"stop":true}`, refusal(`point "on": there is no flag "stop"`) + " "},
		{`{"run":"yes"}`, `{"ok":false,"error":"point \"on\": flag \"run\" is true or false, not \"\\\"yes\\\"\""} `},
		{`{}`, refusal(`point "on": it is not an object of flags`) + " "},
	} {
		t.Run("are written, the other bits left alone: "+c.payload, func(t *testing.T) {
			f := &fake{}
			f.set("on", drivers.UintValue(7))
			inHouse(t, one(f), pump, func(h *house) {
				got := h.set("pump/on/set", c.payload)
				if got += " " + strings.Join(f.writes, ","); got != c.want {
					t.Errorf("want %s, got %s", c.want, got)
				}
			})
		})
	}
	t.Run("are not written when the other bits cannot be read", func(t *testing.T) {
		f := &fake{bad: map[string]error{"on": errors.New("exception 4")}}
		inHouse(t, one(f), pump, func(h *house) {
			if got, want := h.set("pump/on/set", `{"run":true}`), refusal(`point "on": the other bits are not known: exception 4`); got != want {
				t.Errorf("want %s, got %s", want, got)
			}
		})
	})
}

func TestConfirm(t *testing.T) {
	valve := files("valve.yaml", device("topic: valve", "on: {writable: true, confirm: true}", "level: {writable: true}"))
	token := func(t *testing.T, answer string) string {
		t.Helper()
		_, rest, _ := strings.Cut(answer, `"confirm":"`)
		token, rest, ok := strings.Cut(rest, `","expires":"`)
		if !ok || len(token) < 16 || !strings.HasPrefix(answer, `{"ok":false,"error":"point \"on\" needs a confirmation`) {
			t.Fatalf("want a token, got %s", answer)
		}
		at, err := time.Parse(time.RFC3339, strings.TrimSuffix(rest, `"}`))
		if left := time.Until(at); err != nil || left < 28*time.Second || left > 30*time.Second {
			t.Errorf("want it to expire in 30 s, got %s", answer)
		}
		return token
	}
	const unknown = "the confirmation is not known, or has expired: send the command without one to get another"
	const other = "the confirmation was given to another command: send this one without one to get another"
	wrap := func(value, token string) string { return fmt.Sprintf(`{"value":%s,"confirm":%q}`, value, token) }

	t.Run("a command is written when it comes again with its token, once", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), valve, func(h *house) {
			tok := token(t, h.set("valve/on/set", "true"))
			if len(f.writes) != 0 {
				t.Fatalf("%q was written before it was confirmed", f.writes)
			}
			h.after(29 * time.Second)
			if got := h.set("valve/on/set", wrap("true", tok)); got != `{"ok":true,"value":true}` {
				t.Errorf("want it written, got %s", got)
			}
			if got := h.set("valve/on/set", wrap("true", tok)); got != refusal(unknown) {
				t.Errorf("want the token used up, got %s", got)
			}
			if !slices.Equal(f.writes, []string{"on=true"}) {
				t.Errorf("want one write, got %q", f.writes)
			}
		})
	})
	t.Run("the token may be a user property", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), valve, func(h *house) {
			tok := token(t, h.set("valve/on/set", `{"a":1}`))
			h.publish(message.Message{
				Topic: "valve/on/set", Payload: []byte(`{"a":1}`), Origin: "client/test",
				UserProperties: []message.Property{{Key: "confirm", Value: tok}},
			})
			if !slices.Equal(f.writes, []string{`on={"a":1}`}) {
				t.Errorf("want one write, got %q", f.writes)
			}
		})
	})
	t.Run("a token is good for 30 s, its value, its point and who got it", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), valve, func(h *house) {
			tok := token(t, h.set("valve/on/set", "true"))
			h.after(30 * time.Second)
			if got := h.set("valve/on/set", wrap("true", tok)); got != refusal(unknown) {
				t.Errorf("want it expired, got %s", got)
			}
			tok = token(t, h.set("valve/on/set", "true"))
			if got := h.set("valve/on/set", wrap("1", tok)); got != refusal(other) {
				t.Errorf("want it refused, got %s", got)
			}
			tok = token(t, h.set("valve/on/set", "true"))
			h.publish(message.Message{Topic: "valve/on/set", Payload: []byte(wrap("true", tok)), Origin: "client/other"})
			h.publish(message.Message{Topic: "valve/on/set", Payload: []byte(wrap("true", tok)), Origin: "client/test", Expires: time.Now()})
			h.bus.Deliver(drivers.SubscriptionName, message.Message{Topic: "valve/on/set", Payload: []byte(wrap("true", tok)), Origin: "client/test", Retain: true})
			h.after(time.Millisecond)
			if got := h.set("valve/on/set", wrap("true", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")); got != refusal(unknown) {
				t.Errorf("want a made-up token refused, got %s", got)
			}
			if len(f.writes) != 0 {
				t.Errorf("%q was written", f.writes)
			}
			h.set("valve/on/set", wrap("true", tok))
			if len(f.writes) != 1 {
				t.Errorf("want it written in the end, got %q", f.writes)
			}
		})
	})
	t.Run("a point without it is written at once", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), valve, func(h *house) {
			if got := h.set("valve/level/set", wrap("1", "x")); got != `{"ok":true,"value":{"value":1,"confirm":"x"}}` {
				t.Errorf("want the object written, got %s", got)
			}
		})
	})
	t.Run("one point of an object has all of it confirmed", func(t *testing.T) {
		f := &fake{}
		together := files("valve.yaml", device("together: true\ntopic: valve", "on: {writable: true, confirm: true}", "level: {writable: true}"))
		inHouse(t, one(f), together, func(h *house) {
			tok := token(t, h.set("valve/set", `{"level":5,"on":true}`))
			if got := h.set("valve/set", `{"level":6,"on":true,"confirm":"`+tok+`"}`); got != refusal(other) || len(f.writes) != 0 {
				t.Errorf("want it refused, got %s, %q", got, f.writes)
			}
			tok = token(t, h.set("valve/set", `{"level":5,"on":true}`))
			if got := h.set("valve/set", `{"level":5,"on":true,"confirm":"`+tok+`"}`); got != `{"ok":true,"value":{"level":5,"on":true}}` {
				t.Errorf("want both written, got %s", got)
			}
		})
	})
	t.Run("a flood of them is bounded", func(t *testing.T) {
		f := &fake{}
		inHouse(t, one(f), valve, func(h *house) {
			first := token(t, h.set("valve/on/set", "0"))
			for i := range 15 {
				h.set("valve/on/set", fmt.Sprint(i+1))
			}
			second := token(t, h.set("valve/on/set", "99"))
			if got := h.set("valve/on/set", wrap("0", first)); got != refusal(unknown) {
				t.Errorf("want the oldest forgotten, got %s", got)
			}
			if got := h.set("valve/on/set", wrap("99", second)); got != `{"ok":true,"value":99}` {
				t.Errorf("want the newest known, got %s", got)
			}
		})
	})
}

func TestHistory(t *testing.T) {
	kept := func(t *testing.T, keys string, f *fake, want ...string) {
		t.Helper()
		var got []string
		o := one(f)
		o.History = func(samples []drivers.Sample) {
			for _, s := range samples {
				if s.At.IsZero() {
					t.Errorf("%+v has no time", s)
				}
				got = append(got, fmt.Sprintf("%s=%v", s.Series, s.Value))
			}
		}
		inHouse(t, o, files("d.yaml", device(keys, "a: {history: true, deadband: 0.5}", "b: {history: true, names: {0: off, 1: on}}", "c", "t: {history: true}")), func(h *house) {
			f.set("a", drivers.DecimalValue(214, -1))
			h.after(time.Second)
			f.set("a", drivers.DecimalValue(2225, -2))
			h.after(time.Second)
			f.change(func(f *fake) { f.bad = map[string]error{"a": errNoAnswer} })
			h.after(time.Second)
		})
		if !slices.Equal(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	values := func() *fake {
		f := &fake{}
		f.set("a", drivers.DecimalValue(215, -1))
		f.set("b", drivers.IntValue(1))
		f.set("c", drivers.IntValue(1))
		f.set("t", text("x"))
		return f
	}
	t.Run("has the numbers that are published", func(t *testing.T) {
		kept(t, "", values(), "d/a=21.5", "d/b=1", "d/a=22.25")
	})
	t.Run("names points together by their field", func(t *testing.T) {
		kept(t, "together: true", values(), "d#a=21.5", "d#b=1", "d#a=22.25")
	})
}
