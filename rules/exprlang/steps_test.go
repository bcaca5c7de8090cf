package exprlang_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// What steps do, told as rules and scenarios; see standIn.play.
var stepScenarios = []scenario{
	{"a wait goes on with the message that triggered it", `
    on: in/+
    do:
      - publish: on/${parts[1]}
      - wait: 5s
      - publish: off/${parts[1]}
        payload: ${payload.n}`, `
		> in/a {"n":12345678901234567890}
		= on/a
		+ 4999ms
		+ 1ms
		= off/a 12345678901234567890`},
	{"a wait goes on after a restart, with the time that is left", `
    on: in
    do: [{wait: 10s}, {publish: out, payload: "${payload}"}]`, `
		> in x
		+ 4s
		restart 3s
		+ 2999ms
		restart cut
		+ 1ms
		= out x
		+ 1h
		restart`},
	{"a wait that was due meanwhile goes on once", `
    on: in
    do: [{wait: 10s}, {publish: out}]`, `
		> in
		restart 30m
		= out
		restart
		+ 1h`},
	{"a wait that was due too long ago is left out", `
    on: in
    do: [{wait: 10s}, {publish: out}]`, `
		> in
		restart 61m
		= missed
		> in
		+ 10s
		= out`},
	{"unless the rule says that it may be late", `
    on: in
    missed: run
    do: [{wait: 10s}, {publish: out}]`, `
		> in
		restart 2000h
		= out`},
	{"or never", `
    on: in
    missed: skip
    do: [{wait: 10s}, {publish: out}]`, `
		> in
		restart 90s
		= out
		> in
		restart 2m
		= missed`},
	{"a wait may be calculated", `
    on: in
    do: [{wait: "${payload.delay}s"}, {publish: out}]`, `
		> in {"delay":2.5}
		+ 2s
		+ 500ms
		= out
		> in {"delay":0}
		= out
		> in {"delay":"x"}
		= error: line 4: "xs" is not a duration such as 10s, 5m, 1h30m or 2d
		> in {}
		= error: line 4: not evaluated: payload.delay is absent`},
	{"nothing is published before a failing step, up to the last wait", `
    on: in
    do: [{publish: a}, {wait: 1s}, {publish: b}, {publish: "c/${payload.no}"}, {publish: d}]`, `
		> in {}
		= a
		+ 1s
		= error: line 4: not evaluated: payload.no is absent
		+ 1h`},
	{"if, then, else", `
    on: in
    do:
      - if: payload > 10
        then: [{publish: high}]
        else: [{publish: low}]
      - publish: end`, `
		> in 11
		= high
		= end
		> in 10
		= low
		= end`},
	{"choose takes the first that holds", `
    on: in
    do:
      - choose:
          - {if: payload == 1, do: [{publish: one}]}
          - {if: payload < 3, do: [{publish: two}]}
          - do: [{publish: many}]
      - publish: end`, `
		> in 1
		= one
		= end
		> in 2
		= two
		= end
		> in 3
		= many
		= end`},
	{"repeat times, with turn", `
    on: in
    do:
      - repeat:
          times: ${payload}
          do:
            - repeat: {times: 2, do: [{publish: "in/${turn}"}]}
            - publish: out/${turn}
      - publish: end`, `
		> in 2
		= in/0
		= in/1
		= out/0
		= in/0
		= in/1
		= out/1
		= end
		> in 0
		= end
		> in -1
		= error: line 5: times is "-1", not a whole number up to 1000000`},
	{"repeat while and until, with waits and restarts between", `
    on: in
    do:
      - repeat:
          while: turn < 2
          do: [{publish: "w/${turn}"}, {wait: 1s}]
      - repeat:
          until: turn == 1
          do: [{wait: 1s}, {publish: "u/${turn}"}]`, `
		> in
		= w/0
		restart
		+ 1s
		= w/1
		restart 500ms
		+ 500ms
		+ 1s
		= u/0
		restart
		+ 1s
		= u/1
		+ 1h`},
	{"a repeat without a wait is bounded", `
    on: in
    do: [{repeat: {while: "true", do: [{set: {n: turn}}]}}]`, `
		> in
		= error: line 4: it went through 10000 steps without a wait`},
	{"parallel branches have times of their own", `
    on: in
    do:
      - parallel:
          - [{wait: 3s}, {publish: slow}]
          - [{wait: 1s}, {publish: quick}, {wait: 1s}, {publish: again}]
          - [{publish: now}]
      - publish: end`, `
		> in
		= now
		+ 1s
		= quick
		restart 500ms
		+ 500ms
		= again
		restart
		+ 999ms
		+ 1ms
		= slow
		= end
		+ 1h`},
	{"stop ends the run with all its branches", `
    on: in
    do:
      - parallel:
          - [{wait: 2s}, {publish: never}]
          - [{wait: 1s}, {publish: last}, stop]
      - publish: never`, `
		> in
		+ 1s
		= last
		+ 1h`},
	{"set changes variables of the file", `
    on: in
    do:
      - set: {n: payload + 1, vars.text: "topic + '!'"}
      - wait: 1s
      - set: {n: nil}`, `
		> in 1
		+ 1s`},
	{"log and notify", `
    on: in
    do:
      - log: it is ${payload}
        level: warn
      - notify: "door: ${payload}"`, `
		> in open
		= gatehouse/notify door: open
		= WARN it is open`},
}

func TestSteps(t *testing.T) {
	playAll(t, stepScenarios)
}

// What rules of one file do together.
var fileScenarios = []struct{ name, file, scenario string }{
	{"call does the steps of another rule, in its place", `
rules:
  - name: caller
    on: in/+
    do:
      - call: ring
        with: {room: "parts[1]", times: "2"}
      - call: ring
        with: {room: "'end'"}
  - name: ring
    if: with.room != "cellar"
    do:
      - repeat:
          times: ${with.times ?? 1}
          do: [{publish: "bell/${with.room}", payload: "${payload}"}, {wait: 1s}]
`, `
		> in/hall x
		= bell/hall x
		restart
		+ 1s
		= bell/hall x
		+ 1s
		= bell/end x
		+ 1s
		> in/cellar y
		= bell/end y
		+ 1s`},
	{"variables are seen by other rules at once, and taken back with a run that fails", `
rules:
  - name: a
    on: in
    do: [{set: {n: "1"}}, {if: payload.bad, then: [{publish: "x/${payload.no}"}]}, {publish: out}]
`, `
		> in {"bad":true}
		= error: line 5: not evaluated: payload.no is absent
		> in {}
		= out`},
}

func TestStepsOfSeveralRules(t *testing.T) {
	for _, c := range fileScenarios {
		t.Run(c.name, func(t *testing.T) { newStandIn(t, c.file).play(c.scenario) })
	}
}

func TestSetKeepsAndTakesBack(t *testing.T) {
	s := newStandIn(t, `
rules:
  - name: r
    on: in
    do: [{set: {n: payload.n, vars.text: "topic"}}, {publish: "out/${payload.t}"}, {set: {gone: nil}}]
`)
	s.hear(`in {"n":1.50,"t":"x"}`)
	if got := string(s.state.Value("n")) + string(s.state.Value("text")); got != `1.50"in"` {
		t.Errorf("the variables are %s", got)
	}
	if out := s.outs[len(s.outs)-1]; len(out.State) != 3 {
		t.Errorf("the changes to be kept are %+v", out.State)
	}
	s.hear(`in {"n":2}`) // fails after the set
	out := s.outs[len(s.outs)-1]
	if got := string(s.state.Value("n")); got != "1.50" || len(out.State) > 0 || out.Err == nil {
		t.Errorf("n is %s, %+v", got, out)
	}
}

func TestOnError(t *testing.T) {
	playAll(t, []scenario{
		{"continue passes over a step", `
    on: in
    do: [{publish: a}, {publish: "b/${payload.no}", on_error: continue}, {publish: c}]`, `
		> in {}
		= a
		= c
		= WARN goes on after an error: line 4: not evaluated: payload.no is absent`},
		{"do is done instead, and the rest goes on", `
    on: in
    do:
      - publish: b/${payload.no}
        on_error: {do: [{publish: failed, payload: "${error}"}]}
      - publish: c`, `
		> in {}
		= failed line 5: not evaluated: payload.no is absent
		= c`},
		{"retry waits longer each time, then stops", `
    on: in
    do:
      - publish: b/${payload.no}
        on_error: {retry: 2, pause: 10s}
      - publish: c`, `
		> in {}
		+ 10s
		restart
		+ 19s
		+ 1s
		= error: line 5: not evaluated: payload.no is absent
		+ 1h`},
		{"retry, and then something else", `
    on: in
    do:
      - publish: b/${payload.no}
        on_error: {retry: 1, pause: 1s, do: [{publish: failed}, {wait: 1s}, {publish: late}]}
      - publish: c`, `
		> in {}
		+ 1s
		= failed
		+ 1s
		= late
		= c`},
		{"of the rule holds for all its steps", `
    on: in
    on_error: continue
    do: [{publish: "b/${payload.no}"}, {if: payload.x > 1, then: [{publish: never}]}, {publish: "c/${payload.no}", on_error: {do: [{publish: own}]}}]`, `
		> in {}
		= own
		= WARN goes on after an error: line 5: not evaluated: payload.no is absent
		= WARN goes on after an error: line 5: not evaluated: payload.x is absent`},
		{"leaves repeats and calls behind", `
    on: in
    do:
      - repeat:
          times: 3
          do:
            - publish: t/${turn}
            - wait: 1s
            - publish: x/${payload.no}
        on_error: {do: [{publish: "after/${turn ?? 'none'}"}]}
      - publish: end`, `
		> in {}
		= t/0
		+ 1s
		= after/none
		= end`},
	})
}

func TestWaitUntil(t *testing.T) {
	playAll(t, []scenario{
		{"a message of another topic ends it", `
    on: in
    do:
      - wait: {until: payload.ok, on: [answer/+, other], timeout: 30s}
      - publish: out
        payload: ${payload} ${heard.topic} ${timed_out}`, `
		> in x
		> answer/a {"ok":false}
		> answer/b not json
		> answer/c {"ok":true}
		= out x answer/c false
		> answer/c {"ok":true}
		+ 1h`},
		{"a timeout stops the run", `
    on: in
    do: [{wait: {on: answer, timeout: 30s}}, {publish: out}]`, `
		> in
		+ 30s
		> answer
		> in
		> answer
		= out`},
		{"or lets it go on", `
    on: in
    do: [{wait: {on: answer, timeout: 30s, else: continue}}, {publish: "out/${timed_out}"}]`, `
		> in
		+ 30s
		= out/true`},
		{"the trigger does not end its own wait, and the rule's topics do", `
    on: in
    do: [{publish: begin}, {wait: {until: "payload != trigger.payload"}}, {publish: end, payload: "${payload} ${heard.payload}"}]`, `
		> in 1
		= begin
		> in 1
		= refused: mode single: 1 of at most 1 on their way
		> in 2
		= refused: mode single: 1 of at most 1 on their way
		= end 1 2
		> in 3
		= begin`},
		{"a message ends one wait, not those after it", `
    on: in
    do: [{wait: {on: button}}, {publish: one}, {wait: {on: button}}, {publish: two}]`, `
		> in
		> button
		= one
		> button
		= two`},
		{"a message ends the waits of all branches that had begun", `
    on: in
    do:
      - parallel: [[{wait: {on: button}}, {publish: one}], [{wait: {on: button}}, {publish: two}]]
      - wait: {on: button}
      - publish: three`, `
		> in
		> button
		= one
		= two
		> button
		= three`},
		{"it goes on waiting after a restart", `
    on: in
    do: [{wait: {until: payload == 7, on: answer, timeout: 30s, else: continue}}, {publish: "out/${timed_out}"}]`, `
		> in
		restart 10s
		> answer 6
		restart
		> answer 7
		= out/false
		> in
		restart 10s cut
		+ 20s
		= out/true`},
		{"a condition that reads other topics is woken by them, and may hold already", `
    on: in
    do: [{wait: {until: "state('door').open == false && state('window/' + 'a').shut", timeout: 30s}}, {publish: out}]`, `
		> door {"open":true}
		> in
		> door {"open":false}
		> window/a {"shut":true}
		= out
		> in
		= out`},
		{"the condition may read the message before on the topic", `
    on: in
    do: [{wait: {until: "prev != nil && prev.n < payload.n", on: answer}}, {publish: out}]`, `
		> answer {"n":1}
		> in
		> answer {"n":1}
		> answer {"n":2}
		= out`},
		{"several runs wait for themselves", `
    on: in/+
    mode: parallel
    do: [{wait: {until: "payload == trigger.payload", on: answer}}, {publish: "out/${parts[1]}"}]`, `
		> in/a 1
		> in/b 2
		> in/c 1
		> answer 2
		= out/b
		> answer 1
		= out/a
		= out/c`},
	})
}

func TestHTTP(t *testing.T) {
	const do = `
    on: in
    do:
      - http: {url: "https://x.example/${payload.id}", method: POST, header: {X-Id: "${payload.id}"}, body: {n: "${payload.n}"}, timeout: 5s, retries: 2, as: weather}
      - publish: out
        payload: ${weather.status} ${weather.body.c ?? weather.body} ${weather.header["content-type"] ?? "-"}`
	t.Run("the run goes on with the reply", func(t *testing.T) {
		s := newStandIn(t, "rules:\n  - name: r"+do+"\n")
		s.play(`
		> in {"id":"a","n":1.0}
		= POST https://x.example/a {"n":1.0}
		reply 200 {"c":21.50}
		= out 200 21.50 -
		> in {"id":"b","n":1}
		= POST https://x.example/b {"n":1}
		restart 5s
		reply 404 not there
		= out 404 not there -
		+ 48h`)
	})
	t.Run("a reply that does not come is an error", func(t *testing.T) {
		newStandIn(t, "rules:\n  - name: r"+do+"\n").play(`
		> in {"id":"a","n":1}
		= POST https://x.example/a {"n":1}
		reply error connection refused
		= error: line 5: there is no reply: connection refused
		> in {"id":"a","n":1}
		= POST https://x.example/a {"n":1}
		+ 24h
		= error: line 5: there was no reply within a day`)
	})
	t.Run("which on_error hears", func(t *testing.T) {
		newStandIn(t, `
rules:
  - name: r
    on: in
    do:
      - http: {url: "http://h/"}
        on_error: {retry: 1, pause: 1s, do: [{publish: failed, payload: "${reply.error}"}]}
      - publish: end
`).play(`
		> in
		= GET http://h/
		reply error one
		+ 1s
		= GET http://h/
		reply error two
		= failed two
		= end`)
	})
	t.Run("in the engine, with a power cut on the way", func(t *testing.T) {
		f, err := trial.Parse("t.test.yaml", []byte(`
tests:
  - name: weather
    rules: [t.yaml]
    steps:
      - {publish: in, payload: {id: a, n: 1}}
      - {expect request: https://x.example/a, method: POST, body: {n: 1}}
      - {expect none: out}
      - {reply: https://x.example/*, body: {c: 21.5}}
      - {publish: in, payload: {id: b, n: 2}}
      - restart: true
      - {expect: out, payload: 200 21.5 -}
      - {advance: 1d}
      - {expect none: out}
`))
		if err != nil {
			t.Fatal(err)
		}
		folder := fstest.MapFS{"t.yaml": {Data: []byte("rules:\n  - name: r" + do + "\n")}}
		o := trial.Options{Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}, Folder: folder}
		for i := range f.Tests {
			if r := f.Run(t.Context(), o, &f.Tests[i]); r.Failure != nil {
				t.Errorf("%+v", r.Failure)
			}
		}
	})
	t.Run("requests in parallel", func(t *testing.T) {
		newStandIn(t, `
rules:
  - name: r
    on: in
    do:
      - parallel:
          - [{http: {url: "http://a/", as: a}}]
          - [{http: {url: "http://b/", as: b}}]
      - publish: out
        payload: ${a.body + b.body}
`).play(`
		> in
		= GET http://a/
		= GET http://b/
		reply 200 x
		restart
		reply 200 y
		= out xy`)
	})
}

// What a run waits with is bounded.
func TestTooMuchToWaitWith(t *testing.T) {
	s := newStandIn(t, "rules:\n  - name: r\n    on: in\n    do: [{publish: out}, {wait: 1s}, {publish: out}]\n")
	s.hear("in " + strings.Repeat("x", 64<<10))
	if out := s.outs[len(s.outs)-1]; out.Err == nil || !strings.Contains(out.Err.Error(), "more than 64512") || len(out.Publish) > 0 || out.Fired {
		t.Errorf("the outcome is %v, %d publishes", out.Err, len(out.Publish))
	}
	s.did = nil
	s.play("> in x\n= out\n+ 1s\n= out")
}

// Steps in a blueprint: its rules call each other, and what waits is told apart.
func TestStepsInBlueprints(t *testing.T) {
	folder := fstest.MapFS{
		"b.yaml": {Data: []byte(`
inputs:
  room: {type: text}
rules:
  - name: caller
    on: in/$(room)
    do:
      - call: ring
      - wait: {on: ack/$(room)}
      - publish: done/$(room)
  - name: ring
    do: [{publish: bell/$(room)}]
`)},
		"t.yaml": {Data: []byte(`
rules:
  - {use: b.yaml, name: hall, with: {room: hall}}
  - {use: b.yaml, name: attic, with: {room: attic}}
`)},
	}
	s := newStandInOf(t, string(folder["t.yaml"].Data), folder)
	s.play(`
		> in/hall
		= bell/hall
		> in/attic
		= bell/attic
		restart
		> ack/attic
		= done/attic
		> ack/hall
		= done/hall`)
	folder["b.yaml"].Data = []byte(strings.ReplaceAll(string(folder["b.yaml"].Data), "call: ring", "call: rong"))
	_, err := compileIn(folder, "t.yaml")
	if err == nil || !strings.Contains(err.Error(), `b.yaml:8:15: there is no rule "rong" in this file to call`) || !strings.Contains(err.Error(), "used by t.yaml:3") {
		t.Errorf("it says %v", err)
	}
}
