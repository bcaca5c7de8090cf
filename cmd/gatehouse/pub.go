package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// maxLine is the longest line that is published, in bytes.
const maxLine = 16 << 20

type pubFlags struct {
	server serverFlags
	qos    uint8
	retain bool
	lines  bool
}

func newPub() *cobra.Command {
	var f pubFlags
	cmd := &cobra.Command{
		Use:   "pub TOPIC [PAYLOAD]",
		Short: "Publish a message",
		Long:  "Publish a message. Without PAYLOAD it is read from standard input, as a whole or, with --lines, a message a line.",
		Example: `  gatehouse pub home/hall/light/set '{"on": true}'
  gatehouse pub -q 1 -r home/mode night`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.server.add(cmd)
	cmd.Flags().Uint8VarP(&f.qos, "qos", "q", 0, "quality of service: 0, 1 or 2")
	cmd.Flags().BoolVarP(&f.retain, "retain", "r", false, "retain the message; an empty payload clears what is retained")
	cmd.Flags().BoolVarP(&f.lines, "lines", "l", false, "publish each line of standard input")
	return cmd
}

func (f *pubFlags) run(cmd *cobra.Command, args []string) error {
	if !topic.ValidName(args[0]) {
		return fmt.Errorf("%q is not a topic name: it must be 1 to 65535 bytes of UTF-8, without + and #", args[0])
	}
	if f.qos > 2 {
		return fmt.Errorf("quality of service %d is not 0, 1 or 2", f.qos)
	}
	if f.lines && len(args) == 2 {
		return errors.New("--lines reads the payloads from standard input: leave out PAYLOAD")
	}
	// A read of standard input cannot be interrupted, so a signal ends the program. One
	// that came before has ended the context, which dial heeds.
	signal.Reset(os.Interrupt, syscall.SIGTERM)
	c, err := f.server.dial(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	pinged := make(chan struct{})
	go func() { // standard input may take its time
		defer close(pinged)
		c.ping(ctx)
	}()
	defer func() {
		cancel()
		<-pinged
	}()
	m := message.Message{Topic: args[0], QoS: message.QoS(f.qos), Retain: f.retain}
	switch {
	case len(args) == 2:
		m.Payload = []byte(args[1])
	case f.lines:
		return publishLines(c, m, cmd.InOrStdin())
	default:
		if m.Payload, err = io.ReadAll(cmd.InOrStdin()); err != nil {
			return err
		}
	}
	return c.publish(m)
}

func publishLines(c *client, m message.Message, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		m.Payload = lines.Bytes()
		if err := c.publish(m); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", n, maxLine)
	}
	return lines.Err()
}
