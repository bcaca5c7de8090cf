package main_test

import (
	"net/url"
	"testing"
)

// What a sensor said is there to be asked for: as it came, and in steps of time.
func TestHistoryOfATopic(t *testing.T) {
	g := startGateway(t, map[string]string{"gatehouse.yaml": testConfig + "history: {topics: [home/+/temp]}\n"})
	for _, payload := range []string{"21.5", "22", `{"c": 23, "ok": true}`, "not a number"} {
		g.publish(t, "home/hall/temp", payload)
	}
	g.publish(t, "home/hall/door", "1") // not asked for
	past := func(series, more string) []map[string]any {
		return g.api(t, "history?series="+url.QueryEscape(series)+more)
	}
	eventually(t, "the numbers are in the API", func() bool {
		return len(past("home/hall/temp", "")) == 2 && len(past("home/hall/temp#ok", "")) == 1
	})
	if got := past("home/hall/temp", ""); got[0]["value"] != 21.5 || got[1]["value"] != 22.0 {
		t.Errorf("got %v", got)
	}
	if got := past("home/hall/temp", "&step=31536000"); len(got) != 1 || got[0]["value"] != 21.75 || got[0]["min"] != 21.5 || got[0]["max"] != 22.0 || got[0]["count"] != 2.0 {
		t.Errorf("in steps of a year: %v", got)
	}
	if got := past("home/hall/temp", "&from=2020-01-01T00:00:00Z&limit=1"); len(got) != 1 || got[0]["value"] != 21.5 {
		t.Errorf("since 2020: %v", got)
	}
	if got := past("home/hall/temp", "&to=2020-01-01T00:00:00Z"); len(got) != 0 {
		t.Errorf("before 2020: %v", got)
	}
	var names []any
	for _, s := range g.api(t, "series") {
		names = append(names, s["name"])
	}
	if len(names) != 3 || names[0] != "home/hall/temp" || names[1] != "home/hall/temp#c" || names[2] != "home/hall/temp#ok" {
		t.Errorf("series %v", names)
	}
	g.stop(t)
}
