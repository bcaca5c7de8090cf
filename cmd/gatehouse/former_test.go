package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// A rule file that is broken while the gateway is off has its last good version serve, the
// error is shown, and what waited for its rules is neither lost nor doubled.
func TestTheLastGoodRulesServeAfterAKill(t *testing.T) {
	const sent = 500
	const good = `rules:
  - name: count
    on: count/me
    qos: 1
    do:
      - set: {n: (vars.n ?? 0) + 1}
      - {publish: total, payload: "${vars.n}", qos: 1, retain: true}
`
	g := startGateway(t, map[string]string{"scripts/count.yaml": good})
	g.again(t)
	g.says(t, `"msg":"rules kept"`)
	lines := strings.Repeat("x\n", sent)
	if out, code := run(t, lines, binary, "pub", "--server", "mqtt://"+g.mqtt, "-q", "1", "--lines", "count/me"); code != 0 {
		t.Fatalf("pub ended with %d: %s", code, out)
	}
	g.write(t, "scripts/count.yaml", strings.Replace(good, "qos: 1\n", "qos: one\n", 1))
	g.again(t)
	total := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d are counted", n), func() bool { return g.retained(t, "total") == fmt.Sprint(n) })
	}
	total(sent)
	g.publish(t, "count/me", "x")
	total(sent + 1)
	shown := g.api(t, "rules")
	if len(shown) != 1 || !strings.Contains(fmt.Sprint(shown[0]["error"]), "count.yaml:4") || len(shown[0]["rules"].([]any)) != 1 { //nolint:forcetypeassert // the API says so
		t.Errorf("the API shows %v", shown)
	}
	g.stop(t)
}
