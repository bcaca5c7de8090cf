package serial_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/serial"
)

func TestPseudoIsAPort(t *testing.T) {
	link := filepath.Join(t.TempDir(), "meter")
	if err := os.Symlink("/dev/pts/99999", link); err != nil { // left by a program that was killed
		t.Fatal(err)
	}
	p, err := serial.OpenPseudo(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	_ = p.SetReadTimeout(time.Millisecond)
	b := make([]byte, 100)
	if n, err := p.Read(b); n != 0 || err != nil {
		t.Errorf("want nothing, and no error, while nobody is there, got %d, %v", n, err)
	}
	for range 2 { // it is opened again and again
		port, err := serial.Open(t.Context(), serial.PortConfig{Port: link, Baud: 19200, Parity: "even"})
		if err != nil {
			t.Fatal(err)
		}
		_ = port.SetReadTimeout(10 * time.Second)
		_ = p.SetReadTimeout(10 * time.Second)
		if _, err := port.Write([]byte("\x00\x03\r\n\x04\xff")); err != nil {
			t.Fatal(err)
		}
		got := ""
		for len(got) < 6 {
			n, err := p.Read(b)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			got += string(b[:n])
		}
		if got != "\x00\x03\r\n\x04\xff" {
			t.Errorf("want all bytes as they are, got %q", got)
		}
		if _, err := p.Write([]byte("\r\x11")); err != nil {
			t.Fatal(err)
		}
		got = ""
		for len(got) < 2 {
			n, err := port.Read(b)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			got += string(b[:n])
		}
		if got != "\r\x11" {
			t.Errorf("want all bytes as they are, got %q", got)
		}
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // nobody reads it
		if n, err := p.Write(make([]byte, 8000)); n != 8000 || err != nil {
			t.Errorf("want what nobody reads forgotten, got %d, %v", n, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); err == nil {
		t.Error("want the link gone")
	}
	if _, err := p.Read(b); !errors.Is(err, os.ErrClosed) {
		t.Errorf("want it closed, got %v", err)
	}
}

func TestPseudoLeavesFilesAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serial.OpenPseudo(t.Context(), file); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("want the file in the way told, got %v", err)
	}
	if b, err := os.ReadFile(file); string(b) != "x" || err != nil {
		t.Errorf("want the file as it was, got %q, %v", b, err)
	}
}
