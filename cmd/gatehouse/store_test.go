package main_test

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest/ledger"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// household is clients that go on whatever becomes of the gateway.
type household struct {
	t      *testing.T
	ledger *ledger.Ledger
	all    []*ledger.Client
	dial   func() (net.Conn, error)
}

func newHousehold(t *testing.T, dial func() (net.Conn, error)) *household {
	l := ledger.New()
	return &household{t: t, ledger: l, dial: dial, all: []*ledger.Client{
		l.Client("sub5", packet.V5), l.Client("sub4", packet.V311), l.Client("pub5", packet.V5), l.Client("pub4", packet.V311),
	}}
}

// run has the clients publish, subscribe and acknowledge until stop is closed; each
// connects again as soon as it can.
func (h *household) run(stop <-chan struct{}) {
	var wait sync.WaitGroup
	for i, c := range h.all {
		wait.Go(func() {
			defer c.Lose()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if !c.Connected() && !h.connect(c) {
					continue
				}
				if err := h.work(c, i, n); err != nil {
					c.Lose()
				}
			}
		})
	}
	wait.Wait()
}

// connect waits a little for a gateway that is not there.
func (h *household) connect(c *ledger.Client) bool {
	nc, err := h.dial()
	if err != nil {
		<-time.After(2 * time.Millisecond)
		return false
	}
	if err = c.Connect(nc); err != nil {
		c.Lose()
	}
	return err == nil
}

func (h *household) work(c *ledger.Client, i, n int) error {
	if i < 2 {
		_, err := c.Ping()
		return err
	}
	for k := range 4 {
		topic := "load/" + c.ID() + "/" + strconv.Itoa(k%2)
		if err := c.Publish(topic, message.QoS(1+(n+k)%2), k == 3, 100); err != nil {
			return err
		}
	}
	return c.Settle()
}

// settle has everybody come back, waits until what was promised has come, or for as long
// as that may take, and lists what is broken.
func (h *household) settle(patience time.Duration) (broken []string) {
	h.t.Helper()
	for _, c := range h.all {
		eventually(h.t, c.ID()+" connects", func() bool { return c.Connected() || h.connect(c) })
		if err := c.Settle(); err != nil {
			h.t.Fatal(err)
		}
	}
	for deadline, quiet := time.Now().Add(patience), 0; quiet < 2; { // twice, for what comes twice
		for _, c := range h.all {
			if _, err := c.Ping(); err != nil {
				h.t.Fatal(err)
			}
		}
		if len(h.ledger.Missing()) == 0 || time.Now().After(deadline) {
			quiet++
		}
	}
	nc, err := h.dial()
	if err != nil {
		h.t.Fatal(err)
	}
	wrong, err := h.ledger.CheckRetained(nc, "load/#")
	if err != nil {
		h.t.Fatal(err)
	}
	return slices.Concat(h.ledger.Broken(), h.ledger.Missing(), wrong)
}

// subscribe has the subscribers subscribe to all that the publishers send.
func (h *household) subscribe() {
	h.t.Helper()
	for i, c := range h.all[:2] {
		eventually(h.t, "it subscribes", func() bool {
			return (c.Connected() || h.connect(c)) && c.Subscribe("load/#", message.QoS(2-i)) == nil
		})
	}
}

// await waits until some more messages are acknowledged.
func (h *household) await() {
	h.t.Helper()
	enough := h.ledger.Acknowledged() + 1 + rand.IntN(60)
	eventually(h.t, "messages are acknowledged", func() bool { return h.ledger.Acknowledged() >= enough })
}

// times is how often something is done, or as the environment says.
func times(name string, n int) int {
	if told, err := strconv.Atoi(os.Getenv(name)); err == nil && told > 0 {
		return told
	}
	return n
}

// TestKills ends the gateway with kill -9 at any time under load, again and again: what
// was acknowledged is there, once where it is to be once, in order.
func TestKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "data", "gatehouse.sock")
	writeFile(t, filepath.Join(dir, "g.yaml"), `
broker: {listeners: []}
console: {address: ""}
`)
	h := newHousehold(t, func() (net.Conn, error) { return net.Dial("unix", socket) })
	launch := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), binary, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", data)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	cmd := launch()
	h.subscribe()
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { h.run(stop) })
	n := times("KILLS", 50)
	for range n {
		h.await()
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		cmd = launch()
	}
	close(stop)
	wait.Wait()
	for _, broken := range h.settle(patience) {
		t.Error(broken)
	}
	t.Logf("%d kills, %d messages acknowledged", n, h.ledger.Acknowledged())
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	if out, code := run(t, "", binary, "store", "check", "--data", data); code != 0 || !strings.Contains(out, "ok") {
		t.Errorf("code %d, %s", code, out)
	}
}

// TestStoreCommand looks at a store that is in use, stopped, and damaged.
func TestStoreCommand(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	writeFile(t, filepath.Join(dir, "g.yaml"), "broker: {listeners: []}\nconsole: {address: \"127.0.0.1:0\"}\nlog: {format: json}\n"+
		"store: {durability: interval 1h, relaxed: [{filter: loose/#, durability: \"off\"}]}\n")
	g := start(t, binary, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", data)
	g.says(t, `"gateway is up"`)
	h := newHousehold(t, func() (net.Conn, error) { return net.Dial("unix", filepath.Join(data, "gatehouse.sock")) })
	sub, pub := h.all[0], h.all[2]
	if !h.connect(sub) || sub.Subscribe("x", 1) != nil {
		t.Fatal("it does not subscribe")
	}
	sub.Lose()
	g.says(t, `"client disconnected"`) // or the message is sent, and has a packet identifier
	if !h.connect(pub) || pub.Publish("x", 1, true, 20) != nil || pub.Settle() != nil {
		t.Fatal("it does not publish")
	}
	pub.Lose()
	console := attribute(t, g.says(t, `"msg":"console"`), "url")
	eventually(t, "the API counts the message", func() bool { return strings.Contains(fetch(t, console+"/api/v1/store"), `"messages":1`) })
	if got := fetch(t, console+"/api/v1/store"); !strings.Contains(got, `"durability":"interval 1h0m0s"`) ||
		!strings.Contains(got, `"relaxed":[{"filter":"loose/#","durability":"off"}]`) {
		t.Errorf("got %s", got)
	}
	if got := fetch(t, console+"/metrics"); !strings.Contains(got, "gatehouse_store_full 0") {
		t.Error("there are no metrics of the store")
	}
	if out, code := run(t, "", binary, "store", "check", "--data", data); code != 1 || !strings.Contains(out, "is in use by process") {
		t.Errorf("code %d, %s", code, out)
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	g.ended(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		// Two of clients, and one of each rule language.
		{[]string{"check", "--data", data}, 0, "ok: 1 segments, 4 sessions, 1 messages waiting, 1 retained, 0 records"},
		{[]string{"stats", "--data", data}, 0, `"messages": 1`},
		{[]string{"export", "--data", data}, 0, `{"kind":"queued","session":"sub5","position":1,"topic":"x","payload":"MSB4`},
		{[]string{"check"}, 1, "--data DIR"},
		{[]string{"check", "--data", dir}, 1, "there is no store in"},
	} {
		if out, code := run(t, "", binary, append([]string{"store"}, c.args...)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%q: code %d, %s", c.args, code, out)
		}
	}
	damage(t, filepath.Join(data, "store"))
	before := files(t, filepath.Join(data, "store"))
	if out, code := run(t, "", binary, "store", "check", "--data", data); code != 1 || !strings.Contains(out, "damaged in 1 places") {
		t.Errorf("code %d, %s", code, out)
	}
	if after := files(t, filepath.Join(data, "store")); after != before {
		t.Errorf("the check has changed the folder: %s, before %s", after, before)
	}
	g = start(t, binary, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", data)
	g.says(t, `"gateway is up"`)
	console = attribute(t, g.says(t, `"msg":"console"`), "url")
	for path, want := range map[string]string{
		"/healthz": "the store has lost 1 damaged places", "/readyz": "the store has lost 1 damaged places",
		"/api/v1/store": `"damaged":1,"unreadable":0,"aside_bytes":`, "/metrics": "gatehouse_store_damaged_total 1",
	} {
		if got := fetch(t, console+path); !strings.Contains(got, want) {
			t.Errorf("%s says %.300q", path, got)
		}
	}
}

// damage flips a bit of a payload in a store.
func damage(t *testing.T, folder string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(string(b), "1 xxxx"); i >= 0 {
			b[i+3] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("there is no payload in the store")
}

// files lists a folder.
func files(t *testing.T, folder string) (list string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list += e.Name() + " "
	}
	return list
}

// fetch reads a page of the console.
func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
