package listen_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/listen"
)

// mqttJS is the version of MQTT.js that is tested.
const mqttJS = "5.16.0"

// saw is what the clients of testdata say that they saw; PREFIX is of their topics.
const saw = `present false
PREFIX/kept kept 1 true
PREFIX/x q0 0 false
PREFIX/x q1 1 false
PREFIX/x q2 2 false
PROPERTIESpresent true
PREFIX/x while away 1 false
PREFIX/will gone 1 false
heard besides 0
`

func expected(prefix, properties, version string) string {
	if version != "5" {
		properties = ""
	}
	return strings.NewReplacer("PREFIX", prefix, "PROPERTIES", properties).Replace(saw)
}

// foreignProtocols are what foreign clients are to speak over.
var foreignProtocols = []string{"mqtt", "ws", "mqtts", "wss"}

// foreign runs a broker for clients of other people, and says where it is.
func foreign(t *testing.T, protocol string) (host, port, authority string) {
	o := listen.Options{Address: "127.0.0.1:0", Protocol: protocol}
	if strings.HasSuffix(protocol, "s") && protocol != "ws" {
		ca := newAuthority(t, "ca")
		o.TLS, authority = &listen.TLS{Certificates: []listen.KeyPair{ca.issue("localhost")}}, ca.path("ca.pem")
	}
	address, _ := serve(t, o)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if authority != "" {
		return "localhost", port, authority
	}
	return "127.0.0.1", port, ""
}

// missing fails where continuous integration has installed what is needed, and skips
// elsewhere.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("DEPS") == "installed" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// modules installs MQTT.js once, and returns the folder that it is in.
func modules(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "%s is needed, to run MQTT.js (packages nodejs and npm): %v", program, err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	folder := filepath.Join(cache, "gatehouse-test", "mqttjs-"+mqttJS)
	found := filepath.Join(folder, "node_modules")
	if _, err := os.Stat(filepath.Join(found, "mqtt", "package.json")); err == nil {
		return found
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(folder), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // it has been renamed
	out, err := exec.CommandContext(t.Context(), "npm", "install", "--prefix", fresh, "--ignore-scripts", "--no-audit", "--no-fund",
		"--no-save", "mqtt@"+mqttJS).CombinedOutput()
	if err != nil {
		missing(t, "cannot install mqtt@%s with npm: %v\n%s", mqttJS, err, out)
	}
	if err := os.Rename(fresh, folder); err != nil && !os.IsExist(err) { // another test was faster
		t.Fatal(err)
	}
	return found
}

// MQTT.js over all transports: both versions, all QoS levels, retained messages, a
// will, a session that is gone on with, properties.
func TestMQTTJS(t *testing.T) {
	found := modules(t)
	for _, protocol := range foreignProtocols {
		for _, version := range []string{"4", "5"} {
			t.Run(protocol+" "+version, func(t *testing.T) {
				host, port, authority := foreign(t, protocol)
				url := protocol + "://" + net.JoinHostPort(host, port)
				if strings.HasPrefix(protocol, "ws") {
					url += "/mqtt"
				}
				args := []string{"testdata/mqttjs.js", found, url, version}
				if authority != "" {
					args = append(args, authority)
				}
				ran(t, expected("js", "true text/plain js/answer c 1,2 true\n", version), "node", args...)
			})
		}
	}
}

const debianPython = "/usr/bin/python3" // the one that sees Debian's packages

// Eclipse's client for Python, as MQTT.js above.
func TestPahoPython(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), debianPython, "-c", "import paho.mqtt.client").CombinedOutput(); err != nil {
		missing(t, "Paho for Python is needed (package python3-paho-mqtt): %v\n%s", err, out)
	}
	for _, protocol := range foreignProtocols {
		for _, version := range []string{"4", "5"} {
			t.Run(protocol+" "+version, func(t *testing.T) {
				host, port, authority := foreign(t, protocol)
				transport := "tcp"
				if strings.HasPrefix(protocol, "ws") {
					transport = "websockets"
				}
				args := []string{"testdata/python.py", transport, host, port, version}
				if authority != "" {
					args = append(args, authority)
				}
				ran(t, expected("py", "True text/plain py/answer c 1,2 True\n", version), debianPython, args...)
			})
		}
	}
}

// ran runs a program, which is to say what is wanted.
func ran(t *testing.T, want, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = patience
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, &complaints)
	}
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
