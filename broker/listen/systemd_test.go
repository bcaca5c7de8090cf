package listen_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/listen"
)

// passedMain is what the test does as a child process that sockets were passed to:
// it says hello on each of them, and what became of those that nobody wants.
func passedMain() int {
	if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
		return fail(err)
	}
	sockets, err := listen.PassedSockets(os.Getenv)
	if err != nil {
		return fail(err)
	}
	for _, c := range []struct{ name, protocol string }{{"inner", "mqtt"}, {"local", "unix"}} { // as the test comes to them
		name, protocol := c.name, c.protocol
		l, err := listen.Listen(noContext, listen.Options{Name: name, Address: "systemd:" + name, Protocol: protocol, Sockets: sockets})
		if err != nil {
			return fail(err)
		}
		nc, err := l.Accept()
		if err != nil {
			return fail(err)
		}
		if _, err := io.WriteString(nc, "hello on "+name); err != nil {
			return fail(err)
		}
		if err := nc.Close(); err != nil {
			return fail(err)
		}
		if _, err := listen.Listen(noContext, listen.Options{Address: "systemd:" + name, Protocol: protocol, Sockets: sockets}); err == nil ||
			!strings.Contains(err.Error(), "serves another listener already") {
			return fail(err)
		}
		if err := l.Close(); err != nil {
			return fail(err)
		}
	}
	for _, c := range []struct{ address, protocol, says string }{
		{"systemd:twin", "mqtt", `passed 2 sockets "twin"`},
		{"systemd:nobody", "mqtt", `passed no socket "nobody"`},
		{"systemd:spare", "unix", `the passed socket "spare" is tcp`},
	} {
		_, err := listen.Listen(noContext, listen.Options{Address: c.address, Protocol: c.protocol, Sockets: sockets})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			return fail(err)
		}
	}
	if unused := strings.Join(sockets.Unused(), " "); unused != "spare twin" {
		fmt.Fprintln(os.Stderr, "not used: "+unused)
		return 1
	}
	// What we start does not inherit them.
	out, err := exec.Command("ls", "/proc/self/fd").Output()
	for _, n := range strings.Fields(string(out)) {
		if err != nil || n >= "4" && n <= "7" { // 3 is that of the folder
			fmt.Fprintln(os.Stderr, "a child has the descriptors "+string(out))
			return 1
		}
	}
	return 0
}

func fail(err error) int {
	if err == nil {
		fmt.Fprintln(os.Stderr, "no error")
	} else {
		fmt.Fprintln(os.Stderr, err.Error())
	}
	return 1
}

func TestPassedSockets(t *testing.T) {
	tcp := func() *net.TCPListener {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	inner, spare, twin := tcp(), tcp(), tcp()
	path := filepath.Join(t.TempDir(), "s")
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	for _, l := range []interface{ File() (*os.File, error) }{inner, local, spare, twin, twin} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(os.Environ(), "LISTEN_TEST_CHILD=1", "LISTEN_FDS=5", "LISTEN_FDNAMES=inner:local:spare:twin:twin")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ network, address, want string }{
		{"tcp", inner.Addr().String(), "hello on inner"}, {"unix", path, "hello on local"},
	} {
		nc, err := net.Dial(c.network, c.address) // it waits in the socket until the child takes it
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if got, err := io.ReadAll(nc); err != nil || string(got) != c.want {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
	for _, l := range []io.Closer{inner, spare, twin, local} {
		_ = l.Close()
	}
}

func TestSocketsForOthers(t *testing.T) {
	env := func(pairs map[string]string) func(string) string {
		return func(key string) string { return pairs[key] }
	}
	self := strconv.Itoa(os.Getpid())
	for behaviour, c := range map[string]struct {
		env  map[string]string
		says string
	}{
		"none":                      {map[string]string{}, ""},
		"those of another process":  {map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "3"}, ""},
		"a number that is none":     {map[string]string{"LISTEN_PID": self, "LISTEN_FDS": "many"}, `LISTEN_FDS is "many"`},
		"more than there can be":    {map[string]string{"LISTEN_PID": self, "LISTEN_FDS": "100000"}, `LISTEN_FDS is "100000"`},
		"names that are not enough": {map[string]string{"LISTEN_PID": self, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, "1 names for 2 sockets"},
	} {
		t.Run(behaviour, func(t *testing.T) {
			s, err := listen.PassedSockets(env(c.env))
			if c.says == "" && (err != nil || len(s.Unused()) > 0) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v", err)
			}
		})
	}
}
