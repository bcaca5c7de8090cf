package main_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// initialized is what the runtime says of a package: "init PATH @TIME, TIME clock,
// BYTES bytes, N allocs".
var initialized = regexp.MustCompile(`(?m)^init (\S+) @.*, (\d+) bytes, \d+ allocs$`)

// Both the gateway and its script worker initialize every package before they do
// anything, one after the other: what a package computes there, and touches for the
// first time, is paid for twice before the first rule fires.
func TestLawOfLightInitializers(t *testing.T) {
	const most = 48 << 10 // in bytes; the descriptors of plugins/wire take 25 KiB
	cmd := exec.Command(binary, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, m := range initialized.FindAllStringSubmatch(trace.String(), -1) {
		if !strings.HasPrefix(m[1], modulePath+"/") {
			continue
		}
		seen++
		if n, err := strconv.Atoi(m[2]); err != nil || n > most {
			t.Errorf("the variables of package %s allocate %s bytes at every start, over %d: compute what is rarely needed when it is (sync.OnceValue)", m[1], m[2], most)
		}
	}
	if seen == 0 {
		t.Errorf("no package of ours in what the runtime traced:\n%s", trace.String())
	}
}
