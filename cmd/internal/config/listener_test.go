package config_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

func TestWhatIsWrongWithAListenerOrALimit(t *testing.T) {
	for name, tt := range map[string]struct{ text, at, says string }{
		"a TLS version that is no more":      {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: mqtts, tls: {min_version: \"1.1\"}}\n", "f.yaml:3:", `"1.1"`},
		"a certificate without its key":      {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: mqtts, tls: {certificates: [{certificate: a}]}}\n", "f.yaml:3:", "key is needed"},
		"a revocation list of nobody":        {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: mqtts, tls: {crl: a}}\n", "f.yaml:3:", "without client_ca"},
		"clients' certificates, perhaps":     {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: mqtts, tls: {client_ca: a, client_certificate: maybe}}\n", "f.yaml:3:", `"maybe"`},
		"a key of TLS that is not there":     {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", protocol: mqtts, tls: {ca: a}}\n", "f.yaml:3:", `unknown field "ca"`},
		"TLS where there is none":            {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", tls: {client_ca: a}}\n", "f.yaml:3:", "protocol mqtt has no TLS"},
		"TLS off loopback":                   {"broker:\n  listeners:\n    - {address: \"0.0.0.0:8883\", protocol: mqtts}\n", "f.yaml:3:", "not on loopback"},
		"a proxy that nobody knows":          {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", proxy_protocol: true}\n", "f.yaml:3:", "trusted_proxies"},
		"a proxy for nothing":                {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", trusted_proxies: [10.0.0.0/8]}\n", "f.yaml:3:", "proxy_protocol: true"},
		"a network that is none":             {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", proxy_protocol: true, trusted_proxies: [10.0.0.0/33]}\n", "f.yaml:3:", "10.0.0.0/33"},
		"a network that nobody is in":        {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", proxy_protocol: true, trusted_proxies: [\"::ffff:10.0.0.0/104\"]}\n", "f.yaml:3:", "::ffff:10.0.0.0/104"},
		"a socket of systemd without a name": {"broker:\n  listeners:\n    - {address: \"systemd:\"}\n", "f.yaml:3:17:", "FileDescriptorName="},
		"a mode that is none":                {"broker:\n  listeners:\n    - {address: /run/s, protocol: unix, mode: \"0888\"}\n", "f.yaml:3:", "0888"},
		"a mode of a TCP socket":             {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", mode: \"0660\"}\n", "f.yaml:3:", "it is for unix"},
		"origins of MQTT":                    {"broker:\n  listeners:\n    - {address: \"127.0.0.1:1\", origins: [a]}\n", "f.yaml:3:", "ws and wss"},
		"an unknown limit":                   {"broker: {limits: {clients: 1}}\n", "f.yaml:1:", `unknown field "clients"`},
		"a limit below its range":            {"broker: {limits: {connections: 0}}\n", "f.yaml:1:", "0 is not from 1 to 1000000"},
		"a limit above its range":            {"broker: {limits: {in_flight: 65536}}\n", "f.yaml:1:", "65536 is not from 1 to 65535"},
		"a time above its range":             {"broker: {limits: {connect_time: 2m}}\n", "f.yaml:1:", "2m0s is not from 100ms to 1m"},
		"a time without a unit":              {"broker: {limits: {connect_time: ten}}\n", "f.yaml:1:33:", `"ten" is not a time`},
	} {
		t.Run(name, func(t *testing.T) { refused(t, tt.text, tt.at, tt.says) })
	}
}

func TestLimits(t *testing.T) {
	t.Run("the defaults are those of the broker", func(t *testing.T) {
		c, err := config.Parse("", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		options := broker.Options{Limits: c.Broker.Limits.Broker()}
		c.Broker.Apply(&options)
		if diff := cmp.Diff(broker.DefaultLimits(), options.Limits); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("each can be set", func(t *testing.T) {
		c, err := config.Parse("", []byte("broker: {limits: {connections_per_address: 0, publish_rate: 50, connect_time: 250ms, all_queues_bytes: 4096, queue_drop: newest, window_bytes: 2048}}"),
			[]string{"GATEHOUSE_BROKER__LIMITS__TOPIC_LEVELS=8", "GATEHOUSE_BROKER__LIMITS__KEEP_ALIVE=10m"})
		if err != nil {
			t.Fatal(err)
		}
		l := c.Broker.Limits.Broker()
		if l.ConnectionsPerAddress != -1 || l.PublishRate != 50 || l.ConnectTime != 250*time.Millisecond || l.AllQueues.Bytes != 4096 ||
			l.TopicLevels != 8 || !l.KeepOldest || l.Window != 2048 || l.KeepAlive != 10*time.Minute || l.Connections != 10_000 {
			t.Errorf("got %+v", l)
		}
	})
}

func TestPathsOfTLSCountFromTheFile(t *testing.T) {
	c, err := config.Parse("/etc/gatehouse/gatehouse.yaml", []byte(`
broker:
  listeners:
    - address: "127.0.0.1:8883"
      protocol: mqtts
      tls:
        certificates: [{certificate: tls/a.pem, key: /etc/ssl/a.key}]
        client_ca: ca.pem
        client_certificate: optional
        crl: crl.pem
        min_version: "1.3"
      proxy_protocol: true
      trusted_proxies: [10.0.0.0/8, "2001:db8::1"]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.TLS{
		Certificates: []config.KeyPair{{Certificate: "/etc/gatehouse/tls/a.pem", Key: "/etc/ssl/a.key"}},
		ClientCA:     "/etc/gatehouse/ca.pem", ClientCertificate: "optional", CRL: "/etc/gatehouse/crl.pem", MinVersion: "1.3",
	}
	if diff := cmp.Diff(want, c.Broker.Listeners[0].TLS); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(c.Broker.Listeners[0].Proxies()); got != "[10.0.0.0/8 2001:db8::1/128]" {
		t.Errorf("proxies %s", got)
	}
}

// A mode means what is written, in quotes or not: to YAML 0660 is 432.
func TestModeIsOctal(t *testing.T) {
	for _, mode := range []string{"0660", `"0660"`, "660", "'660'"} {
		c, err := config.Parse("", []byte("broker: {listeners: [{address: /run/s, protocol: unix, mode: "+mode+"}]}"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Broker.Listeners[0].FileMode(); got != 0o660 || err != nil {
			t.Errorf("%s is %#o, %v", mode, got, err)
		}
	}
}
