package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fetch returns what the console answers.
func (h *house) fetch(path string) string {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.console+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// fetched waits until the console answers with all of the texts.
func (h *house) fetched(path string, texts ...string) {
	h.t.Helper()
	late := time.Now().Add(20 * time.Second)
	for {
		got, missing := h.fetch(path), ""
		for _, text := range texts {
			if !strings.Contains(got, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(late) {
			h.t.Fatalf("%s has no %s: %s", path, missing, got)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestDevicesAreShown(t *testing.T) {
	h := newHouse(t, map[string]string{
		"users": "", "acl.yaml": "rules: []\n",
		"devices/hall.yaml": `
driver: sim
topic: home/hall
payload: object
every: 100ms
points:
  t:    {formula: "t > 1000 ? 1 : 21.5", unit: "°C", history: true}
  mode: {initial: 1, names: {0: off, 1: heat}, writable: true, confirm: true}
  set:  {initial: 20, writable: true, min: 5, max: 30, step: 0.5}
`,
	})
	h.fetched("/api/v1/devices",
		`"read_latency":{"count":`, `"min":5,"max":30,"step":0.5`, `"names":["off","heat"]`, `"value":"heat"`, `"confirm":true`, `"history":true`)
	h.fetched("/metrics", `gatehouse_device_read_seconds_bucket{device="hall",le="0.001"}`, `gatehouse_device_published_total{device="hall"}`)
	h.fetched("/api/v1/history?series=home/hall/t", `"value":21.5`)
	h.fetched("/api/v1/topics?filter=home/hall/mode", `{\"value\":\"heat\",\"quality\":\"good\",\"at\":\"2`)
	h.fetched("/api/v1/topics?filter=home/hall/status/detail", `\"status\":\"online\"`, `\"driver\":\"sim\"`)
}
