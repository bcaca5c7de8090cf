package jsvm_test

import (
	"strconv"
	"testing"
)

// TestManyFields goes over what is kept without a map, in messages and payloads, and
// through what has an index.
func TestManyFields(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('set', (msg) => {
  for (let i = 0; i < 40; i++) msg['x' + i] = i
  let sum = 0
  for (let i = 0; i < 40; i++) sum += msg['x' + i]
  msg.text = '{"a":1}'
  publish('out', [sum, msg.payload.a, msg.nothing === undefined, 'x39' in msg, 'x40' in msg])
})
on('get', (msg) => {
  let sum = 0
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 300; i++) sum += msg.payload['k' + i]
  const o = msg.payload.o
  o.seen = true
  publish('out', [sum, msg.payload.o === o, msg.payload.o.seen, Object.keys(msg.payload).length, msg.payload.nothing === undefined])
})`)
	if got, want := show(s.hear(t, p, 0, "set", "7")), `publish out "[780,1,true,true,false]" q0`; got != want {
		t.Errorf("fields of a message: %s, want %s", got, want)
	}
	payload := []byte(`{"o":{}`)
	for i := range 300 {
		payload = append(payload, []byte(`,"k`)...)
		payload = strconv.AppendInt(payload, int64(i), 10)
		payload = append(payload, []byte(`":2`)...)
	}
	if got, want := show(s.hear(t, p, 1, "get", string(payload)+"}")), `publish out "[1200,true,true,301,true]" q0`; got != want {
		t.Errorf("fields of a payload: %s, want %s", got, want)
	}
}
