package discovery_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

// tahu is the version of Eclipse Tahu's library for JavaScript, which judges our bytes
// and makes those that hosts send.
const tahu = "1.0.3"

// ask has Tahu's library answer lines.
func ask(t *testing.T, lines []string) []string {
	t.Helper()
	cmd := exec.Command("node", "testdata/sparkplug.js", drivertest.NodeModules(t, "sparkplug-payload@"+tahu))
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != len(lines) {
		t.Fatalf("want %d answers, got %q", len(lines), answers)
	}
	return answers
}

// render has Jinja, whose templates Home Assistant's are, make a text of each pair of a
// template and a payload.
func render(t *testing.T, lines []string) []string {
	t.Helper()
	const python = "/usr/bin/python3" // the one that sees Debian's packages
	if err := exec.Command(python, "-c", "import jinja2").Run(); err != nil {
		if os.Getenv("DEPS") == "installed" {
			t.Fatalf("the package python3-jinja2 is needed: %v", err)
		}
		t.Skipf("the package python3-jinja2 is needed: %v", err)
	}
	cmd := exec.Command(python, "testdata/jinja.py")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", python, err)
	}
	texts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(texts) != len(lines) {
		t.Fatalf("want %d texts, got %q", len(lines), texts)
	}
	return texts
}

// spMetric is a metric as Tahu's library shows it.
type spMetric struct {
	Name         string            `json:"name"`
	Alias        json.RawMessage   `json:"alias"`
	Timestamp    json.RawMessage   `json:"timestamp"`
	Type         string            `json:"type"`
	Value        json.RawMessage   `json:"value"`
	IsHistorical bool              `json:"isHistorical"`
	IsNull       bool              `json:"isNull"`
	Properties   map[string]spProp `json:"properties"`
}

type spProp struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// spPayload is a payload as Tahu's library shows it.
type spPayload struct {
	Timestamp json.RawMessage `json:"timestamp"`
	Seq       json.RawMessage `json:"seq"`
	Metrics   []spMetric      `json:"metrics"`
}

func decodePayloads(t *testing.T, payloads [][]byte) []spPayload {
	t.Helper()
	lines := make([]string, len(payloads))
	for i, p := range payloads {
		lines[i] = "decode " + hex.EncodeToString(p)
	}
	all := make([]spPayload, len(payloads))
	for i, answer := range ask(t, lines) {
		if err := json.Unmarshal([]byte(answer), &all[i]); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
	}
	return all
}

func encodePayloads(t *testing.T, payloads ...string) [][]byte {
	t.Helper()
	lines := make([]string, len(payloads))
	for i, p := range payloads {
		lines[i] = "encode " + p
	}
	var all [][]byte
	for _, answer := range ask(t, lines) {
		b, err := hex.DecodeString(answer)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}
