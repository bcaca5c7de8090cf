package exprlang_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

func TestModes(t *testing.T) {
	playAll(t, []scenario{
		{"single refuses while a run is on its way", `
    on: in
    do: [{publish: begin, payload: "${payload}"}, {wait: 10s}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		= begin 1
		+ 5s
		> in 2
		= refused: mode single: 1 of at most 1 on their way
		restart
		> in 2
		= refused: mode single: 1 of at most 1 on their way
		+ 5s
		= end 1
		> in 3
		= begin 3`},
		{"restart begins anew", `
    on: in
    mode: restart
    do: [{publish: begin, payload: "${payload}"}, {wait: 10s}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		= begin 1
		+ 5s
		restart
		> in 2
		= begin 2
		+ 9s
		+ 1s
		= end 2
		+ 1h`},
		{"queued does one after the other", `
    on: in
    mode: queued
    max: 2
    do: [{publish: begin, payload: "${payload}"}, {wait: 10s}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		= begin 1
		> in 2
		> in 3
		> in 4
		= refused: mode queued: 3 of at most 2 on their way
		restart
		+ 10s
		= end 1
		= begin 2
		restart
		+ 10s
		= end 2
		= begin 3
		+ 10s
		= end 3
		> in 5
		= begin 5`},
		{"a queue waits for what takes days, and then goes on in its order", `
    on: in
    mode: queued
    do: [{wait: 60h}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		> in 2
		> in 3
		+ 59h
		restart
		+ 1h
		= end 1
		+ 59h
		+ 1h
		= end 2
		+ 59h
		+ 1h
		= end 3`},
		{"what was queued does not skip its wait when both were due while the gateway was off", `
    on: in
    mode: queued
    missed: run
    do: [{wait: 5h}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		> in 2
		restart 30h
		= end 1
		+ 4h
		+ 1h
		= end 2`},
		{"a queue goes on when a run fails", `
    on: in
    mode: queued
    do: [{wait: 1s}, {publish: "out/${payload.t}"}]`, `
		> in {}
		> in {"t":"x"}
		> in {"t":"y"}
		+ 1s
		= error: line 5: not evaluated: payload.t is absent
		+ 1s
		= out/x
		+ 1s
		= out/y`},
		{"a queue of what needs no wait is done at once", `
    on: in
    mode: queued
    do: [{if: payload == 0, then: [{wait: 1s}]}, {publish: out, payload: "${payload}"}]`, `
		> in 0
		> in 1
		> in 2
		+ 1s
		= out 0
		= out 1
		= out 2`},
		{"parallel has a maximum", `
    on: in
    mode: parallel
    max: 2
    do: [{wait: 10s}, {publish: end, payload: "${payload}"}]`, `
		> in 1
		+ 1s
		> in 2
		> in 3
		= refused: mode parallel: 2 of at most 2 on their way
		restart
		> in 3
		= refused: mode parallel: 2 of at most 2 on their way
		+ 9s
		= end 1
		> in 4
		+ 1s
		= end 2
		+ 9s
		= end 4`},
		{"each key goes by itself", `
    on: in/+
    mode: restart
    key: parts[1]
    do: [{wait: 10s}, {publish: end, payload: "${payload}"}]`, `
		> in/a 1
		+ 5s
		> in/b 2
		> in/a 3
		+ 5s
		+ 5s
		= end 2
		= end 3`},
	})
}

func TestTimedRules(t *testing.T) {
	playAll(t, []scenario{
		{"for: the condition must hold so long, by topic", `
    on: in/+
    if: payload > 60
    for: 30s
    do: [{publish: "hot/${parts[1]}", payload: "${payload}"}]`, `
		> in/a 61
		+ 10s
		> in/b 70
		> in/a 62
		+ 10s
		> in/b 50
		+ 10s
		= hot/a 61
		+ 1h
		> in/a 65
		+ 1h
		> in/a 5
		> in/a 66
		restart 10s
		+ 20s
		= hot/a 66
		restart cut
		> in/a 67
		+ 1h`},
		{"for: what cannot be judged changes nothing", `
    on: in
    if: payload.c > 60
    for: 30s
    do: [{publish: hot}]`, `
		> in {"c":61}
		> in {}
		= error: not evaluated: payload.c is absent
		+ 30s
		= hot`},
		{"for: what was due while the gateway was off", `
    on: in
    if: payload
    for: 30s
    do: [{publish: out}]`, `
		> in true
		restart 30m
		= out
		> in false
		> in true
		restart 2h
		= missed
		> in true
		+ 1m
		> in false
		> in true
		+ 30s
		= out`},
		{"for, with a key and steps", `
    on: in/+/+
    if: payload
    for: 1s
    key: parts[1]
    do: [{wait: 1s}, {publish: "out/${parts[1]}"}]`, `
		> in/a/x true
		> in/a/y false
		+ 1s
		> in/a/x true
		+ 1s
		+ 1s
		= out/a`},
		{"debounce: the last of a burst", `
    on: in
    debounce: 2s
    do: [{publish: out, payload: "${payload}"}]`, `
		> in 1
		+ 1s
		> in 2
		+ 1999ms
		> in 3
		restart 500ms
		+ 1499ms
		+ 1ms
		= out 3
		> in 4
		restart cut
		+ 2s
		= out 4
		+ 1h`},
		{"throttle: the first, then one in so long", `
    on: in/+
    throttle: 10s
    do: [{publish: out, payload: "${payload}"}]`, `
		> in/a 1
		= out 1
		+ 4s
		> in/b 2
		= out 2
		> in/a 3
		= refused: throttle: it ran 4s ago
		restart 5s
		> in/a 4
		= refused: throttle: it ran 9s ago
		+ 1s
		> in/a 5
		= out 5`},
		{"once: over restarts, and again when the rule has changed", `
    on: in
    once: true
    do: [{publish: out}]`, `
		> in
		= out
		> in
		= refused: once: it has run
		restart cut
		> in
		= refused: once: it has run
		change publish: out -> publish: out2
		> in
		= out2
		> in
		= refused: once: it has run`},
		{"rate: so many at once, and they come back with time", `
    on: in
    rate: 2/s
    do: [{publish: out}]`, `
		> in
		= out
		> in
		= out
		> in
		= refused: rate: it ran too often
		+ 500ms
		> in
		= out
		> in
		= refused: rate: it ran too often`},
		{"shadow and enabled are the engine's", `
    on: in
    enabled: false
    do: [{publish: out}]`, `
		> in`},
	})
}

func TestSilence(t *testing.T) {
	playAll(t, []scenario{
		{"what was heard of again just before a power cut is not silent", `
    on: beat/+
    silent: 10m
    do: [{publish: lost}]`, `
		> beat/a
		+ 10m
		= lost
		restart 1s
		> beat/a
		+ 1s
		restart 1s cut
		+ 9m
		+ 58s
		= lost
		restart
		+ 1h`},
		{"each topic that was heard of, once, until it comes back", `
    on: beat/+
    silent: 10m
    do: [{publish: "lost/${parts[1]}", payload: "${payload}"}]`, `
		> beat/a 1
		+ 5m
		> beat/b 2
		+ 4m
		> beat/a 3
		+ 6m
		= lost/b 2
		+ 4m
		= lost/a 3
		+ 1h
		restart cut
		+ 1h
		> beat/b 4
		restart 4m
		+ 6m
		= lost/b 4
		restart
		+ 1h`},
		{"beside a trigger, of other topics", `
    on: in
    silent: {on: [beat/+, hub], for: 1m}
    do: [{publish: out, payload: "${topic}"}]`, `
		+ 1m
		= out hub
		> in
		= out in
		restart
		+ 1h
		> hub
		+ 59s
		> hub
		restart 59s
		+ 1s
		= out hub`},
		{"what was due while the gateway was off", `
    on: beat
    silent: 10m
    missed: skip
    do: [{publish: lost}]`, `
		> beat
		restart 20m
		= missed
		+ 1h
		> beat
		+ 10m
		= lost`},
		{"with a window over what was heard", `
    on: beat
    silent: 1m
    windows: {n: {count: payload > 1}}
    do: [{publish: out, payload: "${windows.n}"}]`, `
		> beat 1
		> beat 2
		> beat 3
		+ 1m
		= out 2`},
		{"with a condition, and steps", `
    on: beat
    silent: 1m
    if: payload.battery < 10
    do: [{publish: low}, {wait: 1m}, {publish: gone}]`, `
		> beat {"battery":50}
		+ 1m
		> beat {"battery":5}
		restart
		+ 1m
		= low
		restart
		+ 1m
		= gone`},
	})
}

// A message that is heard of costs no write: the timer is left as it is.
func TestSilenceAndBurstsSetFewTimers(t *testing.T) {
	for _, key := range []string{"silent", "debounce"} {
		s := newStandIn(t, "rules:\n  - {name: r, on: in, "+key+": 1m, do: [{publish: out}]}\n")
		for range 50 {
			s.hear("in")
			s.advance(time.Second)
		}
		if s.set != 1 {
			t.Errorf("%s: %d timers were set", key, s.set)
		}
	}
}

// A change of the clock, which starts in 1970, wakes nobody early and nobody late.
func TestSavedTimesAndAClockThatWasSet(t *testing.T) {
	s := newStandIn(t, "rules:\n  - {name: r, on: in, silent: 1m, do: [{publish: out}]}\n")
	s.hear("in")
	s.advance(30 * time.Second)
	s.save()
	s.timers = map[string]standingTimer{}
	s.now = time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC)
	s.begin()
	s.play("+ 59s\n+ 1s\n= out")
}

// Runs go on in a changed file if the rule has the same name and shape, and only then.
func TestChangedFiles(t *testing.T) {
	const source = "rules:\n  - {name: r, on: in, do: [{wait: 10s}, {publish: one}]}\n"
	for _, c := range []struct{ name, scenario string }{
		{"another topic", "> in\nchange one -> two\n+ 10s\n= two"},
		{"another duration, which counts from the next run", "> in\nchange 10s -> 1h\n+ 10s\n= one\n> in\n+ 1h\n= one"},
		{"another name", "> in\nchange name: r -> name: q\n+ 10s"},
		{"another step", "> in\nchange one}] -> one}, {publish: two}]\n+ 10s\n> in\n+ 10s\n= one\n= two"},
		{"another mode", "> in\nchange on: in -> mode: queued, on: in\n> in\n+ 10s\n= one\n+ 10s\n= one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			newStandIn(t, source).play(c.scenario)
		})
	}
}

// Grace, shadow, enabled, QoS of what hears for a wait.
func TestWhatTheEngineIsToldOfRules(t *testing.T) {
	p := compile(t, `
rules:
  - {name: a, cron: "@daily", missed: 2h, shadow: true, do: [{publish: x}]}
  - {name: b, cron: "@daily", missed: skip, do: [{publish: x}]}
  - {name: c, on: in, enabled: false, cron: "@daily", start: true, do: [{publish: x}]}
  - {name: d, on: in, qos: 2, if: prev.open, do: [{wait: {until: payload == prev, on: answer}}]}
  - {name: e, on: in, silent: {on: beat, for: 1m}, do: [{call: f}]}
  - {name: f, do: [{publish: "${prev.x}"}]}
`)
	all := p.Rules()
	if a, b := all[0], all[1]; a.Grace != 2*time.Hour || !a.Shadow || b.Grace >= 0 || b.Shadow {
		t.Errorf("a is %+v, b %+v", a, b)
	}
	if c := all[2]; len(c.Filters)+len(c.Schedules) > 0 || c.Start {
		t.Errorf("c is not off: %+v", c)
	}
	if len(all) != 8 || !all[6].Hidden || all[6].QoS != 2 || all[6].Filters[0] != "answer" || !all[7].Hidden || all[7].Filters[0] != "beat" || all[0].Hidden {
		t.Errorf("what is hidden is %+v", all[6:])
	}
	if !all[5].Called || all[4].Called {
		t.Errorf("f is there to be called: %+v, e is not: %+v", all[5], all[4])
	}
	if !all[3].Prev || !all[4].Prev {
		t.Errorf("prev is read: %+v, %+v", all[3], all[4])
	}
}

// Nobody answers the requests of a rule in the shadow, so that it goes on without.
func TestShadowGoesOnWithoutAReply(t *testing.T) {
	newStandIn(t, "rules:\n  - {name: r, on: in, shadow: true, do: [{http: {url: 'http://h/'}}, {publish: out, payload: '${reply.status} ${reply.body ?? 1}'}]}\n").play(`
		> in
		= out 0 1
		= GET http://h/`)
}

// Facts tell what was done, and why not.
func TestFactsOfRuns(t *testing.T) {
	s := newStandIn(t, `
rules:
  - name: r
    on: in
    do:
      - if: payload.n > 1
        then: [{publish: out, payload: "${payload.n}"}]
      - set: {n: payload.n}
      - http: {url: "http://h/", method: POST, body: text}
      - wait: 5s
  - {name: plain, on: plain, do: [{publish: out, payload: x}]}
`)
	s.explain = true
	s.hear(`in {"n":2}`)
	s.hear("in {}")
	s.reply(rules.Reply{Status: 200, Body: []byte("fine")})
	s.hear("plain")
	var got []string
	for _, f := range s.facts {
		got = append(got, f.What+": "+f.Value)
	}
	want := `if payload.n > 1: true
payload.n: 2
publish out: 2
set n: 2
http POST http://h/: text
refused: mode single: 1 of at most 1 on their way
reply: 200 fine
wait: 5s
publish out: x`
	if strings.Join(got, "\n") != want {
		t.Errorf("the facts are\n%s", strings.Join(got, "\n"))
	}
}
