package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// A user is made by hand, comes in with the password, does what the ACL says, and is
// disconnected when deleted; the data folder's socket needs no password.
func TestUsersAsAUserWould(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, at("gatehouse.yaml"), `
broker:
  listeners: [{address: "127.0.0.1:0", protocol: mqtt}]
  anonymous: false
  users: users
  acl: acl.yaml
console: {address: ""}
log: {format: json}
`)
	writeFile(t, at("acl.yaml"), "rules: [{allow: readwrite, topics: [\"home/#\"], users: [anna]}]\n")
	writeFile(t, at("secret"), "pencil\n")
	passwd := func(stdin string, args ...string) {
		t.Helper()
		if out, code := run(t, stdin, binary, append([]string{"passwd", "--config", at("gatehouse.yaml")}, args...)...); code != 0 {
			t.Fatalf("passwd %q: %s", args, out)
		}
	}
	passwd("pencil\n", "anna")
	data, err := os.MkdirTemp("", "data") // short: a socket's path has at most 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) }) // nothing depends on it
	g := start(t, binary, "run", "--config", at("gatehouse.yaml"), "--data", data)
	g.says(t, `"gateway is up"`)
	server := "mqtt://" + attribute(t, g.says(t, `"protocol":"mqtt"`), "address")
	anna := []string{"--server", server, "--user", "anna", "--password-file", at("secret")}
	pub := func(args ...string) string {
		t.Helper()
		out, _ := run(t, "", binary, append([]string{"pub", "-q", "1"}, args...)...)
		return out
	}
	hears := start(t, binary, append([]string{"sub", "home/#"}, anna...)...)
	all := start(t, binary, "sub", "--data", data, "#", "$SYS/broker/version")
	all.says(t, "$SYS/broker/version gatehouse")
	if out := pub("--data", data, "-r", "home/door", "open"); out != "" {
		t.Error(out)
	}
	hears.says(t, "home/door open")
	if out := pub(append(anna, "home/light", "on")...); out != "" {
		t.Error(out)
	}
	all.says(t, "home/light on")
	for want, args := range map[string][]string{
		"refused the message: Not authorized":                append(anna, "garden/light", "on"),
		"refused the connection: Not authorized":             {"--server", server, "home/light", "on"},
		"refused the connection: Bad User Name or Password":  {"--server", server, "--user", "anna", "--password-file", at("acl.yaml"), "home/light", "on"},
		"--password-file needs --user":                       {"--password-file", at("secret"), "a", "b"},
		"none of the others can be; [data server] were all":  {"--server", server, "--data", data, "a", "b"},
		"cannot read the password: open /nowhere: no such f": {"--user", "anna", "--password-file", "/nowhere", "a", "b"},
	} {
		if out := pub(args...); !strings.Contains(out, want) {
			t.Errorf("pub %q says %q, want %q", args, out, want)
		}
	}
	passwd("", "--delete", "anna")
	hears.says(t, "the server ended the connection: Not authorized")
}

// Who may command a device has the gateway answer where it may publish itself, and
// nowhere else.
func TestResponseTopicIsWithinTheRightsOfTheSender(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, at("gatehouse.yaml"), `
broker:
  listeners: [{address: "127.0.0.1:0", protocol: mqtt}]
  anonymous: false
  users: users
  acl: acl.yaml
devices: {folder: devices}
console: {address: ""}
log: {format: json}
`)
	writeFile(t, at("acl.yaml"), `rules:
  - {allow: publish, topics: ["lamp/on/set", "answers/anna"], users: [anna]}
  - {allow: readwrite, topics: ["#"], users: [ben]}
`)
	if err := os.Mkdir(at("devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "devices", "lamp.yaml"), "driver: sim\npoints: {on: {initial: false, writable: true}}\n")
	for _, user := range []string{"anna", "ben"} {
		if out, code := run(t, "pencil\n", binary, "passwd", "--config", at("gatehouse.yaml"), user); code != 0 {
			t.Fatal(out)
		}
	}
	g := start(t, binary, "run", "--config", at("gatehouse.yaml"), "--data", at("data"))
	g.says(t, `"gateway is up"`)
	address := attribute(t, g.says(t, `"protocol":"mqtt"`), "address")
	dial := func(user string) *brokertest.Client {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() }) // the test is over
		c := brokertest.NewClient(nc)
		ack, err := c.Connect(&packet.Connect{Version: packet.V5, ClientID: user, Clean: true, HasUsername: true, Username: user, HasPassword: true, Password: []byte("pencil")})
		if err != nil || ack.Reason.Failed() {
			t.Fatalf("%s is not connected: %+v, %v", user, ack, err)
		}
		return c
	}
	anna, ben := dial("anna"), dial("ben")
	for i, filter := range []string{"answers/#", "alarm/#", "lamp/on/set/result"} {
		if err := ben.Send(&packet.Subscribe{ID: uint16(i + 1), Filters: []packet.Filter{{Filter: filter, Options: packet.SubscribeOptions{QoS: 1}}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := ben.Read(); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		sender *brokertest.Client
		to     string
		heard  string
	}{
		{anna, "answers/anna", "answers/anna"},
		{anna, "alarm/off", "lamp/on/set/result"},
		{ben, "alarm/off", "alarm/off"},
	} {
		m := &packet.Publish{Topic: "lamp/on/set", QoS: 1, ID: 1, Payload: []byte("true")}
		m.Properties.ResponseTopic = tt.to
		if err := tt.sender.Send(m); err != nil {
			t.Fatal(err)
		}
		for {
			p, err := ben.Read()
			if err != nil {
				t.Fatal(err)
			}
			m, ok := p.(*packet.Publish)
			if !ok {
				continue // ben's own acknowledgement
			}
			if m.Topic != tt.heard || !strings.Contains(string(m.Payload), `"ok":true`) {
				t.Errorf("%d: %s on %s, want it on %s", i, m.Payload, m.Topic, tt.heard)
			}
			break
		}
	}
}

// On a terminal the password is asked for twice, and not shown.
func TestPasswdOnATerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	for _, c := range []struct{ first, again, want string }{
		{"pencil", "crayon", "the two passwords differ"},
		{"pencil", "pencil", `user "anna" added`},
	} {
		said := typing(t, []string{c.first, c.again}, "passwd", "--file", file, "anna")
		if !strings.Contains(said, c.want) || !strings.Contains(said, "Password for anna: ") {
			t.Errorf("the terminal shows %q, want %q", said, c.want)
		}
		if strings.Contains(said, c.first) || strings.Contains(said, c.again) {
			t.Errorf("the terminal shows the password: %q", said)
		}
	}
}

// typing runs the program on a terminal, types a line at each prompt, and returns what
// the terminal shows.
func typing(t *testing.T, lines []string, args ...string) string {
	t.Helper()
	ours, theirs := terminal(t)
	cmd := exec.Command(binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close() // the child has it
	if err := ours.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for buf := make([]byte, 1024); ; {
		n, err := ours.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			break // the child has let go of it
		}
		if len(lines) > 0 && strings.HasSuffix(shown.String(), ": ") {
			if _, err := ours.WriteString(lines[0] + "\n"); err != nil {
				t.Fatal(err)
			}
			lines = lines[1:]
		}
	}
	_ = cmd.Wait() // what it says is looked at
	return shown.String()
}

// terminal is the two ends of a pseudo terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() }) // only read and written
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
