package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

type subFlags struct {
	server     serverFlags
	qos        uint8
	count      int
	noRetained bool
}

func newSub() *cobra.Command {
	var f subFlags
	cmd := &cobra.Command{
		Use:   "sub FILTER...",
		Short: "Print the messages that topic filters match",
		Long:  "Print the messages that topic filters match, a line each: the topic, a space, the payload.",
		Example: `  gatehouse sub 'home/#'
  gatehouse sub -n 1 home/hall/door`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.server.add(cmd)
	cmd.Flags().Uint8VarP(&f.qos, "qos", "q", 0, "highest quality of service wanted: 0, 1 or 2")
	cmd.Flags().IntVarP(&f.count, "count", "n", 0, "end after so many messages; 0 goes on until interrupted")
	cmd.Flags().BoolVar(&f.noRetained, "no-retained", false, "leave out messages that were retained before")
	return cmd
}

func (f *subFlags) run(cmd *cobra.Command, filters []string) error {
	for _, filter := range filters {
		if !topic.ValidFilter(filter) {
			return fmt.Errorf("%q is not a topic filter: + must be a whole level, # the whole last level", filter)
		}
	}
	if f.qos > 2 {
		return fmt.Errorf("quality of service %d is not 0, 1 or 2", f.qos)
	}
	if f.count < 0 {
		return fmt.Errorf("count %d is below 0", f.count)
	}
	c, err := f.server.dial(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		c.ping(ctx)
	}()
	err = f.print(c, filters, cmd.OutOrStdout())
	if ctx.Err() != nil {
		err = nil // interrupted, as it should be
	}
	cancel()
	<-pinged
	return err
}

func (f *subFlags) print(c *client, filters []string, out io.Writer) error {
	if err := c.subscribe(filters, message.QoS(f.qos), !f.noRetained); err != nil {
		return err
	}
	for n := 0; f.count == 0 || n < f.count; n++ {
		err := c.next(func(p *packet.Publish) error {
			_, err := fmt.Fprintf(out, "%s %s\n", shown(out, []byte(p.Topic)), shown(out, p.Payload))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shown is a topic or a payload as it is, but on a terminal without what would steer it.
func shown(out io.Writer, text []byte) []byte {
	file, ok := out.(*os.File)
	if !ok {
		return text
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return text
	}
	return bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
