package exprlang_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/rulestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLanguage(t *testing.T) {
	rulestest.Suite(t, exprlang.New(), rulestest.Sources{
		Extension: ".yaml",
		Light: `
rules:
  - name: light
    on: home/+/door
    if: payload.open
    do:
      - publish: home/${parts[1]}/light/set
        payload: {on: true}
        qos: 1
`,
		Clean: `
filters:
  - name: clean
    on: raw/+/temp
    drop: payload.c > 150
    topic: clean/${parts[1]}/temp
    set: {twice: payload.c * 2}
`,
		Strict: `
filters:
  - name: strict
    on: strict/#
    drop: payload.c > 150
    on_error: reject
`,
		Broken:     "rules:\n  - name: x\n    on: a\n    if: payload.open &&\n    do: []\n",
		BrokenLine: 4,
	})
}
