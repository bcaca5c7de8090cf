package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/rules/trial"
)

type recordFlags struct {
	rulesFlags
	out     string
	filters []string
	size    string
	during  time.Duration
}

func newRecord() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record --out FILE",
		Short: "Record what is published to a running gateway, for gatehouse replay",
		Long: `Record what is published to a running gateway, as it comes in, before filters judge it,
and what is retained when the recording begins. It ends when it is interrupted, when it has
its size, or after --for. A line of the file is a message, in JSON.`,
		Example: `  gatehouse record --data /var/lib/gatehouse --out week.jsonl --for 168h
  gatehouse record --data /var/lib/gatehouse --out door.jsonl --filter 'home/+/door' --filter 'home/+/lock'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.record(cmd) },
	}
	cmd.Flags().StringVar(&f.data, "data", os.Getenv("STATE_DIRECTORY"), "data folder of the gateway (default: $STATE_DIRECTORY)")
	cmd.Flags().StringVar(&f.out, "out", "", "file to write, which must not be there")
	cmd.Flags().StringArrayVar(&f.filters, "filter", []string{"#"}, "topic filter of what is recorded; may be given again")
	cmd.Flags().StringVar(&f.size, "size", "64MiB", "largest size of the file")
	cmd.Flags().DurationVar(&f.during, "for", 0, "end after so long; 0 goes on until interrupted")
	_ = cmd.MarkFlagRequired("out") // there is such a flag
	return cmd
}

// parseSize reads "64MiB", "10MB", "5000".
func parseSize(text string) (int64, error) {
	for _, unit := range []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"", 1}} {
		digits, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err == nil && n > 0 && n <= 1<<40/unit.size {
			return n * unit.size, nil
		}
	}
	return 0, fmt.Errorf("%q is not a size such as 64MiB, up to 1024GiB", text)
}

// errFull ends a recording that has its size.
var errFull = errors.New("the recording has its size")

func (f *recordFlags) record(cmd *cobra.Command) error {
	what := "recording?" + url.Values{"filter": f.filters}.Encode()
	return recordTo(cmd, recording{
		out: f.out, size: f.size, sizeFlag: "--size", during: f.during, data: f.data,
		ask: func(ctx context.Context, read func(io.Reader) error) error { return f.ask(ctx, what, read) },
		end: func() []byte {
			end := trial.Entry{At: time.Now().Round(0), End: true}
			return end.Append(nil)
		},
	})
}

// recorder writes whole lines until it has its size.
type recorder struct {
	file  io.Writer
	left  int64
	rest  []byte // of a line that is not whole yet
	lines int
	bytes int64
	told  func() // called when it has begun
}

func (r *recorder) copy(body io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if wrong := r.write(buf[:n]); wrong != nil {
			return wrong
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *recorder) write(b []byte) error {
	r.rest = append(r.rest, b...)
	for {
		at := bytes.IndexByte(r.rest, '\n')
		if at < 0 {
			return nil
		}
		if int64(at)+1 > r.left {
			return errFull
		}
		n, err := r.file.Write(r.rest[:at+1])
		if err != nil {
			return err
		}
		if r.lines == 0 {
			r.told()
		}
		r.rest, r.left, r.bytes, r.lines = r.rest[at+1:], r.left-int64(n), r.bytes+int64(n), r.lines+1
	}
}
