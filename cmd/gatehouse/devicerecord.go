package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// wireRecordFlags are those of `device record`.
type wireRecordFlags struct {
	*deviceFlags
	device string
	out    string
	size   string
	during time.Duration
}

func (f *deviceFlags) record() *cobra.Command {
	r := wireRecordFlags{deviceFlags: f}
	cmd := &cobra.Command{
		Use:   "record NAME -o FILE",
		Short: "Record what goes over the wire of a device of the running gateway, for device replay",
		Long: `Record what goes over the wire of a device of the running gateway, both ways, with the
time, while the gateway goes on using it. A Modbus device is recorded while it does not
answer, too. It ends when it is interrupted, when the file has its size, or after --for.

A line of the file is a piece of traffic, in JSON; the first one says what the wire is.
gatehouse device replay makes a device of it. What devices say may be private: look at
the file before you give it away.

The gateway lets only those do it who may open the socket in its data folder: say --data.`,
		Example: `  gatehouse device record --data /var/lib/gatehouse meter -o meter.jsonl --for 10m
  gatehouse device replay meter.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.device = args[0]
			return r.run(cmd)
		},
	}
	cmd.Flags().StringVarP(&r.out, "out", "o", "", "file to write, which must not be there")
	cmd.Flags().StringVar(&r.size, "max", "64MiB", "largest size of the file")
	cmd.Flags().DurationVar(&r.during, "for", 0, "end after so long; 0 goes on until interrupted")
	_ = cmd.MarkFlagRequired("out") // there is such a flag
	return f.running(cmd)
}

func (f *wireRecordFlags) run(cmd *cobra.Command) error {
	what := "devices/" + url.PathEscape(f.device) + "/recording"
	return recordTo(cmd, recording{
		out: f.out, size: f.size, sizeFlag: "--max", during: f.during, data: f.data,
		ask: func(ctx context.Context, read func(io.Reader) error) error { return f.ask(ctx, what, read) },
	})
}

// recording is lines that the gateway streams into a file.
type recording struct {
	out            string // which must not be there
	size, sizeFlag string // the largest size of the file
	during         time.Duration
	data           string // the gateway's data folder
	ask            func(ctx context.Context, read func(io.Reader) error) error
	end            func() []byte // the last line; nil is none
}

// recordTo writes a recording until it is interrupted, has its size or is long enough.
func recordTo(cmd *cobra.Command, r recording) (err error) {
	size, err := parseSize(r.size)
	if err != nil {
		return fmt.Errorf("%s: %w", r.sizeFlag, err)
	}
	if r.data == "" {
		return errors.New("which gateway? Give its data folder: --data DIR")
	}
	file, err := os.OpenFile(r.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the recording: %w", err)
	}
	defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
	ctx := cmd.Context()
	if r.during > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.during)
		defer cancel()
	}
	to := &recorder{file: file, left: size, told: func() { fmt.Fprintf(cmd.ErrOrStderr(), "recording to %s\n", r.out) }}
	err = r.ask(ctx, to.copy)
	switch {
	case errors.Is(err, errFull), ctx.Err() != nil:
		err = nil
	case err == nil:
		err = errors.New("the gateway ended the recording")
	}
	if to.lines == 0 {
		return errors.Join(err, os.Remove(r.out))
	}
	var wrong error
	if r.end != nil {
		_, wrong = file.Write(r.end())
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d lines, %d bytes\n", to.lines, to.bytes)
	return errors.Join(err, wrong)
}
