package main_test

import (
	"os/exec"
	"testing"
)

// The rules that are shipped do what their tests say, and every one of them has a test
// in which it fires.
func TestShippedRulesPassTheirTests(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), binary, "test", "--cover", "../../scripts").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
