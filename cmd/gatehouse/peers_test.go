package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// stat reads one number of /metrics, summed over its labels.
func (g *gatewayProcess) stat(t *testing.T, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.console+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if metric, _, _ := strings.Cut(key, "{"); metric == name {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum, found = sum+n, true
		}
	}
	if !found {
		t.Fatalf("no metric %s in:\n%s", name, text)
	}
	return sum
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// The classic flow, with mosquitto's clients: the monitor subscribes, the sensor
// publishes at QoS 1, and both say goodbye.
func TestMosquittoClients(t *testing.T) {
	g := startGateway(t, nil)
	host, port, _ := net.SplitHostPort(g.mqtt)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			common := []string{"-h", host, "-p", port, "-V", version, "-q", "1", "-t"}
			before := g.stat(t, "gatehouse_subscriptions")
			monitor := start(t, "mosquitto_sub", append(common, "sensors/temp", "-C", "1", "-d", "-i", "monitor")...)
			eventually(t, "the monitor is subscribed", func() bool { return g.stat(t, "gatehouse_subscriptions") > before })
			out, code := run(t, "", "mosquitto_pub", append(common, "sensors/temp", "-m", `{"temp":25}`, "-d", "-i", "sensor")...)
			if code != 0 || !strings.Contains(out, "received PUBACK") {
				t.Errorf("mosquitto_pub ended with %d:\n%s", code, out)
			}
			if code := monitor.ended(t); code != 0 {
				t.Errorf("mosquitto_sub ended with %d", code)
			}
			for _, want := range []string{"received SUBACK", `{"temp":25}`, "sending PUBACK", "sending DISCONNECT"} {
				if !strings.Contains(monitor.output(), want) {
					t.Errorf("the monitor did not say %q", want)
				}
			}
		})
	}
	g.stop(t)
}

// Paho for 3.1.1, over TCP and WebSocket, at each quality of service.
func TestPahoMQTT311(t *testing.T) {
	g := startGateway(t, nil)
	for _, server := range []string{"tcp://" + g.mqtt, g.ws} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s QoS %d", server[:3], qos), func(t *testing.T) {
				got := make(chan string, 10)
				c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(server).SetClientID(fmt.Sprintf("p%s%d", server[:2], qos)).SetProtocolVersion(4))
				wait(t, c.Connect())
				topic := fmt.Sprintf("devices/%s/客厅/%d", server[:3], qos)
				wait(t, c.Subscribe(topic, qos, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }))
				for n := range 5 {
					wait(t, c.Publish(topic, qos, false, strconv.Itoa(n)))
				}
				for n := range 5 {
					select {
					case s := <-got:
						if s != strconv.Itoa(n) {
							t.Errorf("got %q, want %d", s, n)
						}
					case <-time.After(patience):
						t.Fatalf("message %d does not come", n)
					}
				}
				c.Disconnect(100)
			})
		}
	}
	g.stop(t)
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// Paho for 5.0: properties come through unchanged, and a stop is told to clients.
func TestPahoMQTT5(t *testing.T) {
	g := startGateway(t, nil)
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", g.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *paho.Publish, 1)
	bye := make(chan byte, 1)
	c := paho.NewClient(paho.ClientConfig{
		Conn:               conn,
		OnServerDisconnect: func(d *paho.Disconnect) { bye <- d.ReasonCode },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			got <- p.Packet
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "five", KeepAlive: 30, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "ask/+", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	one := byte(1)
	sent := &paho.PublishProperties{
		ContentType: "application/json", ResponseTopic: "answers/five", CorrelationData: []byte{1, 2, 3}, PayloadFormat: &one,
		User: paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
	}
	if _, err := c.Publish(ctx, &paho.Publish{Topic: "ask/time", QoS: 2, Payload: []byte("{}"), Properties: sent}); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-got:
		r := p.Properties
		if p.QoS != 2 || r.ContentType != sent.ContentType || r.ResponseTopic != sent.ResponseTopic || string(r.CorrelationData) != "\x01\x02\x03" ||
			r.PayloadFormat == nil || *r.PayloadFormat != 1 || fmt.Sprint(r.User) != fmt.Sprint(sent.User) {
			t.Errorf("got QoS %d %+v", p.QoS, r)
		}
	case <-ctx.Done():
		t.Fatal("the message does not come")
	}
	g.stop(t)
	select {
	case code := <-bye:
		if code != 0x8B {
			t.Errorf("DISCONNECT with 0x%02x, want 0x8b", code)
		}
	case <-time.After(patience):
		t.Error("no DISCONNECT")
	}
}

// mbpoll, a foreign client, reads and writes our simulated PLC, and the device
// that polls the PLC sees it.
func TestMbpollAgainstTheSimulatedPLC(t *testing.T) {
	port := freePort(t)
	g := startGateway(t, map[string]string{
		"devices/plc.yaml": "driver: modbus-simulator\nlisten: 127.0.0.1:" + port + "\nunit: 1\npoints:\n" +
			"  temperature: {input: 0, type: int16, scale: 0.1, initial: 21.5}\n  fan: {coil: 3, writable: true, initial: false}\n",
		"devices/press.yaml": "driver: modbus\ntcp: 127.0.0.1:" + port + "\nunit: 1\nevery: 50ms\npoints:\n" +
			"  temperature: {input: 0, type: int16, scale: 0.1}\n  fan: {coil: 3, writable: true}\n",
	})
	g.online(t, "plc", "press")
	out, code := run(t, "", "mbpoll", "-m", "tcp", "-p", port, "-a", "1", "-0", "-r", "0", "-t", "3", "-1", "127.0.0.1")
	if code != 0 || !strings.Contains(out, "[0]: \t215") {
		t.Errorf("mbpoll ended with %d:\n%s", code, out)
	}
	if out, code := run(t, "", "mbpoll", "-m", "tcp", "-p", port, "-a", "1", "-0", "-r", "3", "-t", "0", "-1", "127.0.0.1", "1"); code != 0 {
		t.Errorf("mbpoll ended with %d:\n%s", code, out)
	}
	eventually(t, "the device sees the coil", func() bool {
		for _, m := range g.api(t, "topics?filter="+url.QueryEscape("press/fan")) {
			if m["payload"] == "true" {
				return true
			}
		}
		return false
	})
	g.stop(t)
}
