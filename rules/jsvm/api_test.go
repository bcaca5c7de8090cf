package jsvm_test

import (
	"testing"
)

func TestFirst(t *testing.T) {
	s := start(t)
	p := s.compile(t, "door.js", `
on('home/+/door', { qos: 1 }, (msg) => {
  if (msg.payload.open) publish('home/' + msg.parts[1] + '/light/set', { on: true }, { qos: 1 })
})`)
	t.Logf("%+v", p.Rules())
	t.Logf("%+v", s.hear(t, p, 0, "home/hall/door", `{"open":true}`))
}
