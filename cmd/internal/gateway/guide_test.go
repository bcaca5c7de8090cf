package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// blocks are the YAML examples of a guide.
func blocks(t *testing.T, guide string) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/" + guide)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, rest := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, closed := strings.Cut(rest, "```")
		if !closed {
			t.Fatalf("want each example closed, got %.80q", rest)
		}
		all = append(all, block)
	}
	return all
}

// recordedMeter is the recording that an example names, beside the example.
const recordedMeter = `{"recording":"gatehouse wire 1","program":"gatehouse","device":"meter","protocol":"modbus-rtu","place":"serial /dev/ttyUSB0 9600 8E1","unit":1,"at":"2026-01-02T03:04:05Z"}
{"at":"2026-01-02T03:04:06Z","sent":true,"hex":"010300000001840a"}
{"at":"2026-01-02T03:04:06.02Z","sent":false,"hex":"0103020007f986"}
`

// Who copies an example of the guide to devices has a device.
func TestExamplesOfTheGuideToDevicesAreAccepted(t *testing.T) {
	checked := 0
	for _, block := range blocks(t, "devices.md") {
		first, _, _ := strings.Cut(block, "\n")
		switch {
		case strings.HasPrefix(block, "# in the configuration"):
			if _, err := config.Parse("gatehouse.yaml", []byte(block), nil); err != nil {
				t.Errorf("the example that begins %q: %v", first, err)
			}
			continue
		case strings.HasPrefix(block, "# in a device file"):
			block = "driver: sim\npoints: {a: {initial: 1}}\n" + block
		case strings.HasPrefix(block, "points:"): // of the example before
			block = "driver: host\n" + block
		case !strings.HasPrefix(block, "driver:"):
			t.Errorf("what is the example that begins %q?", first)
			continue
		}
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "example.yaml"), []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "meter.jsonl"), []byte(recordedMeter), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := checkDevices(t.Context(), folder, nil, Options{Log: slog.New(slog.DiscardHandler), Worker: []string{os.Args[0], "script-worker"}}); err != nil {
			t.Errorf("the example that begins %q: %v", first, err)
		}
		checked++
	}
	if checked < 12 {
		t.Errorf("want a dozen device files at least, got %d", checked)
	}
}
