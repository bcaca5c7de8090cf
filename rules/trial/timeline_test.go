package trial_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

const houseFile = `rules:
  - name: light
    on: home/+/door
    if: payload.open
    do:
      - publish: home/${parts[1]}/light
        payload: "on"
      - wait: 10s
      - publish: home/${parts[1]}/light
        payload: "off"
  - name: echo
    on: home/+/light
    do: [{publish: echo}]
  - name: garden
    on: garden/#
    do: [{publish: echo}]
  - {name: morning, at: "07:30", do: [{publish: echo}]}
  - {name: part, do: [{publish: echo}]}
  - {name: visit, hook: bell, do: [{publish: echo}, {call: part}]}
  - {name: idle, on: x, enabled: false, do: [{publish: echo}]}
filters:
  - {name: mad, on: raw/#, drop: payload > 100}
`

// failing plays the steps of a test in a house, and returns the timeline of its failure.
func failing(t *testing.T, file, steps string) string {
	t.Helper()
	f, err := trial.Parse("house.test.yaml", []byte("tests:\n  - name: t\n    steps:\n"+steps))
	if err != nil {
		t.Fatal(err)
	}
	o := trial.Options{Folder: folder("house.yaml", file), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	failure := f.Run(t.Context(), o, &f.Tests[0]).Failure
	if failure == nil {
		t.Fatal("the test passes")
	}
	return strings.Join(failure.Timeline, "\n") + "\n"
}

// A failure tells in order, and in virtual time, what came, what rules ran and why not,
// what they did, and what the others waited for.
func TestAFailureHasATimeline(t *testing.T) {
	got := failing(t, houseFile, `      - {publish: raw/temp, payload: 120, is: dropped}
      - {publish: home/hall/door, payload: {open: false}}
      - {publish: home/hall/door, payload: {open: true}}
      - advance: 4s
      - {publish: home/hall/door, payload: {open: true}, qos: 1}
      - advance: 6s
      - expect: home/hall/lamp
`)
	want := `what happened, the last of it at the end:
    line 4: publish raw/temp
        12:00:00.000 house.yaml:22: mad: raw/temp: dropped
            drop payload > 100: true
            payload: 120
    line 5: publish home/hall/door
        12:00:00.000 message home/hall/door {"open":false} (client/test)
        12:00:00.000 house.yaml:2: light: home/hall/door: not fired
            if payload.open: false
            payload.open: false
    line 6: publish home/hall/door
        12:00:00.000 message home/hall/door {"open":true} (client/test)
        12:00:00.000 house.yaml:2: light: home/hall/door: fired
            if payload.open: true
            payload.open: true
            publish home/hall/light: on
            wait: 10s
        12:00:00.000 message home/hall/light on (rule/light)
        12:00:00.000 house.yaml:11: echo: home/hall/light: fired
            publish echo:
        12:00:00.000 message echo  (rule/echo)
    line 7: advance 4s
    line 8: publish home/hall/door
        12:00:04.000 message home/hall/door {"open":true} qos 1 (client/test)
        12:00:04.000 house.yaml:2: light: home/hall/door: refused: mode single: 1 of at most 1 on their way
            if payload.open: true
            payload.open: true
            refused: mode single: 1 of at most 1 on their way
    line 9: advance 6s
        12:00:10.000 house.yaml:2: light: timer: fired
            publish home/hall/light: off
        12:00:10.000 message home/hall/light off (rule/light)
        12:00:10.000 house.yaml:11: echo: home/hall/light: fired
            publish echo:
        12:00:10.000 message echo  (rule/echo)
    line 10: expect home/hall/lamp
the other rules:
    house.yaml:14: garden: did not run: nothing came on garden/#
    house.yaml:17: morning: did not run: it is for at 07:30
    house.yaml:18: part: did not run: no rule called it
    house.yaml:19: visit: did not run: nobody called the hook bell
    house.yaml:20: idle: did not run: it is not enabled, or waits for nothing
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A timeline is bounded, however long the test is and however many rules there are.
func TestATimelineIsBounded(t *testing.T) {
	var file strings.Builder
	file.WriteString("rules:\n  - {name: early, on: first, do: [{publish: x}]}\n  - {name: tick, every: 1s, do: [{publish: tick}]}\n")
	for i := range 100 {
		fmt.Fprintf(&file, "  - {name: r%d, on: r/%d, do: [{publish: x}]}\n", i, i)
	}
	got := failing(t, file.String(), "      - publish: first\n      - advance: 1d\n      - expect: first\n")
	lines := strings.Split(got, "\n")
	if len(lines) > 200 || len(got) > 20_000 {
		t.Errorf("there are %d lines, %d bytes", len(lines), len(got))
	}
	for _, want := range []string{
		"\n    (172746 runs and messages before that)\n", "12:00:00.000 message tick  (rule/tick)\n    line 6: expect first\n",
		"\n    house.yaml:2: early: 2026-01-05 12:00:00.000 first: fired\n",
		"\n    house.yaml:4: r0: did not run: nothing came on r/0\n", "\n    (81 more)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
}
