package main_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse/gatehouse/broker/listen"
)

const tlsConfig = `
broker:
  listeners:
    - {address: "127.0.0.1:0", protocol: mqtts%s}
console: {address: "127.0.0.1:0"}
log: {level: debug, format: json}
`

// startTLS runs the program with one TLS listener; more is what else is said of it.
func startTLS(t *testing.T, dir, more string) (p *program, address string) {
	t.Helper()
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), fmt.Sprintf(tlsConfig, more))
	p = start(t, binary, "run", "--config", filepath.Join(dir, "gatehouse.yaml"), "--data", filepath.Join(dir, "data"))
	p.says(t, `"gateway is up"`)
	return p, attribute(t, p.says(t, `"protocol":"mqtts"`), "address")
}

func stopProgram(t *testing.T, p *program) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(t); code != 0 || strings.Contains(p.output(), "DATA RACE") {
		t.Errorf("it ended with code %d", code)
	}
}

// fingerprint is that of the first certificate in a file.
func fingerprint(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %s", file)
	}
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sha256.Sum256(block.Bytes)), " ", ":"))
}

func TestATLSListenerMakesItsOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	p, address := startTLS(t, dir, "")
	cert := filepath.Join(dir, "data", "tls", "certificate.pem")
	first := attribute(t, p.says(t, `"msg":"certificate"`), "sha256")
	if want := fingerprint(t, cert); first != want {
		t.Errorf("the log says %s, the file is %s", first, want)
	}
	for _, name := range []string{"certificate.pem", "key.pem"} {
		if info, err := os.Stat(filepath.Join(dir, "data", "tls", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	pub := []string{"-h", "localhost", "-p", port, "--cafile", cert, "-q", "1", "-t", "x", "-m", "1"}
	if out, code := run(t, "", "mosquitto_pub", pub...); code != 0 {
		t.Errorf("mosquitto_pub: %s", out)
	}
	if out, code := run(t, "", "mosquitto_pub", "-h", "localhost", "-p", port, "--capath", "/etc/ssl/certs", "-t", "x", "-m", "1"); code == 0 {
		t.Errorf("a client that does not trust the certificate is connected: %s", out)
	}
	listenersCount(t, p, filepath.Join(dir, "data", "gatehouse.sock"), address, first)
	stopProgram(t, p)
	p, _ = startTLS(t, dir, "")
	if again := attribute(t, p.says(t, `"msg":"certificate"`), "sha256"); again != first {
		t.Errorf("after a restart the certificate is another: %s, then %s", first, again)
	}
	stopProgram(t, p)
}

// listenersCount looks for what a listener counted in the API, the metrics and below
// $SYS: two sockets, one handshake, and one that failed.
func listenersCount(t *testing.T, p *program, socket, address, sha256 string) {
	t.Helper()
	g := &gatewayProcess{program: p, console: attribute(t, p.says(t, `"msg":"console"`), "url")}
	var outer map[string]any
	eventually(t, "the failed handshake is counted", func() bool {
		for _, l := range g.api(t, "listeners") {
			if l["protocol"] == "mqtts" {
				outer = l
			}
		}
		return fmt.Sprint(outer["refused"]) == "map[tls:1]"
	})
	if fmt.Sprintf("%v %v %v", outer["address"], outer["accepted"], outer["handshakes"]) != address+" 2 1" || !strings.Contains(fmt.Sprint(outer), sha256) {
		t.Errorf("the API says %v", outer)
	}
	response, err := http.Get(g.console + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`gatehouse_listener_refused_total{listener="mqtts://127.0.0.1:0",reason="tls"} 1`,
		`gatehouse_listener_handshakes_total{listener="mqtts://127.0.0.1:0"} 1`, `gatehouse_certificate_expires_seconds{`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("not in the metrics: %s", want)
		}
	}
	topic := "$SYS/broker/listeners/mqtts:" + address + "/accepted"
	if out, code := run(t, "", "mosquitto_sub", "--unix", socket, "-t", topic, "-C", "1", "-W", "15"); code != 0 || strings.TrimSpace(out) == "" {
		t.Errorf("mosquitto_sub %s: code %d, %q", topic, code, out)
	}
}

func TestATLSListenerNeedsAPlaceForItsCertificate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	writeFile(t, file, fmt.Sprintf(tlsConfig, ""))
	out, code := run(t, "", binary, "run", "--config", file)
	if code != 1 || !strings.Contains(out, "list tls.certificates, or give --data") {
		t.Errorf("code %d: %s", code, out)
	}
}

// selfSigned writes a certificate and its key, as an administrator would.
func selfSigned(t *testing.T, dir string) (print string) {
	t.Helper()
	cert, key, err := listen.SelfSigned([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "key.pem"), string(key))
	writeFile(t, filepath.Join(dir, "cert.pem"), string(cert))
	return fingerprint(t, filepath.Join(dir, "cert.pem"))
}

func TestCertificatesReloadWhileClientsAreConnected(t *testing.T) {
	dir := t.TempDir()
	first := selfSigned(t, dir)
	p, address := startTLS(t, dir, `, tls: {certificates: [{certificate: cert.pem, key: key.pem}]}`)
	shown := func() string {
		nc, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		leaf := nc.ConnectionState().PeerCertificates[0]
		if err := leaf.CheckSignature(x509.ECDSAWithSHA256, leaf.RawTBSCertificate, leaf.Signature); err != nil {
			t.Error(err)
		}
		return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sha256.Sum256(leaf.Raw)), " ", ":"))
	}
	if got := shown(); got != first {
		t.Fatalf("it shows %s, want %s", got, first)
	}
	sub := start(t, "mosquitto_sub", subArgs(t, address, dir)...)
	p.says(t, `"client connected"`)
	second := selfSigned(t, dir) // the watch sees it
	eventually(t, "the new certificate is shown", func() bool { return shown() == second })
	writeFile(t, filepath.Join(dir, "key.pem"), "broken")
	p.says(t, "the former ones stay in force")
	if got := shown(); got != second {
		t.Errorf("with a broken key it shows %s, want %s", got, second)
	}
	third := selfSigned(t, dir)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third certificate is shown", func() bool { return shown() == third })
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	pub := []string{"-h", "localhost", "-p", port, "--cafile", filepath.Join(dir, "cert.pem"), "-q", "1", "-t", "x", "-m", "still here"}
	if out, code := run(t, "", "mosquitto_pub", pub...); code != 0 {
		t.Errorf("mosquitto_pub: %s", out)
	}
	sub.says(t, "still here") // over the connection that stood all the time
	stopProgram(t, p)
}

func subArgs(t *testing.T, address, dir string) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-h", "localhost", "-p", port, "--cafile", filepath.Join(dir, "cert.pem"), "-t", "x", "-q", "1"}
}

// TestSystemdSocketActivation has systemd's own tool bind the address: it starts the
// program when the first client comes, who is served.
func TestSystemdSocketActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), `
broker: {listeners: [{address: "systemd:front"}]}
console: {address: "127.0.0.1:0"}
log: {format: json}
`)
	p := start(t, "systemd-socket-activate", "--listen="+address, "--fdname=front", binary, "run", "--config", filepath.Join(dir, "gatehouse.yaml"))
	p.says(t, "Listening on")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, "", "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "x", "-m", "1"); code != 0 {
		t.Errorf("mosquitto_pub: %s", out)
	}
	if got := attribute(t, p.says(t, `"msg":"listening"`), "address"); got != address {
		t.Errorf("it listens on %s, want %s", got, address)
	}
	stopProgram(t, p)
}

func TestASystemdSocketOffLoopbackIsRefused(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), "broker: {listeners: [{address: \"systemd:front\"}]}\nconsole: {address: \"\"}\n")
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, "systemd-socket-activate", fmt.Sprintf("--listen=0.0.0.0:%d", port), "--fdname=front", binary, "run",
		"--config", filepath.Join(dir, "gatehouse.yaml"))
	p.says(t, "Listening on")
	nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	p.says(t, "is not on loopback")
	if code := p.ended(t); code != 1 {
		t.Errorf("it ended with code %d", code)
	}
}
