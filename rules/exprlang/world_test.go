package exprlang_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// What rules see, through the engine: over a power cut, they go on as if there had been
// none, but for what no message of theirs was retained.
func TestWhatRulesSeeThroughTheEngine(t *testing.T) {
	folder := fstest.MapFS{
		"blueprints/hot.yaml": {Data: []byte(`
inputs:
  room: {type: text}
  limit: {type: number, default: 60}
rules:
  - name: hot $(room)
    on: home/$(room)/temp
    value: payload.c
    above: $(limit)
    hysteresis: 5
    do: [{publish: "alarm/$(room)", payload: "${edge} of ${payload.c}"}]
`)},
		"house.yaml": {Data: []byte(`
rules:
  - {use: blueprints/hot.yaml, with: {room: hall}}
  - {use: blueprints/hot.yaml, with: {room: attic, limit: 40}}
  - name: mean
    on: home/+/temp
    windows:
      mean:
        avg: payload.c
        last: 3
        by: parts[1]
    do: [{publish: "mean/${parts[1]}", payload: "${windows.mean}"}]
  - name: gone
    offline: [boiler, pump]
    do: [{publish: "gone/${parts[0]}", payload: "${edge}"}]
  - name: told at the start
    on: mode
    retained: true
    do: [{publish: told, payload: "${payload} ${retain}"}]
filters:
  - name: nobody is in
    on: home/+/light/set
    drop: state("mode") == "away" && not state("home/" + parts[1] + "/guest").there
`)},
	}
	play := func(ctx context.Context, w *trial.World) error {
		said := func(m message.Message) {
			t.Helper()
			if _, err := w.Publish(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		say := func(topic, payload string) {
			t.Helper()
			said(message.Message{Topic: topic, Payload: []byte(payload)})
		}
		light := func(room string) message.Action {
			t.Helper()
			v, err := w.Publish(ctx, message.Message{Topic: "home/" + room + "/light/set", Payload: []byte("on")})
			if err != nil {
				t.Fatal(err)
			}
			return v.Action
		}
		expect := func(want ...string) {
			t.Helper()
			var got []string
			msgs, take := w.Unseen("#")
			for _, m := range msgs {
				got = append(got, m.Topic+" "+string(m.Payload))
			}
			take(len(msgs))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		cut := func() {
			t.Helper()
			if err := w.Advance(ctx, time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := w.Restart(ctx, time.Minute, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if light("hall") != message.Pass {
			t.Error("it is dropped before anybody was away")
		}
		said(message.Message{Topic: "mode", Payload: []byte("away"), Retain: true})
		said(message.Message{Topic: "home/attic/guest", Payload: []byte(`{"there":true}`), Retain: true})
		expect("told away false")
		if light("hall") != message.Drop || light("attic") != message.Pass {
			t.Error("the filter does not see other topics")
		}
		expect()
		say("home/hall/temp", `{"c":50}`)
		say("home/attic/temp", `{"c":50}`)
		say("home/hall/temp", `{"c":61}`)
		expect("mean/hall 50", "alarm/attic rising of 50", "mean/attic 50", "alarm/hall rising of 61", "mean/hall 55.5")
		say("boiler/status", "offline")
		expect("gone/boiler offline")
		cut()
		expect("told away true")
		if light("hall") != message.Drop || light("attic") != message.Pass {
			t.Error("after the power cut the filter does not see other topics")
		}
		say("home/hall/temp", `{"c":62}`) // is still above
		say("home/hall/temp", `{"c":50}`)
		say("home/hall/temp", `{"c":61}`)
		expect("mean/hall 57.666666666666664", "mean/hall 57.666666666666664", "alarm/hall rising of 61", "mean/hall 57.666666666666664")
		say("boiler/status", "offline") // is no news
		expect()
		said(message.Message{Topic: "mode", Retain: true}) // taken away
		if light("hall") != message.Pass {
			t.Error("what is taken away stands")
		}
		// A blueprint changes: who uses it is compiled again, and goes on.
		text := string(folder["blueprints/hot.yaml"].Data)
		folder["blueprints/hot.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(text, "${edge} of", "now ${edge} of", 1))}
		cut()
		expect("told  false")
		say("home/hall/temp", `{"c":62}`)
		say("home/hall/temp", `{"c":55}`)
		say("home/hall/temp", `{"c":61}`)
		expect("mean/hall 57.666666666666664", "mean/hall 59.333333333333336", "alarm/hall now rising of 61", "mean/hall 59.333333333333336")
		return nil
	}
	opt := trial.Options{Folder: folder, Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	if err := trial.Run(t.Context(), opt, play); err != nil {
		t.Fatal(err)
	}
}

// A power cut does not let a throttled rule run again.
func TestAThrottleIsKeptAtOnce(t *testing.T) {
	f, err := trial.Parse("t.test.yaml", []byte(`
tests:
  - name: alarm
    rules: [t.yaml]
    steps:
      - {publish: in, payload: 1, qos: 1}
      - {expect: out, payload: 1}
      - {advance: 1s}
      - restart: true
      - {publish: in, payload: 2}
      - {expect none: out}
      - {advance: 59m59s}
      - {publish: in, payload: 3}
      - {expect: out, payload: 3}
`))
	if err != nil {
		t.Fatal(err)
	}
	folder := fstest.MapFS{"t.yaml": {Data: []byte("rules:\n  - {name: r, on: in, throttle: 1h, do: [{publish: out, payload: \"${payload}\"}]}\n")}}
	o := trial.Options{Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}, Folder: folder}
	if r := f.Run(t.Context(), o, &f.Tests[0]); r.Failure != nil {
		t.Errorf("%+v", r.Failure)
	}
}
