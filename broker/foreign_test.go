package broker_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse/gatehouse/broker/brokertest"
)

// TestPahoV5 has Eclipse's client for 5.0 go through the levels, with a will.
func TestPahoV5(t *testing.T) {
	s := brokertest.Start(t, options())
	heard := make(chan string, 10)
	dial := func(id string) *paho.Client {
		nc, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{
			Conn: nc,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				heard <- fmt.Sprintf("%s %s %d", r.Packet.Topic, r.Packet.Payload, r.Packet.QoS)
				return true, nil
			}},
		})
		ack, err := c.Connect(t.Context(), &paho.Connect{
			ClientID: id, CleanStart: true, KeepAlive: 30,
			WillMessage: &paho.WillMessage{Topic: "will", Payload: []byte(id)},
		})
		if err != nil || ack.ReasonCode != 0 {
			t.Fatalf("connect: %+v, %v", ack, err)
		}
		return c
	}
	monitor, sensor := dial("monitor"), dial("sensor")
	_, err := monitor.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: "sensors/+", QoS: 2}, {Topic: "will", QoS: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for qos := range byte(3) {
		if _, err := sensor.Publish(t.Context(), &paho.Publish{Topic: "sensors/temp", Payload: []byte(`{"temp":25}`), QoS: qos}); err != nil {
			t.Fatal(err)
		}
		expect(t, heard, fmt.Sprintf(`sensors/temp {"temp":25} %d`, qos))
	}
	if err := sensor.Disconnect(&paho.Disconnect{ReasonCode: 4}); err != nil { // with will
		t.Fatal(err)
	}
	expect(t, heard, "will sensor 0")
	if err := monitor.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have left", func() bool { return s.Stats().Sessions == 0 })
}

// TestAutopahoComesBack has the reconnecting client lose its connection, and go on
// with its session.
func TestAutopahoComesBack(t *testing.T) {
	s := brokertest.Start(t, options())
	address, err := url.Parse("mqtt://" + s.Address())
	if err != nil {
		t.Fatal(err)
	}
	heard, up := make(chan string, 10), make(chan bool, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{address}, KeepAlive: 30, SessionExpiryInterval: 100,
		ReconnectBackoff: func(int) time.Duration { return 10 * time.Millisecond },
		OnConnectionUp:   func(_ *autopaho.ConnectionManager, ack *paho.Connack) { up <- ack.SessionPresent },
		ClientConfig: paho.ClientConfig{
			ClientID: "auto",
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				heard <- string(r.Packet.Payload)
				return true, nil
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, up, false)
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "x", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	if !s.Disconnect("auto", 0x98) {
		t.Error("it was not connected")
	}
	publish(t, s, numbered("x", 1, 1))
	expect(t, up, true)
	expect(t, heard, "000001")
	if err := c.Disconnect(ctx); err != nil {
		t.Error(err)
	}
	<-c.Done()
}

// TestPahoV3 has Eclipse's client for 3.1 and 3.1.1, which knows nothing of this
// server, go through the levels [MQTT3-7.0.0-2].
func TestPahoV3(t *testing.T) {
	for name, version := range map[string]uint{"3.1": 3, "3.1.1": 4} {
		t.Run(name, func(t *testing.T) { testPahoV3(t, version) })
	}
}

func testPahoV3(t *testing.T, version uint) {
	s := brokertest.Start(t, options())
	dial := func(id string) mqtt.Client {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.Address()).SetClientID(id).SetProtocolVersion(version))
		done(t, c.Connect())
		return c
	}
	heard := make(chan string, 10)
	monitor, sensor := dial("monitor"), dial("sensor")
	done(t, monitor.Subscribe("sensors/#", 2, func(_ mqtt.Client, m mqtt.Message) {
		heard <- fmt.Sprintf("%s %s %d %v", m.Topic(), m.Payload(), m.Qos(), m.Retained())
	}))
	for qos := range byte(3) {
		done(t, sensor.Publish("sensors/客厅", qos, qos == 2, "25"))
		expect(t, heard, fmt.Sprintf("sensors/客厅 25 %d false", qos))
	}
	done(t, monitor.Unsubscribe("sensors/#"))
	done(t, monitor.Subscribe("sensors/+", 1, func(_ mqtt.Client, m mqtt.Message) {
		heard <- fmt.Sprintf("%s %v", m.Topic(), m.Retained())
	}))
	expect(t, heard, "sensors/客厅 true")
	monitor.Disconnect(100)
	sensor.Disconnect(100)
	eventually(t, "both have left", func() bool { return s.Stats().Sessions == 0 })
}

func done(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("not done: %v", token.Error())
	}
}

func expect[T comparable](t *testing.T, from <-chan T, want T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	case <-timer.C:
		t.Fatalf("%v does not come", want)
	}
}
