package exprlang_test

import (
	"strings"
	"testing"
)

// What is no number of days is refused on every machine alike.
func TestDaysOfAWait(t *testing.T) {
	for text, want := range map[string]string{
		"2d": "", "0.5d": "", "NaNd": "is not a duration", "Infd": "is not a duration", "-Infd": "is not a duration",
		"1e300d": "is not a duration", "1000000d": "is not a duration", "-1d": "below 0", "400d": "longer than",
	} {
		_, err := compileOnly("rules:\n  - name: a\n    on: x\n    do: [{wait: \"" + text + "\"}]\n")
		if got := ""; err != nil {
			got = err.Error()
			if want == "" || !strings.Contains(got, want) {
				t.Errorf("%s: got %q, want %q in it", text, got, want)
			}
		} else if want != "" {
			t.Errorf("%s is taken", text)
		}
	}
}
