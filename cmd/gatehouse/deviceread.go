package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

func (f *deviceFlags) read() *cobra.Command {
	var direct directFlags
	var last bool
	cmd := f.running(&cobra.Command{
		Use:   "read NAME [POINT...] | read --tcp HOST|--port PORT REGISTER...",
		Short: "Read points of a device of the running gateway, or registers of a Modbus device without a gateway",
		Long: `Read points of a device through the running gateway, which asks the device now, in its turn
on the line; with --last they are as the gateway read them last. Or, with --tcp or --port,
ask a Modbus device itself.

` + registerHelp + `

The exit code is 1 if one of the points has no good value.`,
		Example: `  gatehouse device read --data /var/lib/gatehouse press temperature
  gatehouse device read --tcp 192.168.1.20 --unit 1 holding:100:float32:CDAB coil:3 input:0:int16:scale=0.1
  gatehouse device read --port /dev/ttyUSB0 --profile eastron-sdm630 power voltage_l1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if direct.given() {
				return direct.read(cmd.Context(), cmd.OutOrStdout(), args)
			}
			if len(args) == 0 {
				return errors.New("which device? `gatehouse device list` names them; --tcp and --port ask one without a gateway")
			}
			d, err := f.device(cmd.Context(), args[0])
			if err == nil {
				err = knows(&d, args[1:])
			}
			if err == nil && !last {
				err = f.readNow(cmd.Context(), &d, args[1:])
			}
			if err != nil {
				return err
			}
			return readDevice(cmd.OutOrStdout(), &d, args[1:])
		},
	})
	cmd.Flags().BoolVar(&last, "last", false, "show what the gateway read last, and ask nothing")
	direct.add(cmd)
	return cmd
}

// readNow has the running gateway read points of a device, or all.
func (f *deviceFlags) readNow(ctx context.Context, d *console.Device, names []string) error {
	what := "devices/" + url.PathEscape(d.Name) + "/read?" + url.Values{"point": names}.Encode()
	return f.request(ctx, http.MethodPost, what, nil, func(body io.Reader) error {
		d.Points = nil
		return json.NewDecoder(body).Decode(&d.Points)
	})
}

// knows says which of the names is no point of the device.
func knows(d *console.Device, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(d.Points, func(p console.Point) bool { return p.Name == name }) {
			return fmt.Errorf("device %q has no point %q; `gatehouse device show %s` lists them", d.Name, name, d.Name)
		}
	}
	return nil
}

// readDevice prints the points that are named, or all.
func readDevice(out io.Writer, d *console.Device, names []string) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	bad := 0
	for i := range d.Points {
		p := &d.Points[i]
		if len(names) > 0 && !slices.Contains(names, p.Name) {
			continue
		}
		remark := ""
		if p.Quality != "good" {
			bad++
			remark = "\t" + p.Quality + " for " + ago(p.At)
			if p.Error != "" {
				remark += ": " + p.Error
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s%s\n", p.Name, p.Value, p.Unit, remark)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return errTold
	}
	return nil
}
