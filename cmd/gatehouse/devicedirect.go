package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
)

// registerHelp tells how registers are written on the command line.
const registerHelp = `A register is TABLE:ADDRESS[:TYPE[:ORDER]][:KEY=VALUE...], in the words of a device file:
coil:3, discrete:0, input:0:int16:scale=0.1, holding:100:float32:CDAB. With --profile it is
the name of one of the profile's points; none is all of them.`

// directFlags lead to a Modbus device without a gateway, and to what it has.
type directFlags struct {
	placeFlags
	unit    int
	profile string
}

func (f *directFlags) add(cmd *cobra.Command) {
	f.line(cmd)
	cmd.Flags().IntVar(&f.unit, "unit", 1, "unit identifier")
	cmd.Flags().StringVar(&f.profile, "profile", "", "profile of the device; `gatehouse device profile list` names them")
}

// file is a device file for the registers; their names are what was typed.
func (f *directFlags) file(registers []string, writable bool) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "driver: modbus\nunit: %d\ntimeout: %v\n%s", f.unit, f.timeout, f.keys(f.serial))
	if f.profile != "" {
		fmt.Fprintf(&b, "profile: %s\n", strconv.Quote(f.profile))
		if len(registers) > 0 {
			fmt.Fprintf(&b, "only: [%s]\n", quoted(registers))
		}
		return b.String(), nil
	}
	if len(registers) == 0 {
		return "", errors.New("which registers? For example holding:100:float32:CDAB")
	}
	b.WriteString("points:\n")
	for _, r := range registers {
		keys, err := registerKeys(r)
		if err != nil {
			return "", err
		}
		if writable {
			keys += ", writable: true"
		}
		fmt.Fprintf(&b, "  %s: {%s}\n", strconv.Quote(r), keys)
	}
	return b.String(), nil
}

func quoted(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = strconv.Quote(w)
	}
	return strings.Join(all, ", ")
}

// registerKeys turns holding:100:float32:CDAB:scale=0.1 into the keys of a point.
func registerKeys(register string) (string, error) {
	parts := strings.Split(register, ":")
	if len(parts) < 2 || !slices.Contains([]string{"coil", "discrete", "input", "holding"}, parts[0]) {
		return "", fmt.Errorf("%q is not a register such as holding:100 or input:0:int16", register)
	}
	keys := []string{parts[0] + ": " + parts[1]}
	names := []string{"type", "order"}
	for _, part := range parts[2:] {
		key, value, named := strings.Cut(part, "=")
		if !named && len(names) > 0 {
			key, value, names = names[0], part, names[1:]
		} else if !named {
			return "", fmt.Errorf("%q: what is %q, after type and order? Other keys are KEY=VALUE", register, part)
		}
		keys = append(keys, key+": "+value)
	}
	return strings.Join(keys, ", "), nil
}

// modbusDriver is the driver without a gateway.
func modbusDriver() (*modbus.Driver, error) {
	return modbus.New(modbus.Options{OpenSerial: gateway.OpenSerial, Profiles: profiles.FS()})
}

// open opens the device.
func (f *directFlags) open(ctx context.Context, registers []string, writable bool) (drivers.Device, error) {
	text, err := f.file(registers, writable)
	if err != nil {
		return nil, err
	}
	cfg, err := drivers.ParseConfig("device", "command line", []byte(text))
	if err != nil {
		return nil, plain(err)
	}
	driver, err := modbusDriver()
	if err != nil {
		return nil, err
	}
	d, err := driver.Open(ctx, cfg)
	return d, portHint(plain(err))
}

// plain takes the place in a file away from an error that is about the command line.
func plain(err error) error {
	var at *drivers.ConfigError
	if errors.As(err, &at) {
		return errors.New(at.Msg)
	}
	return err
}

// read reads registers and prints what they are.
func (f *directFlags) read(ctx context.Context, out io.Writer, registers []string) (err error) {
	d, err := f.open(ctx, registers, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return printReadings(ctx, out, d)
}

func printReadings(ctx context.Context, out io.Writer, d drivers.Device) error {
	var names []string
	units := make(map[string]string)
	for _, p := range d.Points() {
		names = append(names, p.Name)
		units[p.Name] = p.Unit
	}
	readings, err := d.Read(ctx, names)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	bad := len(names) - len(readings)
	for _, r := range readings {
		if r.Quality != drivers.Good {
			bad++
			fmt.Fprintf(table, "%s\t-\t%v\n", r.Point, r.Err)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.Point, r.Value, units[r.Point])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d points have no good value", bad, len(names))
	}
	return nil
}

// write writes one register and reads it back.
func (f *directFlags) write(ctx context.Context, out io.Writer, register, value string) (err error) {
	v, err := drivers.ParseValue([]byte(value))
	if errors.Is(err, drivers.ErrNotJSON) {
		v, err = drivers.TextValue(value), nil
	}
	if err != nil {
		return err
	}
	d, err := f.open(ctx, []string{register}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Write(ctx, register, v); err != nil {
		return err
	}
	return printReadings(ctx, out, d)
}
