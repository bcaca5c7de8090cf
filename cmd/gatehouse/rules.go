package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
)

func newRules() *cobra.Command {
	var f rulesFlags
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Ask the running gateway about its rules; look at their former versions and go back to one",
	}
	cmd.PersistentFlags().StringVar(&f.data, "data", os.Getenv("STATE_DIRECTORY"), "data folder of the gateway (default: $STATE_DIRECTORY)")
	cmd.AddCommand(f.list(), f.why(), f.history(), f.diff(), f.rollback())
	return cmd
}

type rulesFlags struct {
	data    string
	console string
	config  string
}

// api adds the flag of commands that ask the running gateway.
func (f *rulesFlags) api(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.console, "console", "http://127.0.0.1:8080", "the gateway's console, asked if there is no --data")
	return cmd
}

func (f *rulesFlags) list() *cobra.Command {
	return f.api(&cobra.Command{
		Use:   "list",
		Short: "List the rules with what they did",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := f.files(cmd.Context())
			if err != nil {
				return err
			}
			return listRules(cmd.OutOrStdout(), files)
		},
	})
}

func listRules(out io.Writer, files []console.RuleFile) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tHEARD\tFIRED\tERRORS\tNAME")
	for _, file := range files {
		for _, r := range file.Rules {
			fmt.Fprintf(table, "%s:%d\t%d\t%d\t%d\t%s\n", file.File, r.Line, r.Heard, r.Fired, r.Errors, r.Name)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, file := range files {
		if !file.OK {
			fmt.Fprintf(out, "\nnot in force: %s\n", file.Error)
		}
	}
	return nil
}

func (f *rulesFlags) why() *cobra.Command {
	return f.api(&cobra.Command{
		Use:   "why TOPIC",
		Short: "Tell what the rules that hear a topic did with it, and why",
		Long: `Tell for each rule that hears a topic what its last runs were about, what they looked at,
and why they did or did not fire. The exit code is 1 if no rule hears the topic.`,
		Example: `  gatehouse rules why --data /var/lib/gatehouse home/hall/door`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !topic.ValidName(args[0]) {
				return fmt.Errorf("%q is not a topic", args[0])
			}
			files, err := f.files(cmd.Context())
			if err != nil {
				return err
			}
			if !tellWhy(cmd.OutOrStdout(), files, args[0]) {
				fmt.Fprintf(cmd.OutOrStdout(), "no rule hears %s\n", args[0])
				return errTold
			}
			return nil
		},
	})
}

// tellWhy reports whether a rule hears the topic.
func tellWhy(out io.Writer, files []console.RuleFile, name string) (heard bool) {
	for _, file := range files {
		for _, r := range file.Rules {
			if !hears(r.Filters, name) {
				continue
			}
			heard = true
			fmt.Fprintf(out, "%s:%d: %s (heard %d, fired %d, errors %d)\n", file.File, r.Line, r.Name, r.Heard, r.Fired, r.Errors)
			tellRuns(out, r.Trace, name)
		}
		if !file.OK {
			fmt.Fprintf(out, "%s: its newest version is not in force: %s\n", file.File, file.Error)
		}
	}
	return heard
}

func hears(filters []string, name string) bool {
	for _, filter := range filters {
		if topic.Match(filter, name) {
			return true
		}
	}
	return false
}

// tellRuns tells the runs about a topic, the newest last, and those about none, which
// messages have caused: timers, waits.
func tellRuns(out io.Writer, trace []console.Run, name string) {
	told := false
	for i := len(trace) - 1; i >= 0; i-- {
		run := &trace[i]
		if run.Topic != "" && run.Topic != name {
			continue
		}
		told = true
		what := run.Outcome
		if run.Why != "" {
			what += ": " + run.Why
		}
		trigger := run.Trigger
		if trigger == "" {
			trigger = run.Topic
		}
		fmt.Fprintf(out, "    %s %s: %s (%.0f us)\n", run.At.Local().Format("2006-01-02 15:04:05.000"), trigger, what, run.Micro)
		for _, fact := range run.Facts {
			fmt.Fprintf(out, "        %s: %s\n", fact.What, fact.Value)
		}
	}
	if !told {
		fmt.Fprintf(out, "    none of its last %d runs was about it\n", len(trace))
	}
}

// files asks the running gateway for its rule files.
func (f *rulesFlags) files(ctx context.Context) (files []console.RuleFile, err error) {
	return files, f.ask(ctx, "rules", func(body io.Reader) error { return json.NewDecoder(body).Decode(&files) })
}

// ask asks the API of the running gateway.
func (f *rulesFlags) ask(ctx context.Context, what string, read func(io.Reader) error) error {
	return f.request(ctx, http.MethodGet, what, nil, read)
}

// request talks to the API of the running gateway, on its socket or that of its console.
func (f *rulesFlags) request(ctx context.Context, method, what string, said io.Reader, read func(io.Reader) error) (err error) {
	base, transport := f.console, &http.Transport{}
	if f.data != "" {
		base = "http://localhost"
		path, err := filepath.Abs(filepath.Join(f.data, gateway.APISocketName))
		if err != nil {
			return err
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+"/api/v1/"+what, said)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("cannot ask the gateway: %w (is it running? --data names its data folder, --console its address)", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1024)) // the status says enough
		return fmt.Errorf("the gateway answers %s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return read(answer.Body)
}
