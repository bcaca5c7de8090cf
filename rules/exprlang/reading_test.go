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

// playFile plays in a world of one file of rules.
func playFile(t *testing.T, source string, play func(ctx context.Context, w *trial.World)) {
	t.Helper()
	opt := trial.Options{
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
		Folder: fstest.MapFS{"t.yaml": {Data: []byte(source)}},
	}
	err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
		play(ctx, w)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// put publishes in a world.
func put(ctx context.Context, t *testing.T, w *trial.World, m message.Message) message.Verdict {
	t.Helper()
	v, err := w.Publish(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// published are the messages of rules that were not looked at yet: topic, payload and
// properties.
func published(w *trial.World) []message.Message {
	var all []message.Message
	msgs, take := w.Unseen("#")
	take(len(msgs))
	for _, m := range msgs {
		all = append(all, message.Message{
			Topic: m.Topic, Payload: m.Payload, ContentType: m.ContentType, ResponseTopic: m.ResponseTopic,
			CorrelationData: m.CorrelationData, UserProperties: m.UserProperties,
		})
	}
	return all
}

// question is a request with all that it may have; its correlation data is no text.
func question(w *trial.World) message.Message {
	return message.Message{
		Topic: "ask/hall", Payload: []byte("4"), ContentType: "text/plain", ResponseTopic: "answers/7", CorrelationData: []byte{0xff, 0, '7'},
		UserProperties: []message.Property{{Key: "unit", Value: "F"}, {Key: "unit", Value: "C"}, {Key: "trace id", Value: "x"}},
		Expires:        w.Now().Add(time.Minute),
	}
}

// What a message has of MQTT 5.0 is read as it is named where one is published.
func TestPropertiesAreRead(t *testing.T) {
	for x, want := range map[string]string{
		"${properties.content_type}":                                          "text/plain",
		"${properties.response_topic}":                                        "answers/7",
		"${properties.correlation_data}":                                      "\xff\x007",
		"${properties.user_properties.unit}":                                  "C",
		"${properties.user_properties['trace id']}":                           "x",
		"${properties.user_properties[topic[0:0] + 'unit']}":                  "C",
		"${properties.user_properties}":                                       `{"trace id":"x","unit":"C"}`,
		"${properties.user_properties.no ?? 'none'}":                          "none",
		"${properties.user_properties.unit.no ?? 'none'}":                     "none",
		"${properties.user_properties[0] ?? 'none'}":                          "none",
		"${properties[0] ?? 'none'}":                                          "none",
		"${properties.expiry}":                                                "60",
		"${properties.expiry > 10 && properties.content_type == nil ? 1 : 2}": "2",
	} {
		playFile(t, "rules:\n  - name: r\n    on: ask/+\n    do:\n      - publish: out\n        payload: \""+x+"\"\n", func(ctx context.Context, w *trial.World) {
			put(ctx, t, w, question(w))
			if got := published(w); len(got) != 1 || string(got[0].Payload) != want {
				t.Errorf("%s: want %q, got %+v", x, want, got)
			}
		})
	}
}

// A message that has none, and a run that no message triggered, read nil.
func TestAbsentPropertiesAreNil(t *testing.T) {
	const all = "[properties.content_type, properties.response_topic, properties.correlation_data, properties.user_properties, properties.user_properties.a, properties.expiry]"
	playFile(t, "rules:\n  - {name: r, on: in, every: 1h, do: [{publish: out, payload: \"${"+all+"}\"}]}\n", func(ctx context.Context, w *trial.World) {
		put(ctx, t, w, message.Message{Topic: "in", CorrelationData: []byte{}})
		if err := w.Advance(ctx, time.Hour); err != nil {
			t.Fatal(err)
		}
		const none = "[null,null,null,null,null,null]"
		if diff := cmp.Diff([]message.Message{{Topic: "out", Payload: []byte(none)}, {Topic: "out", Payload: []byte(none)}}, published(w)); diff != "" {
			t.Error(diff)
		}
	})
}

const answering = `rules:
  - name: at once
    on: ask/+
    if: properties.response_topic startsWith "answers/"
    do:
      - publish: ${properties.response_topic}
        payload: {square: "${payload * payload}", unit: "${properties.user_properties.unit}"}
        correlation_data: ${properties.correlation_data ?? ""}
  - name: later
    on: ask/+
    do:
      - wait: 10s
      - publish: ${properties.response_topic}
        payload: ${properties.expiry}
        content_type: ${properties.content_type}
        correlation_data: ${properties.correlation_data}
        user_properties: {unit: "${properties.user_properties.unit}"}
`

// A request is answered where it says, with its correlation data as it is; also after a
// wait, and after a restart in it.
func TestRequestsAreAnswered(t *testing.T) {
	for name, restart := range map[string]bool{"in one life": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			playFile(t, answering, func(ctx context.Context, w *trial.World) {
				asked := question(w)
				put(ctx, t, w, asked)
				if restart {
					if err := w.Restart(ctx, 4*time.Second, time.Time{}); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Advance(ctx, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				want := []message.Message{
					{Topic: "answers/7", Payload: []byte(`{"square":16,"unit":"C"}`), CorrelationData: asked.CorrelationData},
					{
						Topic: "answers/7", Payload: []byte("50"), ContentType: "text/plain", CorrelationData: asked.CorrelationData,
						UserProperties: []message.Property{{Key: "unit", Value: "C"}},
					},
				}
				if diff := cmp.Diff(want, published(w)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Who asks without correlation data has an answer without; who names no topic has none.
func TestRequestsWithoutProperties(t *testing.T) {
	playFile(t, answering, func(ctx context.Context, w *trial.World) {
		put(ctx, t, w, message.Message{Topic: "ask/a", Payload: []byte("2"), UserProperties: []message.Property{{Key: "unit", Value: "m"}}})
		put(ctx, t, w, message.Message{Topic: "ask/a", Payload: []byte("2"), ResponseTopic: "answers/1", UserProperties: []message.Property{{Key: "unit", Value: "m"}}})
		if diff := cmp.Diff([]message.Message{{Topic: "answers/1", Payload: []byte(`{"square":4,"unit":"m"}`)}}, published(w)); diff != "" {
			t.Error(diff)
		}
		if err := w.Advance(ctx, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := w.Status()[0].Rules[1].Trace; !strings.Contains(got[0].Why, "properties.response_topic is absent") {
			t.Errorf("the trace of the one that waits: %+v", got[0])
		}
	})
}

// A filter judges by them.
func TestFiltersReadProperties(t *testing.T) {
	playFile(t, "filters:\n  - {name: f, on: in, reject: properties.content_type != \"application/json\"}\n", func(ctx context.Context, w *trial.World) {
		if v := put(ctx, t, w, message.Message{Topic: "in"}); v.Action != message.Reject {
			t.Errorf("without: %+v", v)
		}
		if v := put(ctx, t, w, message.Message{Topic: "in", ContentType: "application/json"}); v.Action != message.Pass {
			t.Errorf("with: %+v", v)
		}
	})
}

// A wait asks for those of the message that it judges, and has those of the one that
// triggered the run, and of the one that ended it.
func TestWaitsReadProperties(t *testing.T) {
	const file = `rules:
  - name: r
    on: ask
    do:
      - wait: {on: answer, until: properties.correlation_data == trigger.properties.correlation_data && properties.content_type != nil}
      - publish: out
        payload: ${heard.properties}
        response_topic: ${properties.response_topic}
`
	playFile(t, file, func(ctx context.Context, w *trial.World) {
		put(ctx, t, w, message.Message{Topic: "ask", ResponseTopic: "there", CorrelationData: []byte("7")})
		for _, m := range []message.Message{
			{Topic: "answer"},
			{Topic: "answer", CorrelationData: []byte("8"), ContentType: "no"},
			{Topic: "answer", CorrelationData: []byte("7"), ContentType: "a\"b", UserProperties: []message.Property{{Key: "k", Value: "v"}, {Key: "l", Value: ""}}},
		} {
			put(ctx, t, w, m)
		}
		want := []message.Message{{
			Topic: "out", ResponseTopic: "there",
			Payload: []byte(`{"content_type":"a\"b","correlation_data":"7","user_properties":{"k":"v","l":""}}`),
		}}
		if diff := cmp.Diff(want, published(w)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnknownProperties(t *testing.T) {
	const fields = "content_type, response_topic, correlation_data, user_properties, expiry"
	for x, want := range map[string]string{
		"properties.contentType == nil": `properties has no "contentType": it has ` + fields,
		"properties != nil":             "properties wants a field: " + fields,
		"properties[topic] == nil":      "properties wants a field: " + fields,
		"properties.expiry()":           "properties",
	} {
		for _, list := range []string{"rules:\n  - {name: r, on: in, do: [{publish: out}], if: '" + x + "'}\n", "filters:\n  - {name: f, on: in, drop: '" + x + "'}\n"} {
			_, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(list)})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want %q, got %v", x, want, err)
			}
		}
	}
	_, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte("rules:\n  - {name: r, on: in, do: [{http: {url: 'http://x/', as: properties}}]}\n")})
	if err == nil || !strings.Contains(err.Error(), `the name "properties" is taken`) {
		t.Errorf("a reply is called so: %v", err)
	}
}

// A condition on them costs no memory but that of the text.
func TestReadingPropertiesAllocatesLittle(t *testing.T) {
	reads := func(condition string) float64 {
		p := compile(t, ruleIf(condition))
		calls := []rules.Call{{Message: &message.Message{Topic: "in", Payload: []byte(`{"open":false}`), ContentType: "text/plain", UserProperties: []message.Property{{Key: "unit", Value: "C"}}}, Now: noon}}
		return testing.AllocsPerRun(100, func() { p.(rules.Reuser).Reuse(p.Run(t.Context(), calls)) })
	}
	without := reads("payload.open == true")
	for _, condition := range []string{`properties.content_type == "no"`, `properties.user_properties.unit == "F"`} {
		if n := reads(condition); n > without+1 {
			t.Errorf("%s: %v allocations, %v without", condition, n, without)
		}
	}
}
