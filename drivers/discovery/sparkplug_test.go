package discovery_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
)

// spoken is a Sparkplug message as a host sees it.
type spoken struct {
	verb string // with the device behind it
	msg  message.Message
	spPayload
}

// sparkplug runs f in a house with Sparkplug, then returns what was said, as Tahu's
// library understands it, after it was judged.
func sparkplug(t *testing.T, f func(t *testing.T, h *house)) []spoken {
	t.Helper()
	var said []message.Message
	in(t, []string{discovery.Sparkplug}, func(t *testing.T, h *house) {
		f(t, h)
		h.stop()
		for _, m := range h.bus.Messages("spBv1.0/#") {
			if m.Origin == "" {
				said = append(said, m)
			}
		}
	})
	all := make([]spoken, len(said))
	var payloads [][]byte
	for _, m := range said {
		payloads = append(payloads, m.Payload)
	}
	if len(payloads) == 0 {
		return nil
	}
	for i, p := range decodePayloads(t, payloads) {
		levels := strings.Split(said[i].Topic, "/")
		if levels[0] != "spBv1.0" || levels[1] != "Gatehouse" || levels[3] != "gatehouse" {
			t.Errorf("want spBv1.0/Gatehouse/VERB/gatehouse, got %s", said[i].Topic)
		}
		all[i] = spoken{verb: strings.Join(append(levels[2:3:3], levels[4:]...), " "), msg: said[i], spPayload: p}
	}
	wantSparkplug(t, all)
	return all
}

// line is a message in short: VERB DEVICE seq=N name:alias=value...
func (s spoken) line() string {
	b := s.verb + " seq=" + strings.Trim(string(s.Seq), `"`)
	for _, m := range s.Metrics {
		b += " " + m.Name
		if m.Alias != nil {
			b += ":" + strings.Trim(string(m.Alias), `"`)
		}
		b += "=" + strings.Trim(string(m.Value), `"`)
		if m.IsHistorical {
			b += "(historical)"
		}
		if q := m.Properties["Quality"]; q.Value != nil {
			b += fmt.Sprintf("(quality %s %s)", q.Type, q.Value)
		}
	}
	return b
}

func lines(all []spoken) []string {
	var got []string
	for _, s := range all {
		if s.verb == "NBIRTH" {
			s.Metrics = s.Metrics[:1]
		}
		got = append(got, s.line())
	}
	return got
}

// pump is a small device.
func pump() drivers.Description {
	return drivers.Description{Name: "pump", Topic: "pump", Points: []drivers.Point{
		{Name: "speed", Writable: true, Unit: "rpm", Max: drivers.IntValue(3000)},
		{Name: "on", Writable: true},
		{Name: "state"},
		{Name: "guard", Writable: true, Confirm: true},
	}}
}

func (h *house) sayPump() {
	h.say("pump/status", "online")
	h.say("pump/speed", "1450")
	h.say("pump/on", "true")
	h.say("pump/state", `"fine"`)
	h.say("pump/guard", "false")
}

const pumpBirth = "DBIRTH pump seq=1 speed:1=1450 on:2=true state:3=fine guard:4=false"

func TestSparkplugSession(t *testing.T) {
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.have(pump())
		h.sayPump()
		h.start()
		h.say("pump/speed", "1500")
		h.say("pump/state", `"hot"`, message.Property{Key: "quality", Value: "stale"}, message.Property{Key: "at", Value: "2026-01-02T03:04:05.678Z"})
		h.say("pump/status/detail", `{"status":"online","points":{"on":{"quality":"bad","reason":"exception 4"},"state":{"quality":"stale"}}}`)
		h.say("pump/status/detail", `{"status":"online","points":{"state":{"quality":"stale"}}}`)
		h.say("pump/status", "offline")
		h.say("pump/status/detail", `{"status":"offline","reason":"no answer"}`)
		h.say("pump/speed", "9")
		h.say("pump/status", "online")
		h.pass(time.Second)
	})
	want := []string{
		"NBIRTH seq=0 bdSeq=0",
		pumpBirth,
		"DDATA pump seq=2 :1=1500",
		"DDATA pump seq=3 :3=hot(quality Int32 500)",
		"DDATA pump seq=4 :2=true(quality Int32 0)",
		"DDATA pump seq=5 :2=true",
		"DDEATH pump seq=6",
		"DBIRTH pump seq=7 guard:4=false speed:1=9 on:2=true state:3=hot(quality Int32 500)",
		"NDEATH seq= bdSeq=0",
	}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Fatalf("messages (-want +got):\n%s", diff)
	}
	for _, s := range said {
		qos := message.AtMostOnce
		if s.verb == "NDEATH" {
			qos = message.AtLeastOnce
		}
		if s.msg.Retain || s.msg.QoS != qos || s.Timestamp == nil { // [tck-id-topics-nbirth-mqtt]
			t.Errorf("%s: want QoS %d, not retained, with a timestamp, got %+v", s.verb, qos, s.msg)
		}
		for _, m := range s.Metrics {
			if m.Timestamp == nil { // [tck-id-payloads-name-birth-data-requirement]
				t.Errorf("%s: %s has no timestamp", s.verb, m.Name)
			}
		}
	}
	if got := string(said[3].Metrics[0].Timestamp); got != `"1767323045678"` && got != "1767323045678" {
		t.Errorf("want the time that the device said, got %s", got)
	}
	types := map[string]string{"speed": "Int64", "on": "Boolean", "state": "String", "guard": "Boolean"}
	for _, m := range said[1].Metrics {
		if m.Type != types[m.Name] {
			t.Errorf("want %s a %s, got %s", m.Name, types[m.Name], m.Type)
		}
	}
	properties := said[1].Metrics[0].Properties
	if string(properties["engUnit"].Value) != `"rpm"` || string(properties["engHigh"].Value) != "3000" || string(properties["readOnly"].Value) != "false" {
		t.Errorf("want unit, high and not read-only, got %v", properties)
	}
	if string(said[1].Metrics[3].Properties["readOnly"].Value) != "true" {
		t.Error("want a point that is to be confirmed read-only")
	}
	i := slices.IndexFunc(said[0].Metrics, func(m spMetric) bool { return m.Name == "Node Control/Rebirth" })
	if i < 0 || said[0].Metrics[i].Type != "Boolean" || string(said[0].Metrics[i].Value) != "false" { // [tck-id-topics-nbirth-rebirth-metric]
		t.Errorf("want Node Control/Rebirth, got %v", said[0].Metrics)
	}
}

func TestSparkplugSequence(t *testing.T) {
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.have(pump())
		h.sayPump()
		h.start()
		for i := range 300 {
			h.say("pump/speed", fmt.Sprint(i))
		}
	})
	for i, s := range said[:302] {
		if want := fmt.Sprint(i % 256); string(s.Seq) != want && string(s.Seq) != `"`+want+`"` {
			t.Fatalf("message %d: want seq %s, got %s", i, want, s.Seq)
		}
	}
}

func TestSparkplugTypes(t *testing.T) {
	said := sparkplug(t, func(t *testing.T, h *house) {
		d := pump()
		d.Points = []drivers.Point{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}
		h.have(d)
		h.say("pump/status", "online")
		h.say("pump/a", "-9223372036854775808")
		h.say("pump/b", "18446744073709551615")
		h.say("pump/c", "21.5")
		h.say("pump/d", `{"x":1}`)
		h.start()
		h.say("pump/a", "1.5") // more than an integer
		h.say("pump/c", "22")  // less than it could be
		h.say("pump/c", "null")
		h.say("pump/e", "true")
		h.pass(time.Second)
	})
	want := []string{
		"NBIRTH seq=0 bdSeq=0",
		`DBIRTH pump seq=1 a:1=-9223372036854775808 b:2=18446744073709551615 c:3=21.5 d:4={\"x\":1}`,
		"DDATA pump seq=2 :3=22",
		"DDATA pump seq=3 :3=null",
		`DBIRTH pump seq=4 b:2=18446744073709551615 d:4={\"x\":1} a:1=1.5 c:3=null e:5=true`,
		"NDEATH seq= bdSeq=0",
	}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if got := said[4].Metrics[2].Type; got != "Double" {
		t.Errorf("want a as Double at last, got %s", got)
	}
}

func TestSparkplugRestarts(t *testing.T) {
	t.Run("each session has the next bdSeq", func(t *testing.T) {
		said := sparkplug(t, func(t *testing.T, h *house) {
			h.have(pump())
			h.sayPump()
			for range 3 {
				h.start()
				h.stop()
			}
		})
		want := []string{
			"NBIRTH seq=0 bdSeq=0", pumpBirth, "NDEATH seq= bdSeq=0",
			"NBIRTH seq=0 bdSeq=1", pumpBirth, "NDEATH seq= bdSeq=1",
			"NBIRTH seq=0 bdSeq=2", pumpBirth, "NDEATH seq= bdSeq=2",
		}
		if diff := cmp.Diff(want, lines(said)); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
	t.Run("one that was killed dies before the next is born", func(t *testing.T) {
		said := sparkplug(t, func(t *testing.T, h *house) {
			h.have(pump())
			h.sayPump()
			h.say("gatehouse/gateway/sparkplug", `{"bdSeq":255,"alive":true}`)
			h.start()
		})
		want := []string{"NDEATH seq= bdSeq=255", "NBIRTH seq=0 bdSeq=0", pumpBirth, "NDEATH seq= bdSeq=0"}
		if diff := cmp.Diff(want, lines(said)); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
	t.Run("a device that goes dies, and the node with the last", func(t *testing.T) {
		said := sparkplug(t, func(t *testing.T, h *house) {
			h.have(pump())
			h.sayPump()
			h.start()
			h.have()
		})
		want := []string{"NBIRTH seq=0 bdSeq=0", pumpBirth, "DDEATH pump seq=2", "NDEATH seq= bdSeq=0"}
		if diff := cmp.Diff(want, lines(said)); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

func TestSparkplugCommands(t *testing.T) {
	bytes := encodePayloads(t,
		`{"timestamp":1,"metrics":[{"name":"Node Control/Rebirth","type":"Boolean","value":true}]}`,
		`{"timestamp":1,"metrics":[{"name":"speed","type":"Int32","value":-5},{"name":"on","type":"Boolean","value":false}]}`,
		`{"timestamp":1,"metrics":[{"alias":1,"type":"Float","value":21.1},{"alias":2,"type":"Int64","value":1}]}`,
		`{"timestamp":1,"metrics":[{"name":"state","type":"String","value":"x"},{"alias":4,"type":"Boolean","value":true},{"name":"zz","type":"Int8","value":1},{"alias":99,"type":"Int8","value":1}]}`,
		`{"timestamp":1,"metrics":[{"name":"speed","type":"Double","value":1e300},{"name":"speed","type":"Int16","value":-2},{"name":"speed","type":"UInt64","value":7},{"name":"speed","type":"String","value":"fast"}]}`,
	)
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.have(pump())
		h.sayPump()
		h.start()
		order := func(topic string, payload []byte) {
			h.publish(message.Message{Topic: topic, Payload: payload, Origin: "client/host", Hops: 2})
		}
		for _, b := range bytes[1:] {
			order("spBv1.0/Gatehouse/DCMD/gatehouse/pump", b)
		}
		// The aliases 1 and 2, a long_value of -5 and a boolean_value, without data types.
		order("spBv1.0/Gatehouse/DCMD/gatehouse/pump", []byte("\x12\x0d\x10\x01\x58\xfb\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x04\x10\x02\x70\x01"))
		order("spBv1.0/Gatehouse/DCMD/gatehouse/other", bytes[1])
		order("spBv1.0/Gatehouse/DCMD/gatehouse/pump", []byte{0xff})
		h.bus.Deliver(discovery.SubscriptionName, message.Message{Topic: "spBv1.0/Gatehouse/DCMD/gatehouse/pump", Payload: bytes[1], Retain: true})
		order("spBv1.0/Gatehouse/NCMD/gatehouse", bytes[0])
		var got []string
		for _, m := range h.bus.Messages("pump/+/set") {
			got = append(got, m.Topic+" "+string(m.Payload))
			if m.Origin != "client/host" || m.Hops != 2 || m.Retain {
				t.Errorf("want the origin and hops of the command, got %+v", m)
			}
		}
		want := []string{
			"pump/speed/set -5", "pump/on/set false", "pump/speed/set 21.1", "pump/on/set 1",
			"pump/speed/set 1e+300", "pump/speed/set -2", "pump/speed/set 7", `pump/speed/set "fast"`,
			"pump/speed/set -5", "pump/on/set true",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("commands (-want +got):\n%s", diff)
		}
	})
	want := []string{"NBIRTH seq=0 bdSeq=0", pumpBirth, "NBIRTH seq=0 bdSeq=0", pumpBirth, "NDEATH seq= bdSeq=0"}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Errorf("want all born again in the same session (-want +got):\n%s", diff)
	}
}

// Births and data keep the order of their times, whatever that of the points is.
func TestSparkplugOrder(t *testing.T) {
	at := func(second int) message.Property {
		return message.Property{Key: "at", Value: fmt.Sprintf("2026-01-02T03:04:%02dZ", second)}
	}
	said := sparkplug(t, func(t *testing.T, h *house) {
		d := pump()
		d.Together, d.Points = true, d.Points[:3]
		h.have(d)
		h.say("pump/status", "online")
		h.say("pump", `{"speed":1,"on":true,"state":"fine"}`, at(5))
		h.start()
		if err := h.bus.Publish(t.Context(), // in one batch
			message.Message{Topic: "pump", Payload: []byte(`{"on":false}`), UserProperties: []message.Property{at(9)}},
			message.Message{Topic: "pump", Payload: []byte(`{"speed":2}`), UserProperties: []message.Property{at(7)}},
		); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.publish(message.Message{Topic: "spBv1.0/Gatehouse/NCMD/gatehouse", Payload: []byte("\x12\x18\x0a\x14Node Control/Rebirth\x70\x01"), Origin: "client/host"})
	})
	want := []string{
		"NBIRTH seq=0 bdSeq=0", "DBIRTH pump seq=1 speed:1=1 on:2=true state:3=fine",
		"DDATA pump seq=2 :1=2 :2=false",
		"NBIRTH seq=0 bdSeq=0", "DBIRTH pump seq=1 state:3=fine speed:1=2 on:2=false",
		"NDEATH seq= bdSeq=0",
	}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestSparkplugPrimaryHost(t *testing.T) {
	state := func(h *house, online bool, at int64) {
		b, err := json.Marshal(map[string]any{"online": online, "timestamp": at})
		if err != nil {
			t.Fatal(err)
		}
		h.publish(message.Message{Topic: "spBv1.0/STATE/scada", Payload: b, Retain: true, Origin: "client/scada"})
	}
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.opts.Sparkplug = discovery.SparkplugOptions{PrimaryHost: "scada", Backlog: 3}
		h.have(pump())
		h.sayPump()
		h.start()
		state(h, true, 100)
		h.say("pump/speed", "1")
		state(h, false, 90) // the will of the connection before
		h.say("pump/speed", "2")
		state(h, false, 100)
		for i := range 5 {
			h.say("pump/speed", fmt.Sprint(10+i))
		}
		state(h, true, 200)
		h.say("pump/speed", "3")
	})
	want := []string{
		"NBIRTH seq=0 bdSeq=0", pumpBirth, "DDATA pump seq=2 :1=1", "DDATA pump seq=3 :1=2",
		"NDEATH seq= bdSeq=0",
		"NBIRTH seq=0 bdSeq=1", "DBIRTH pump seq=1 on:2=true state:3=fine guard:4=false speed:1=14",
		"DDATA pump seq=2 :1=12(historical) :1=13(historical) :1=14(historical)",
		"DDATA pump seq=3 :1=3",
		"NDEATH seq= bdSeq=1",
	}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if said := sparkplug(t, func(t *testing.T, h *house) {
		h.opts.Sparkplug.PrimaryHost = "scada"
		h.have(pump())
		h.sayPump()
		h.start()
	}); len(said) > 0 {
		t.Errorf("want nothing said while the host is not there, got %v", lines(said))
	}
}

// What the primary host missed keeps its quality: a value that was not good does not
// come as good ([tck-id-payloads-propertyset-quality-value-value]).
func TestSparkplugMissedQuality(t *testing.T) {
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.opts.Sparkplug.PrimaryHost = "scada"
		h.have(pump())
		h.sayPump()
		h.start()
		h.order("spBv1.0/STATE/scada", `{"online":true,"timestamp":1}`)
		h.order("spBv1.0/STATE/scada", `{"online":false,"timestamp":1}`)
		h.say("pump/speed", "1450", message.Property{Key: "quality", Value: "stale"})
		h.say("pump/speed", "null", message.Property{Key: "quality", Value: "bad"})
		h.say("pump/speed", "1500")
		h.order("spBv1.0/STATE/scada", `{"online":true,"timestamp":2}`)
	})
	want := "DDATA pump seq=2 :1=1450(historical)(quality Int32 500) :1=1450(historical)(quality Int32 0) :1=1500(historical)"
	if got := lines(said); !slices.Contains(got, want) {
		t.Errorf("want %s in\n%s", want, strings.Join(got, "\n"))
	}
}

// A STATE that does not say in a boolean whether the host is there says nothing
// ([tck-id-message-flow-edge-node-birth-publish-phid-wait-online]).
func TestSparkplugStateThatSaysNothing(t *testing.T) {
	said := sparkplug(t, func(t *testing.T, h *house) {
		h.opts.Sparkplug.PrimaryHost = "scada"
		h.have(pump())
		h.sayPump()
		h.start()
		h.order("spBv1.0/STATE/scada", `{"online":true,"timestamp":1}`)
		for _, payload := range []string{`{"timestamp":9}`, `{"online":null,"timestamp":9}`, `{"online":0,"timestamp":9}`, "OFFLINE", ""} {
			h.order("spBv1.0/STATE/scada", payload)
		}
		h.say("pump/speed", "3")
		h.order("spBv1.0/STATE/scada", `{"online":false,"timestamp":5}`) // 9 was not heard
	})
	want := []string{"NBIRTH seq=0 bdSeq=0", pumpBirth, "DDATA pump seq=2 :1=3", "NDEATH seq= bdSeq=0"}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// Flags are told as the text of an object, and written so
// ([tck-id-operational-behavior-data-commands-dcmd-metric-value]).
func TestSparkplugFlags(t *testing.T) {
	order := encodePayloads(t, `{"timestamp":1,"metrics":[{"name":"relays","type":"String","value":"{\"fan\":true}"},{"name":"label","type":"String","value":"{\"fan\":true}"}]}`)[0]
	sparkplug(t, func(t *testing.T, h *house) {
		d := pump()
		d.Points = []drivers.Point{
			{Name: "relays", Writable: true, Flags: drivers.Flags{{Bit: 0, Name: "fan"}}}, {Name: "label", Writable: true},
		}
		h.have(d)
		h.say("pump/status", "online")
		h.say("pump/relays", `{"fan":false}`)
		h.say("pump/label", `"x"`)
		h.start()
		h.publish(message.Message{Topic: "spBv1.0/Gatehouse/DCMD/gatehouse/pump", Payload: order, Origin: "client/host"})
		for topic, want := range map[string]string{"pump/relays/set": `{"fan":true}`, "pump/label/set": `"{\"fan\":true}"`} {
			if got := h.bus.Payloads(topic); len(got) != 1 || got[0] != want {
				t.Errorf("%s: want %s, got %v", topic, want, got)
			}
		}
	})
}
