package serial_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// wireOf is a recording of a serial device; a piece is its time in ms, > or <, and bytes.
func wireOf(t *testing.T, protocol string, pieces ...string) string {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	head := drivers.RecordingHead{Device: "scale", Program: "gatehouse test", At: at, Wire: drivers.Wire{Protocol: protocol, Timeout: time.Second}}
	b, err := head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		var ms int
		var way string
		if _, err := fmt.Sscanf(p, "%d %1s", &ms, &way); err != nil {
			t.Fatal(p, err)
		}
		_, data, _ := strings.Cut(p, way)
		one := drivers.Traffic{At: at.Add(time.Duration(ms) * time.Millisecond), Sent: way == ">", Data: []byte(data)}
		if b, err = one.AppendRecorded(b); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

func TestReplayAnswersAsTheDeviceDid(t *testing.T) {
	text := wireOf(t, drivers.ProtocolSerial,
		"0 <hello\n",
		"1000 >W?\n", "1100 <1.0\n",
		"2000 >W?\n", "2200 <2.", "2240 <5\n",
		"3000 >W?\n", // not answered
		"5000 >W?\nX\n", "5010 <both\n",
		"6000 >Z\n", "6900 <in time\n", "6940 <and on\n", "8500 <by itself\n", "9000 <again\n",
	)
	r, err := serial.ReadReplay("scale.jsonl", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	s := serial.NewSpeaker(r)
	at := time.Duration(0)
	for _, c := range []struct {
		after time.Duration
		hears string
		says  string
	}{
		{0, "", "hello\n"},
		{50 * time.Millisecond, "W", ""},
		{10 * time.Millisecond, "?\n", ""}, // X may follow
		{110 * time.Millisecond, "", ""},   // silence: it is all
		{199 * time.Millisecond, "", ""},
		{time.Millisecond, "", "2."},
		{40 * time.Millisecond, "", "5\n"},
		{time.Millisecond, "noiseZ\n", ""},
		{899 * time.Millisecond, "", ""},
		{time.Millisecond, "", "in time\n"},
		{40 * time.Millisecond, "", "and on\n"},
		{10 * time.Millisecond, "W?\nX\n", ""},
		{10 * time.Millisecond, "", "both\n"},
		{8500*time.Millisecond - 1371*time.Millisecond, "", "by itself\n"},
		{500 * time.Millisecond, "", "again\n"},
		{time.Millisecond, "", "hello\n"}, // it begins again
	} {
		at += c.after
		s.Hear(c.hears, at)
		if got := s.Due(at); got != c.says {
			t.Errorf("%v: after %q want %q, got %q", at, c.hears, c.says, got)
		}
	}
}

// A device that was recorded is read from its replay at a pseudo-terminal.
func TestReplayAtAPort(t *testing.T) {
	text := wireOf(t, drivers.ProtocolSerial, "0 >T?\n", "20 <t=21.5\n", "500 >T=7\n", "510 <ok\n")
	r, err := serial.ReadReplay("t.jsonl", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "t")
	port, err := serial.OpenPseudo(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx, port, false) }()
	dev := open(t, &wire{path: link}, "format: keyvalue\ntimeout: 10s\npoints: {t: {request: \"T?\\n\", writable: true, write: \"T=${value}\\n\", expect: ok}}\n")
	wantRead(t, dev, "t=21.5", "t")
	if err := dev.Write(t.Context(), "t", drivers.IntValue(7)); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = port.Close()
}

func TestReplaysThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"": "x.jsonl:1: this is no recording of a wire",
		wireOf(t, drivers.ProtocolModbusTCP, "0 >x"): `x.jsonl:1: it is a recording of the protocol "modbus-tcp", not of a serial device`,
		wireOf(t, drivers.ProtocolSerial):            "x.jsonl:1: nothing was recorded",
	} {
		if _, err := serial.ReadReplay("x.jsonl", strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
