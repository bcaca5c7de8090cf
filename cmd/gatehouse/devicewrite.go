package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

// writeFlags are those of `device write`.
type writeFlags struct {
	server  serverFlags
	confirm bool
	wait    time.Duration
}

func (f *deviceFlags) write() *cobra.Command {
	var direct directFlags
	var w writeFlags
	cmd := f.running(&cobra.Command{
		Use:   "write NAME POINT VALUE | write --tcp HOST|--port PORT REGISTER VALUE",
		Short: "Write a point of a device of the running gateway, or a register of a Modbus device without a gateway",
		Long: `Write a point through the running gateway, on its control topic, and tell what became of
it; or, with --tcp or --port, write a register of a Modbus device itself and read it back.

A value is JSON; what is not JSON is text. ` + registerHelp,
		Example: `  gatehouse device write --data /var/lib/gatehouse press fan true
  gatehouse device write --tcp 192.168.1.20 --unit 1 holding:100:float32:CDAB 21.5`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if direct.given() {
				if len(args) != 2 {
					return errors.New("write without a gateway takes a register and a value")
				}
				return direct.write(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
			}
			if len(args) != 3 {
				return errors.New("write takes a device, a point and a value")
			}
			return f.command(cmd, &w, args)
		},
	})
	cmd.Flags().StringVar(&w.server.server, "server", defaultServer, "the gateway's broker, if there is no --data: mqtt://HOST:PORT or unix:///PATH")
	cmd.Flags().StringVar(&w.server.user, "user", "", "user name; the password is in --password-file, or asked for")
	cmd.Flags().StringVar(&w.server.passwordFile, "password-file", "", "file whose first line is the password")
	cmd.Flags().BoolVar(&w.confirm, "confirm", false, "confirm the write of a point that wants it")
	cmd.Flags().DurationVar(&w.wait, "wait", 30*time.Second, "how long to wait for what became of it")
	direct.add(cmd)
	return cmd
}

// command writes a point through the running gateway.
func (f *deviceFlags) command(cmd *cobra.Command, w *writeFlags, args []string) error {
	d, err := f.device(cmd.Context(), args[0])
	if err != nil {
		return err
	}
	if err := writable(&d, args[1]); err != nil {
		return err
	}
	w.server.data = f.data
	c, err := w.server.dial(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	set := d.Topic + "/" + args[1] + "/set"
	if err := c.subscribe([]string{set + "/result"}, message.AtLeastOnce, false); err != nil {
		return err
	}
	m := message.Message{Topic: set, Payload: []byte(args[2]), QoS: message.AtLeastOnce, ResponseTopic: set + "/result"}
	result, err := c.command(m, w.wait)
	if err == nil && result.Confirm != "" && w.confirm {
		m.UserProperties = []message.Property{{Key: "confirm", Value: result.Confirm}}
		result, err = c.command(m, w.wait)
	}
	if err != nil {
		return err
	}
	return result.tell(cmd.OutOrStdout(), args[1])
}

// writable says why a point cannot be written, if it cannot.
func writable(d *console.Device, name string) error {
	var names []string
	for i := range d.Points {
		switch p := &d.Points[i]; {
		case p.Writable:
			names = append(names, p.Name)
			switch {
			case p.Name != name:
			case p.Topic != d.Topic && p.Topic != d.Topic+"/"+name:
				return fmt.Errorf("point %q of device %q shows the topic %q to foreign clients, which alone write it", name, d.Name, p.Topic)
			default:
				return nil
			}
		case p.Name == name:
			return fmt.Errorf("point %q of device %q cannot be written", name, d.Name)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("device %q has no point that can be written", d.Name)
	}
	return fmt.Errorf("device %q has no point %q; those that can be written are %s", d.Name, name, strings.Join(names, ", "))
}

// commandResult is what became of a command.
type commandResult struct {
	OK      bool            `json:"ok"`
	Value   json.RawMessage `json:"value"`
	Warning string          `json:"warning"`
	Error   string          `json:"error"`
	Confirm string          `json:"confirm"`
}

func (r *commandResult) tell(out io.Writer, point string) error {
	switch {
	case r.OK && r.Warning != "":
		fmt.Fprintf(out, "%s is %s now, but %s\n", point, r.Value, r.Warning)
	case r.OK:
		fmt.Fprintf(out, "%s is %s now\n", point, r.Value)
	case r.Confirm != "":
		return fmt.Errorf("%q was not written: it wants a confirmation, give --confirm", point)
	default:
		return fmt.Errorf("%q was not written: %s", point, r.Error)
	}
	return nil
}

// command publishes a command and waits for its result.
func (c *client) command(m message.Message, wait time.Duration) (r commandResult, err error) {
	m.CorrelationData = []byte(rand.Text())
	if err := c.publish(m); err != nil {
		return r, err
	}
	deadline := time.Now().Add(wait)
	for found := false; !found; {
		left := time.Until(deadline)
		if left <= 0 {
			return r, fmt.Errorf("the gateway did not tell within %v what became of it", wait)
		}
		err := c.nextWithin(left, func(p *packet.Publish) error {
			if !bytes.Equal(p.Properties.CorrelationData, m.CorrelationData) {
				return nil // that of another command
			}
			found = true
			return json.Unmarshal(p.Payload, &r)
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return r, fmt.Errorf("cannot tell what became of it: %w", err)
		}
	}
	return r, nil
}
