package console_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

// loop is a wire on which what is sent comes back.
type loop struct{ sent chan []byte }

func (l loop) Tap(ctx context.Context, device string, write func(console.Traffic) error) error {
	if device != "scale" {
		return errors.New("there is no such device")
	}
	if err := write(console.Traffic{}); err != nil {
		return err
	}
	select {
	case b := <-l.sent:
		return write(console.NewTraffic(time.Unix(5, 0).UTC(), true, b, 2))
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l loop) Record(_ context.Context, device string, write func([]byte) error) error {
	if device != "scale" {
		return errors.New("there is no such device")
	}
	return write([]byte("{}\n"))
}

func (l loop) Send(_ context.Context, device string, b []byte) error {
	if device != "scale" {
		return errors.New("there is no such device")
	}
	l.sent <- b
	return nil
}

func TestWire(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := console.New(console.Options{
		Listener: ln, Source: house{}, Metrics: http.NotFoundHandler(),
		Ready: func() error { return nil }, Wire: loop{make(chan []byte, 1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
	}()
	base := "http://" + ln.Addr().String() + "/api/v1/devices/"

	tapped, err := client.Get(base + "scale/wire")
	if err != nil {
		t.Fatal(err)
	}
	defer tapped.Body.Close()
	for _, c := range []struct{ device, body, want string }{
		{"scale", "\x02W?\x03", "204 No Content: "},
		{"scale", "", "422 Unprocessable Entity: the body is empty: it is what is sent"},
		{"scale", strings.Repeat("x", 65<<10), "413 Request Entity Too Large: the body cannot be read, or is over 64 KiB"},
		{"lamp", "x", "409 Conflict: there is no such device"},
	} {
		answer, err := client.Post(base+c.device+"/wire", "application/octet-stream", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if got := answer.Status + ": " + strings.TrimSpace(string(body)); err != nil || got != c.want {
			t.Errorf("%s: want %q, got %q, %v", c.device, c.want, got, err)
		}
		_ = answer.Body.Close()
	}
	recorded, err := client.Get(base + "scale/recording")
	if err != nil {
		t.Fatal(err)
	}
	defer recorded.Body.Close()
	if b, err := io.ReadAll(recorded.Body); string(b) != "{}\n" || err != nil {
		t.Errorf("want the lines of the recording, got %q, %v", b, err)
	}
	line, err := bufio.NewReader(tapped.Body).ReadString('\n')
	want := `{"at":"1970-01-01T00:00:05Z","sent":true,"hex":"02573f03","text":".W?.","lost":2}` + "\n"
	if err != nil || line != want {
		t.Errorf("want %s, got %s, %v", want, line, err)
	}
	none, err := client.Get(base + "lamp/wire")
	if err != nil {
		t.Fatal(err)
	}
	defer none.Body.Close()
	if none.StatusCode != http.StatusConflict {
		t.Errorf("want 409 for a device that is not there, got %s", none.Status)
	}
}
