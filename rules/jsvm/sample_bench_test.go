package jsvm

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// BenchmarkInWorker is the worker's part of a call: a frame of 32, a loop of 50 steps,
// state and a publish each.
func BenchmarkInWorker(b *testing.B) {
	var out bytes.Buffer
	w := sampleWorker(&out)
	text := "on('bench/in/+', (msg) => {\n  let sum = 0\n  for (let i = 0; i < 50; i++) sum += i * msg.payload.value\n  const n = (state.get(msg.topic) || 0) + 1\n  state.set(msg.topic, n)\n" +
		"  publish('bench/out/' + msg.parts[2], { stamp: msg.payload.stamp, value: n, sum })\n})\n"
	err := w.serveFrame(appendRecord(nil, &loadRecord{Seq: 1, Script: 1, Name: "a.js", Text: []byte(text), Fresh: true, Now: time.Now()}))
	if err != nil {
		b.Fatal(err)
	}
	var frame []byte
	for i := range 32 {
		frame = appendRecord(frame, &callRecord{Seq: uint64(i + 2), Script: 1, Trigger: rules.OnMessage, Now: time.Now(), Message: &wireMessage{Message: message.Message{
			Topic: fmt.Sprintf("bench/in/%d", i), Payload: []byte(`{"open":true,"id":100,"value":20,"stamp":"0123456789abcdef0123456789abcdef","pad":"xxxx"}`), Origin: "client/pub-1", At: time.Now(),
		}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := w.serveFrame(frame); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*32), "ns/call")
}
