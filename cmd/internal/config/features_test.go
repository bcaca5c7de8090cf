package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

func TestFeaturesOfTheBroker(t *testing.T) {
	c, err := config.Parse("gatehouse.yaml", []byte(`
broker:
  session_expiry: 336h
  client_events: true
  offer: {maximum_qos: 1, response_prefix: answers/, server_reference: "other.lan:1883"}
  shared: {strategy: sticky, groups: {workers: least-in-flight, $queue: hash-topic}}
  delayed: {messages: 5}
  priorities:
    - {filter: alarm/#, class: 3}
  retained_expiry:
    - {filter: tmp/#, after: 1h}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got broker.Options
	c.Broker.Apply(&got)
	one := message.QoS(1)
	want := broker.Options{
		Offer: broker.Offer{MaximumQoS: &one, ResponsePrefix: "answers/", Reference: "other.lan:1883"},
		Shared: broker.Shared{Strategy: broker.Sticky, Groups: map[string]broker.Strategy{
			"workers": broker.LeastInFlight, "$queue": broker.HashTopic,
		}},
		Topics: broker.Topics{
			Priorities:     []broker.Priority{{Filter: "alarm/#", Class: 3}},
			RetainedExpiry: []broker.RetainedExpiry{{Filter: "tmp/#", After: time.Hour}},
		},
		ClientEvents: true,
	}
	want.Limits.SessionExpiry = 336 * time.Hour
	want.Limits.Delayed = broker.DelayLimits{Messages: 5, Bytes: 16 << 20, Longest: 720 * time.Hour}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFeaturesThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"shared: {strategy: random}":                   "3:",
		"shared: {groups: {g: random}}":                "no such strategy",
		"priorities: [{filter: 'a#', class: 1}]":       "not a topic filter",
		"priorities: [{filter: a, class: 4}]":          "1 to 3",
		"retained_expiry: [{filter: a, after: 1ms}]":   "less than 1s",
		"retained_expiry: [{filter: 'a#', after: 1m}]": "not a topic filter",
		"session_expiry: 10ms":                         "at least 1s",
		"delayed: {messages: 0}":                       "less than 1",
		"delayed: {bytes: -1}":                         "less than 1",
		"delayed: {longest: 0s}":                       "between 1s",
		"offer: {maximum_qos: 3}":                      "not 0, 1 or 2",
		"offer: {response_prefix: 'a/#'}":              "topic name",
		"offer: {server_moved: true}":                  "server_reference",
		"offer: {maximum_qos: 1, maximum_packet: 5}":   "unknown field",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := config.Parse("gatehouse.yaml", []byte("broker:\n  anonymous: true\n  "+text+"\n"), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want something with %q", err, want)
			}
		})
	}
}
