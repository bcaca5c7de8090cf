package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// A rule answers a request of MQTT 5.0 where it says, with its correlation data, whatever
// bytes these are.
func TestARuleAnswersARequest(t *testing.T) {
	h := newHouse(t, map[string]string{
		"users": "anna:" + penciled + "\n", "acl.yaml": openACL,
		"rules/square.yaml": `rules:
  - name: square
    on: ask/square
    if: properties.response_topic startsWith "answers/"
    do:
      - publish: ${properties.response_topic}
        payload: ${payload * payload}
        qos: 1
        content_type: ${properties.content_type}
        correlation_data: ${properties.correlation_data ?? ""}
        user_properties: {by: "${properties.user_properties.to}"}
`,
	})
	c := h.connect(hello(packet.V5, "anna", false))
	c.subscribe("answers/anna")
	for _, data := range [][]byte{{0xff, 0, 1}, []byte("7"), nil} {
		ask := packet.PublishProperties{
			ContentType: "text/plain", ResponseTopic: "answers/anna", CorrelationData: data,
			UserProperties: []message.Property{{Key: "to", Value: "square"}},
		}
		if r := c.publish(&packet.Publish{Topic: "ask/square", Payload: []byte("12"), Properties: ask}); r.Failed() {
			t.Fatal(r)
		}
		got := c.message()
		c.take(got)
		want := packet.PublishProperties{ContentType: "text/plain", CorrelationData: data, UserProperties: []message.Property{{Key: "by", Value: "square"}}}
		if diff := cmp.Diff(want, got.Properties); diff != "" || string(got.Payload) != "144" {
			t.Errorf("%q: %s", got.Payload, diff)
		}
	}
}
