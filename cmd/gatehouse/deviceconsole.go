package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

// lineEnds are what may be sent behind a line that is typed.
var lineEnds = map[string]string{"none": "", "cr": "\r", "lf": "\n", "crlf": "\r\n"}

// wireFlags say how a console sends.
type wireFlags struct {
	*deviceFlags
	device string
	end    string
	hex    bool
	linger time.Duration
}

func (f *deviceFlags) wire() *cobra.Command {
	w := wireFlags{deviceFlags: f}
	cmd := &cobra.Command{
		Use:   "console NAME",
		Short: "Show what goes over the wire of a device of the running gateway, and send on it",
		Long: `Show what goes over the wire of a device of the running gateway, both ways, with the time, in
hexadecimal and as text, while the gateway goes on using it. A line that is typed is sent, in
the device's turn. Ctrl-C ends it, and so does the end of the input, --linger later.

The gateway lets only those do it who may open the socket in its data folder: say --data.`,
		Example: `  gatehouse device console --data /var/lib/gatehouse scale
  gatehouse device console --data /var/lib/gatehouse --eol cr scale
  echo "02 57 3f 03" | gatehouse device console --data /var/lib/gatehouse --hex scale`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, known := lineEnds[w.end]; !known {
				return fmt.Errorf("--eol %s: it is none, cr, lf or crlf", w.end)
			}
			w.device = args[0]
			return w.run(cmd)
		},
	}
	cmd.Flags().StringVar(&w.end, "eol", "lf", "what is sent behind a line: none, cr, lf, crlf")
	cmd.Flags().BoolVar(&w.hex, "hex", false, "lines are bytes in hexadecimal, and nothing is sent behind them")
	cmd.Flags().DurationVar(&w.linger, "linger", time.Second, "how long to listen on when the input has ended")
	return f.running(cmd)
}

// run shows the wire until the user, the input or the wire ends.
func (w *wireFlags) run(cmd *cobra.Command) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stands, tapped := make(chan struct{}), make(chan error, 1)
	go func() { tapped <- w.tap(ctx, cmd.OutOrStdout(), stands) }()
	select {
	case <-stands:
	case err := <-tapped:
		return err
	}
	lines := make(chan []byte)
	// A read of a terminal cannot be interrupted: it ends with the program.
	go readLines(ctx, cmd.InOrStdin(), lines)
	var over <-chan time.Time
	for {
		select {
		case line, more := <-lines:
			if !more {
				lines, over = nil, time.After(w.linger)
				continue
			}
			if err := w.send(ctx, line); err != nil && ctx.Err() == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "not sent: %v\n", err)
			}
		case <-over:
			cancel()
			over = nil
		case err := <-tapped:
			if ctx.Err() == nil && err == nil {
				return fmt.Errorf("the wire of %q is gone", w.device)
			}
			if ctx.Err() != nil {
				return nil // as was wished
			}
			return err
		}
	}
}

// readLines hands on the lines of the input, and closes the channel at its end.
func readLines(ctx context.Context, in io.Reader, lines chan<- []byte) {
	defer close(lines)
	s := bufio.NewScanner(in)
	for s.Scan() {
		select {
		case lines <- bytes.Clone(s.Bytes()):
		case <-ctx.Done():
			return
		}
	}
}

func (w *wireFlags) path() string { return "devices/" + url.PathEscape(w.device) + "/wire" }

// tap shows what goes over the wire until ctx ends or the wire does.
func (w *wireFlags) tap(ctx context.Context, out io.Writer, stands chan<- struct{}) error {
	return w.ask(ctx, w.path(), func(body io.Reader) error {
		close(stands)
		for dec := json.NewDecoder(body); ; {
			var t console.Traffic
			if err := dec.Decode(&t); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := showTraffic(out, &t); err != nil {
				return err
			}
		}
	})
}

// showTraffic shows a piece of what went over the wire, 16 bytes a line.
func showTraffic(out io.Writer, t *console.Traffic) error {
	const width = 16
	way := "<"
	if t.Sent {
		way = ">"
	}
	if t.Lost > 0 {
		if _, err := fmt.Fprintf(out, "(%d pieces came too fast to be shown)\n", t.Lost); err != nil {
			return err
		}
	}
	raw, err := hex.DecodeString(t.Hex)
	if err != nil {
		return fmt.Errorf("the gateway tells of bytes that are not in hexadecimal: %w", err)
	}
	for at := 0; at < len(raw); at += width {
		end := min(at+width, len(raw))
		if _, err := fmt.Fprintf(out, "%s %s  %-47s  %s\n", t.At.Local().Format("15:04:05.000"), way, fmt.Sprintf("% x", raw[at:end]), t.Text[min(at, len(t.Text)):min(end, len(t.Text))]); err != nil {
			return err
		}
	}
	return nil
}

// send sends one line of the input.
func (w *wireFlags) send(ctx context.Context, line []byte) error {
	if w.hex {
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(line)), ""))
		if err != nil {
			return fmt.Errorf("%q is not bytes in hexadecimal, such as \"02 57 3f 03\"", line)
		}
		line = b
	} else {
		line = append(line, lineEnds[w.end]...)
	}
	if len(line) == 0 {
		return nil
	}
	return w.request(ctx, http.MethodPost, w.path(), bytes.NewReader(line), func(io.Reader) error { return nil })
}
