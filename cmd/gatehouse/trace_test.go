package main_test

import (
	"strings"
	"testing"
)

// Runs of rules are told on their topics to who hears them, with what they looked at.
func TestTheTraceOnATopic(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/house/door.yaml": `rules:
  - name: light/1
    on: door
    if: payload.open
    do: [{publish: light, payload: "on"}]
  - name: burst
    on: burst
    do: [{repeat: {times: 1000, do: [{publish: door, payload: {open: true}}]}}]
  - name: watcher
    on: $SYS/gatehouse/trace/#
    do: [{publish: watched}]
`,
	})
	watched := subscribe(t, g, "watched")
	trace := subscribe(t, g, "$SYS/gatehouse/trace/house/#")
	eventually(t, "a run is told", func() bool { // what comes after the first look at who hears
		g.publish(t, "door", `{"open": true}`)
		return strings.Contains(trace.output(), "fired")
	})
	shows(t, trace.output(), `(?m)^\$SYS/gatehouse/trace/house/door.yaml/light_1 \{"file":"house/door.yaml","rule":"light/1",.*"topic":"door","outcome":"fired",.*"facts":\[`)
	g.publish(t, "burst", "1")
	eventually(t, "what is left out is counted", func() bool { return strings.Contains(trace.output(), `"left_out":`) })
	if strings.Contains(trace.output(), "watcher") {
		t.Error("who hears the trace is traced")
	}
	watched.says(t, "watched ")
	g.stop(t)
}
