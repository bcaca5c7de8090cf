package main

import (
	"os"
	"testing"
)

// A topic and a payload come from anybody, and a terminal obeys escape sequences.
func TestATerminalIsNotSteered(t *testing.T) {
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, too
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pipe.Close(), other.Close() }()
	const text = "a\x1b[2Jb\t\u009b\n"
	if got := string(shown(terminal, []byte(text))); got != "a\ufffd[2Jb\t\ufffd\ufffd" {
		t.Errorf("a terminal gets %q", got)
	}
	if got := string(shown(other, []byte(text))); got != text {
		t.Errorf("a pipe gets %q", got)
	}
}
