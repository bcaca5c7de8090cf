package exprlang_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

func BenchmarkExprRule(b *testing.B) {
	const do = "    do:\n      - publish: home/${parts[1]}/light/set\n        payload: {on: true, since: \"${payload.at}\"}\n"
	for _, c := range []struct{ name, condition, payload string }{
		{"holds", "payload.open == true", `{"open":true,"at":1732280400,"battery":88}`},
		{"fails", "payload.open == true", `{"open":false,"at":1732280400,"battery":88}`},
		{"machine", "payload.battery * 2 > 1000", `{"open":false,"at":1732280400,"battery":88}`},
		{"absent", "payload.c > 1", `{"open":false,"at":1732280400,"battery":88}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := compile(b, "rules:\n  - name: r\n    on: home/+/door\n    if: "+c.condition+"\n"+do)
			const batch = 32
			calls := make([]rules.Call, batch)
			for i := range calls {
				calls[i] = rules.Call{Message: &message.Message{Topic: "home/hall/door", Payload: []byte(c.payload)}, Now: noon}
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Run(b.Context(), calls)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
		})
	}
}

// BenchmarkExprRules100 is a hundred rules on one message, of which one fires.
func BenchmarkExprRules100(b *testing.B) {
	var source strings.Builder
	source.WriteString("rules:\n")
	for i := range 100 {
		fmt.Fprintf(&source, "  - {name: r%d, on: a/#, if: payload.kind == \"k%d\" && payload.value > 10, do: [{publish: out/%d, payload: {v: \"${payload.value}\"}}]}\n", i, i, i)
	}
	p := compile(b, source.String())
	m := &message.Message{Topic: "a/b", Payload: []byte(`{"kind":"k42","value":21.5,"unit":"C"}`)}
	calls := make([]rules.Call, 100)
	for i := range calls {
		calls[i] = rules.Call{Rule: i, Message: m, Now: noon}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), calls)
	}
}

// BenchmarkWindow is the mean of the last ten messages a room, put out if it is high.
func BenchmarkWindow(b *testing.B) {
	p := compile(b, "rules:\n  - name: r\n    on: home/+/temp\n    windows:\n      mean: {avg: payload.c, last: 10, by: 'parts[1]'}\n    if: windows.mean > 30\n    do: [{publish: out}]\n")
	const batch = 32
	calls := make([]rules.Call, batch)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: fmt.Sprintf("home/room%d/temp", i), Payload: []byte(`{"c":21.5,"at":1732280400}`)}, Now: noon}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), calls)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
}

// BenchmarkEdge is a value that stays below its limit.
func BenchmarkEdge(b *testing.B) {
	p := compile(b, edgeRule("on: home/+/temp; value: payload.c; above: 60; hysteresis: 5"))
	const batch = 32
	calls := make([]rules.Call, batch)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: fmt.Sprintf("home/room%d/temp", i), Payload: []byte(`{"c":21.5,"at":1732280400}`)}, Now: noon}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), calls)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
}

// BenchmarkState is a condition on another topic.
func BenchmarkState(b *testing.B) {
	p := compile(b, ruleIf(`payload.open && state("home/" + parts[1] + "/mode").away == true`))
	tell(b, p, "home/hall/mode", `{"away":false,"since":[1,2,3,4,5,6]}`)
	const batch = 32
	calls := make([]rules.Call, batch)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true,"at":1732280400}`)}, Now: noon}
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), calls)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
}

// BenchmarkEngine is messages through an engine without a broker: a rule that fires, one
// that does not, a hundred on one topic filter of which one fires, and the mean of the
// last ten a room. CPU is that of the whole process.
func BenchmarkEngine(b *testing.B) {
	var hundred []string
	for i := range 100 {
		hundred = append(hundred, fmt.Sprintf(`payload.kind == "k%d" && payload.value > 10`, i))
	}
	for _, c := range []struct{ name, source string }{
		{"fires", manyRules(`payload.kind == "k42"`)},
		{"fails", manyRules(`payload.kind == "k43"`)},
		{"hundred", manyRules(hundred...)},
		{"mean", "rules:\n  - name: r\n    on: a/+\n    windows:\n      mean: {avg: payload.value, last: 10, by: 'parts[1]'}\n    if: windows.mean > 30\n    do: [{publish: out}]\n"},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkEngine(b, c.source) })
	}
}

func benchmarkEngine(b *testing.B, source string) {
	e, err := rules.New(rules.Options{Languages: []rules.Language{exprlang.New()}})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Load(b.Context(), fstest.MapFS{"f.yaml": {Data: []byte(source)}}); err != nil {
		b.Fatal(err)
	}
	bus := &benchBus{}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, bus) }()
	<-e.Ready()
	const batch = 32
	msgs := make([]message.Message, batch)
	for i := range msgs {
		msgs[i] = message.Message{Topic: fmt.Sprint("a/room", i), Payload: []byte(`{"kind":"k42","value":21.5,"unit":"C"}`)}
	}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := bus.handle(ctx, msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N*batch), "cpu-ns/message")
	cancel()
	if err := errors.Join(<-done, e.Close()); err != nil {
		b.Fatal(err)
	}
}

// cpu is the nanoseconds of processor time that the process has had.
func cpu(b *testing.B) int64 {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return use.Utime.Nano() + use.Stime.Nano()
}

// benchBus takes what is published, and lets the benchmark call the engine's handler.
type benchBus struct{ handle message.Handler }

func (*benchBus) Publish(context.Context, ...message.Message) error   { return nil }
func (*benchBus) Resubscribe(context.Context, string, []string) error { return nil }

func (t *benchBus) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	if len(sub.Filters) > 0 {
		t.handle = h
	}
	sub.Ready()
	<-ctx.Done()
	return nil
}

// BenchmarkRuleThatWaits is a message for a rule with steps: one that begins a run which
// waits, and those for which a rule about time does nothing.
func BenchmarkRuleThatWaits(b *testing.B) {
	for _, c := range []struct{ name, rule string }{
		{"begins", "mode: restart, do: [{publish: out}, {wait: 5m}, {publish: off}]"},
		{"steps", "do: [{if: payload.open, then: [{publish: out}]}]"},
		{"single", "do: [{publish: out}, {wait: 5m}, {publish: off}]"},
		{"for", "if: payload.open, for: 5m, do: [{publish: off}]"},
		{"throttle", "throttle: 5m, do: [{publish: off}]"},
		{"debounce", "debounce: 5m, do: [{publish: off}]"},
		{"silent", "silent: 5m, do: [{publish: off}]"},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := compile(b, "rules:\n  - {name: r, on: home/+/door, "+c.rule+"}\n")
			const batch = 32
			calls := make([]rules.Call, batch)
			for i := range calls {
				calls[i] = rules.Call{Message: &message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true,"at":1732280400}`)}, Now: noon}
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Run(b.Context(), calls)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
		})
	}
}

// BenchmarkDeepValue is a payload nested 290 deep that is passed on as it is, and decoded.
func BenchmarkDeepValue(b *testing.B) {
	deep := strings.Repeat("[", 290) + `"` + strings.Repeat("x", 900_000) + `"` + strings.Repeat("]", 290)
	for name, payload := range map[string]string{"raw": "${payload.deep}", "decoded": "${payload.deep ?? 1}"} {
		b.Run(name, func(b *testing.B) {
			p := compile(b, "rules:\n  - {name: r, on: a, do: [{publish: b, payload: \""+payload+"\"}]}\n")
			calls := []rules.Call{{Message: &message.Message{Topic: "a", Payload: []byte(`{"deep":` + deep + `}`)}, Now: noon}}
			b.SetBytes(int64(len(deep)))
			for b.Loop() {
				if out := p.Run(b.Context(), calls); len(out[0].Publish) != 1 || len(out[0].Publish[0].Payload) != len(deep) {
					b.Fatalf("%v", out[0].Err)
				}
			}
		})
	}
}
