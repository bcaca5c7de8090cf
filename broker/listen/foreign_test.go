package listen_test

import (
	"crypto/tls"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/listen"
)

// TestMosquittoOverTLS has mosquitto's clients show certificates, and be refused
// without.
func TestMosquittoOverTLS(t *testing.T) {
	ca := newAuthority(t, "house")
	client := ca.issue("sensor")
	l, server := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{
		Certificates: []listen.KeyPair{ca.issue("gate.example")}, ClientCA: ca.path("ca.pem"),
	}}, broker.Limits{})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trust := []string{"-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "x", "--cafile", ca.path("ca.pem")}
	shown := append(trust[:len(trust):len(trust)], "--cert", client.Certificate, "--key", client.Key)
	for _, version := range []string{"tlsv1.2", "tlsv1.3"} {
		t.Run(version, func(t *testing.T) {
			args := append(shown[:len(shown):len(shown)], "--tls-version", version)
			sub := command(t, "mosquitto_sub", append(args, "-C", "1", "-W", "10", "-i", "sub-"+version)...)
			var out strings.Builder
			sub.Stdout, sub.Stderr = &out, &out
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			awaitSubscription(t, server, "sub-"+version)
			if out, err := command(t, "mosquitto_pub", append(args, "-m", "hello")...).CombinedOutput(); err != nil {
				t.Errorf("mosquitto_pub: %v: %s", err, out)
			}
			if err := sub.Wait(); err != nil || out.String() != "hello\n" {
				t.Errorf("mosquitto_sub: %v: %s", err, out.String())
			}
		})
	}
	t.Run("without a certificate", func(t *testing.T) {
		if out, err := command(t, "mosquitto_pub", append(trust, "-m", "hello")...).CombinedOutput(); err == nil {
			t.Errorf("it was let in: %s", out)
		}
	})
}

// TestMosquittoTrustsTheSelfSigned has mosquitto's client take a self-signed
// certificate as the one that it is told of.
func TestMosquittoTrustsTheSelfSigned(t *testing.T) {
	cert, key, err := listen.SelfSigned(listen.LocalNames())
	if err != nil {
		t.Fatal(err)
	}
	pair := listen.KeyPair{Certificate: filepath.Join(t.TempDir(), "certificate.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	writeFile(t, pair.Certificate, string(cert))
	writeFile(t, pair.Key, string(key))
	l, server := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{
		Certificates: []listen.KeyPair{pair},
	}}, broker.Limits{})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		args := []string{"-h", host, "-p", port, "--cafile", pair.Certificate, "-t", host, "-m", "1", "-q", "1", "-r"}
		if out, err := command(t, "mosquitto_pub", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if kept := server.Retained(host, 1); len(kept) != 1 {
			t.Errorf("%s: got %+v", host, kept)
		}
	}
}

// paths are the two ways over TLS, as the URLs of clients name them.
func paths(t *testing.T, ca *authority) map[string]string {
	t.Helper()
	pair, urls := ca.issue("gate.example"), make(map[string]string)
	for protocol, scheme := range map[string]string{"mqtts": "ssl://", "wss": "wss://"} {
		l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: protocol, TLS: &listen.TLS{
			Certificates: []listen.KeyPair{pair}, ClientCA: ca.path("ca.pem"),
		}}, broker.Limits{})
		urls[protocol] = scheme + l.Addr().String()
		if protocol == "wss" {
			urls[protocol] += "/mqtt"
		}
	}
	return urls
}

// TestPahoV3OverTLS has Eclipse's client for 3.1.1 hear itself.
func TestPahoV3OverTLS(t *testing.T) {
	ca := newAuthority(t, "house")
	client := ca.issue("client")
	for protocol, address := range paths(t, ca) {
		t.Run(protocol, func(t *testing.T) {
			heard := make(chan string, 1)
			o := mqtt.NewClientOptions().AddBroker(address).SetClientID("paho").SetTLSConfig(ca.client("gate.example", client)).
				SetConnectRetry(false).SetAutoReconnect(false).SetConnectTimeout(patience)
			c := mqtt.NewClient(o)
			done := func(token mqtt.Token) {
				t.Helper()
				if !token.WaitTimeout(patience) || token.Error() != nil {
					t.Fatalf("got %v", token.Error())
				}
			}
			done(c.Connect())
			defer c.Disconnect(100)
			done(c.Subscribe("x", 2, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))
			want := strings.Repeat("hello ", 10_000) // of some records and frames
			done(c.Publish("x", 2, false, want))
			select {
			case got := <-heard:
				if got != want {
					t.Errorf("got %d bytes, want %d", len(got), len(want))
				}
			case <-time.After(patience):
				t.Error("nothing is heard")
			}
		})
	}
}

// TestAutopahoOverTLS has Eclipse's client for 5.0 hear itself.
func TestAutopahoOverTLS(t *testing.T) {
	ca := newAuthority(t, "house")
	client := ca.issue("client")
	for protocol, address := range paths(t, ca) {
		t.Run(protocol, func(t *testing.T) {
			at, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			heard := make(chan string, 1)
			config := autopaho.ClientConfig{
				ServerUrls: []*url.URL{at}, KeepAlive: 30, TlsCfg: ca.client("gate.example", client), ConnectTimeout: patience,
				ClientConfig: paho.ClientConfig{
					ClientID: "autopaho",
					OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
						heard <- string(r.Packet.Payload)
						return true, nil
					}},
				},
			}
			config.TlsCfg.MinVersion = tls.VersionTLS12
			c, err := autopaho.NewConnection(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.AwaitConnection(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "x", QoS: 1}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "x", QoS: 1, Payload: []byte("hello")}); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-heard:
				if got != "hello" {
					t.Errorf("got %q", got)
				}
			case <-time.After(patience):
				t.Error("nothing is heard")
			}
			if err := c.Disconnect(t.Context()); err != nil {
				t.Error(err)
			}
			<-c.Done()
		})
	}
}
