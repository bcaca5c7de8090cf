package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
)

func newCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, the rules, the devices and the plugins' manifests",
		Long: `Check the configuration, the rules, the devices and the plugins' manifests, without
running anything of them. Each error has its file, line and column. The exit code is 1
if there is any. A serial line of which the devices ask for more than fits on it is
warned of.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return check(cmd.Context(), file, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default: safe defaults, folders of the working directory)")
	return cmd
}

func check(ctx context.Context, file string, out, errOut io.Writer) error {
	cfg, err := config.Read(file, os.Environ())
	if err != nil {
		return err
	}
	errs, warnings := gateway.Check(ctx, cfg, gateway.Options{Version: version, Worker: workerCommand()})
	for _, err := range errs {
		if _, err := fmt.Fprintln(errOut, err); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %d", errTold, len(errs))
	}
	for _, said := range warnings {
		if _, err := fmt.Fprintln(errOut, "warning:", said); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}
