package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

func TestHistory(t *testing.T) {
	for text, want := range map[string]config.History{
		"":                                    {Age: 720 * time.Hour, Bytes: 64 << 20, Series: 1000},
		"history: {topics: [home/+/temp, a]}": {Topics: []string{"home/+/temp", "a"}, Age: 720 * time.Hour, Bytes: 64 << 20, Series: 1000},
		"history: {age: 48h, bytes: 65536, series: 1}": {Age: 48 * time.Hour, Bytes: 64 << 10, Series: 1},
	} {
		c, err := config.Parse("gatehouse.yaml", []byte(text), nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, c.History); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"topics: [a, 'b#']": "2:15",
		"age: 59m":          "less than 1h",
		"bytes: 65535":      "less than 65536",
		"series: 0":         "less than 1",
		"points: 5":         "unknown field",
	} {
		if _, err := config.Parse("gatehouse.yaml", []byte("history:\n  "+text+"\n"), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}
