package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

func newDevice() *cobra.Command {
	var f deviceFlags
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Look at devices, find them and try them",
	}
	cmd.AddCommand(f.list(), f.show(), f.read(), f.write(), f.raw(), f.wire(), f.record(), f.scan(), newDeviceReplay(), newDevicePorts(), newDeviceProfile())
	return cmd
}

// deviceFlags say which gateway a command asks.
type deviceFlags struct{ rulesFlags }

// running adds the flags of commands that ask the running gateway.
func (f *deviceFlags) running(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.data, "data", os.Getenv("STATE_DIRECTORY"), "data folder of the gateway (default: $STATE_DIRECTORY)")
	return f.api(cmd)
}

// devices asks the running gateway for its devices.
func (f *deviceFlags) devices(ctx context.Context) (devices []console.Device, err error) {
	return devices, f.ask(ctx, "devices", func(body io.Reader) error { return json.NewDecoder(body).Decode(&devices) })
}

// device asks the running gateway for one of its devices.
func (f *deviceFlags) device(ctx context.Context, name string) (console.Device, error) {
	all, err := f.devices(ctx)
	if err != nil {
		return console.Device{}, err
	}
	names := make([]string, len(all))
	for i := range all {
		if all[i].Name == name {
			return all[i], nil
		}
		names[i] = all[i].Name
	}
	if len(names) == 0 {
		return console.Device{}, fmt.Errorf("there is no device %q: the gateway has none", name)
	}
	return console.Device{}, fmt.Errorf("there is no device %q; there are %s", name, strings.Join(names, ", "))
}

func (f *deviceFlags) list() *cobra.Command {
	return f.running(&cobra.Command{
		Use:   "list",
		Short: "List the devices of the running gateway with their state",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := f.devices(cmd.Context())
			if err != nil {
				return err
			}
			return listDevices(cmd.OutOrStdout(), devices)
		},
	})
}

func listDevices(out io.Writer, devices []console.Device) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "DEVICE\tSTATE\tFOR\tGOOD\tDRIVER\tTOPIC\tREMARK")
	for i := range devices {
		d := &devices[i]
		good := 0
		for k := range d.Points {
			if d.Points[k].Quality == "good" {
				good++
			}
		}
		remark := d.Reason
		if d.Error != "" {
			remark = "its file is not right: " + d.Error
		}
		remark, _, _ = strings.Cut(remark, "\n")
		fmt.Fprintf(table, "%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", d.Name, state(d), ago(d.Since), good, len(d.Points), d.Driver, d.Topic, remark)
	}
	return table.Flush()
}

func state(d *console.Device) string {
	switch {
	case d.Driver == "":
		return "broken"
	case d.Online:
		return "online"
	}
	return "offline"
}

// ago is how long ago something was, short enough for a column.
func ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	d := time.Since(at)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", max(0, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func (f *deviceFlags) show() *cobra.Command {
	return f.running(&cobra.Command{
		Use:   "show NAME",
		Short: "Show a device of the running gateway: state, points with quality and age, counters",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := f.device(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return showDevice(cmd.OutOrStdout(), &d)
		},
	})
}

func showDevice(out io.Writer, d *console.Device) error {
	fmt.Fprintf(out, "%s is %s for %s, driver %s, topic %s\n", d.Name, state(d), ago(d.Since), d.Driver, d.Topic)
	for _, line := range []struct{ what, text string }{
		{"because", d.Reason}, {"its file is not right, it runs by the version before", d.Error}, {"last not understood", d.LastMalformed},
	} {
		if line.text != "" {
			fmt.Fprintf(out, "%s: %s\n", line.what, line.text)
		}
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "POINT\tVALUE\tUNIT\tQUALITY\tAGE\tREMARK")
	for i := range d.Points {
		p := &d.Points[i]
		remark := p.Error
		if remark == "" && p.Writable {
			remark = "writable"
			if p.Confirm {
				remark = "writable with --confirm"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Value, p.Unit, p.Quality, ago(p.At), remark)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	lines := append(counted("", d.Counters), onTheWire(d)...)
	if len(lines) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(lines, "\n"))
	}
	return nil
}

// onTheWire lists what the driver counted, if it was anything, and how long the device
// takes.
func onTheWire(d *console.Device) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(d.DriverCounters)) {
		if n := d.DriverCounters[name]; n > 0 {
			lines = append(lines, fmt.Sprintf("driver.%s: %d", name, n))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Gauges)) {
		lines = append(lines, fmt.Sprintf("driver.%s: %v", name, d.Gauges[name]))
	}
	for _, l := range []struct {
		of   string
		took *console.Latency
	}{{"reads", d.ReadLatency}, {"requests", d.ExchangeLatency}} {
		if t := l.took; t != nil && t.Count > 0 {
			lines = append(lines, fmt.Sprintf("%s took (ms): half %.1f, 95 %% %.1f, 99 %% %.1f, most %.1f", l.of, t.P50, t.P95, t.P99, t.Max))
		}
	}
	return lines
}

// counted lists the counters that are not zero, by name.
func counted(prefix string, counters any) []string {
	switch c := counters.(type) {
	case map[string]any:
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(c)) {
			lines = append(lines, counted(strings.TrimPrefix(prefix+"."+name, "."), c[name])...)
		}
		return lines
	case nil:
	case float64:
		if c != 0 {
			return []string{fmt.Sprintf("%s: %v", prefix, c)}
		}
	default:
		if text := fmt.Sprint(c); text != "" && text != "[]" {
			return []string{prefix + ": " + text}
		}
	}
	return nil
}
