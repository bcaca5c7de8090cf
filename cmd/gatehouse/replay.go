package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

type replayFlags struct {
	config string
	rules  string
	old    string
}

func newReplay() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay RECORDING --rules NEW",
		Short: "Show what other rules would have done with what was recorded",
		Long: `Run two folders of rules over a recording, in virtual time, and show what they do that
the others do not: - is what the old rules did, + what the new ones do. The exit code is 1
if there is a difference. Rules begin with nothing remembered but what was retained, and
HTTP requests get no reply.`,
		Example: `  gatehouse replay week.jsonl --rules new/`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.replay(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file, for the rules' place, time zone and folder")
	cmd.Flags().StringVar(&f.rules, "rules", "", "folder of the new rules")
	cmd.Flags().StringVar(&f.old, "old", "", "folder of the old rules (default: the rules folder of the configuration)")
	_ = cmd.MarkFlagRequired("rules") // there is such a flag
	return cmd
}

func (f *replayFlags) replay(ctx context.Context, out io.Writer, name string) error {
	cfg, err := config.Read(f.config, os.Environ())
	if err != nil {
		return err
	}
	if f.old == "" {
		f.old = cfg.Rules.Folder
	}
	for _, folder := range []string{f.old, f.rules} {
		if info, err := os.Stat(folder); err != nil {
			return err
		} else if !info.IsDir() {
			return fmt.Errorf("%s is not a folder of rules", folder)
		}
	}
	var sides [2]*trial.Replayed
	side := func(i int, folder string) trial.Side {
		return func(ctx context.Context, did func(trial.Action) error) error {
			opt := gateway.Options{Version: version, Worker: workerCommand()}
			return gateway.Try(ctx, cfg, opt, func(ctx context.Context, o rules.Options) (err error) {
				sides[i], err = replayed(ctx, o, folder, name, did)
				return err
			})
		}
	}
	differences := differences{out: out}
	if err := trial.Compare(ctx, side(0, f.old), side(1, f.rules), differences.tell); err != nil {
		return err
	}
	old, now := sides[0], sides[1]
	fmt.Fprintf(out, "%d messages in %v: %d actions of the old rules, %d of the new ones, %d differences\n",
		now.Messages, now.To.Sub(now.From).Round(time.Second), old.Actions, now.Actions, differences.n)
	if differences.n > 0 {
		return errTold
	}
	return nil
}

// replayed has one folder of rules hear a recording, which is read as it goes.
func replayed(ctx context.Context, engine rules.Options, folder, name string, did func(trial.Action) error) (r *trial.Replayed, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is read twice: it must be a file", name))
	}
	var wrong error // with the recording
	recording := func(yield func(*trial.Entry, error) bool) {
		for e, err := range trial.Entries(file) {
			if wrong = err; !yield(e, err) {
				return
			}
		}
	}
	r, err = trial.Replay(ctx, trial.Options{Engine: engine, Folder: os.DirFS(folder)}, recording, did)
	switch {
	case wrong != nil:
		return nil, fmt.Errorf("%s: %w", name, wrong)
	case err != nil:
		return nil, fmt.Errorf("the rules in %s: %w", folder, err)
	}
	return r, nil
}

// differences tells them, and counts.
type differences struct {
	out io.Writer
	n   int
	day string
}

func (d *differences) tell(one trial.Difference) error {
	d.n++
	if date := one.At.Format(time.DateOnly); date != d.day {
		d.day = date
		if _, err := fmt.Fprintf(d.out, "@@ %s @@\n", date); err != nil {
			return err
		}
	}
	sign := '-'
	if one.New {
		sign = '+'
	}
	_, err := fmt.Fprintf(d.out, "%c %s %s\n", sign, one.At.Format("15:04:05.000"), one.Text)
	return err
}
