package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// connect sends the CONNECT of a client called x and reads the CONNACK.
func connect(address string) ([]byte, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x")); err != nil {
		return nil, err
	}
	answer := make([]byte, 4)
	_, err = io.ReadFull(c, answer)
	return answer, err
}

func TestEverybodyIsLetIn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, address, 100) }()
	var answer []byte
	for deadline := time.Now().Add(10 * time.Second); ; {
		if answer, err = connect(address); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if string(answer) != "\x20\x02\x00\x00" {
		t.Errorf("CONNECT was answered with % x, %v", answer, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
