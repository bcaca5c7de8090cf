package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
)

// sameInARow is how many units that answer one after the other are taken for one device
// that does not look at the unit.
const sameInARow = 5

// likelyUnits are asked before the settings of a line are known.
var likelyUnits = []uint8{1, 2, 3, 4, 5, 10, 100, 247}

// likelyLines are the settings of serial lines, most likely first.
var likelyLines = []modbus.SerialConfig{
	{Baud: 9600, Parity: "none", StopBits: 1},
	{Baud: 19200, Parity: "even", StopBits: 1},
	{Baud: 9600, Parity: "even", StopBits: 1},
	{Baud: 19200, Parity: "none", StopBits: 1},
	{Baud: 38400, Parity: "none", StopBits: 1},
	{Baud: 115200, Parity: "none", StopBits: 1},
	{Baud: 2400, Parity: "none", StopBits: 1},
	{Baud: 4800, Parity: "none", StopBits: 1},
	{Baud: 38400, Parity: "even", StopBits: 1},
	{Baud: 57600, Parity: "none", StopBits: 1},
	{Baud: 115200, Parity: "even", StopBits: 1},
	{Baud: 9600, Parity: "none", StopBits: 2},
	{Baud: 9600, Parity: "odd", StopBits: 1},
	{Baud: 2400, Parity: "even", StopBits: 1},
	{Baud: 1200, Parity: "none", StopBits: 1},
}

// likelyASCII are the same in ASCII mode, where the standard has seven data bits.
var likelyASCII = []modbus.SerialConfig{
	{Baud: 9600, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 19200, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 9600, Parity: "none", DataBits: 8, StopBits: 1},
	{Baud: 9600, Parity: "none", DataBits: 7, StopBits: 2},
	{Baud: 19200, Parity: "none", DataBits: 8, StopBits: 1},
	{Baud: 9600, Parity: "odd", DataBits: 7, StopBits: 1},
	{Baud: 38400, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 115200, Parity: "none", DataBits: 8, StopBits: 1},
	{Baud: 4800, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 2400, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 115200, Parity: "even", DataBits: 7, StopBits: 1},
	{Baud: 1200, Parity: "even", DataBits: 7, StopBits: 1},
}

func (f *deviceFlags) scan() *cobra.Command {
	var direct directFlags
	var units string
	cmd := &cobra.Command{
		Use:   "scan --tcp HOST|--port PORT",
		Short: "Find Modbus devices on a serial line or behind an address, and print device files for them",
		Long: `Find Modbus devices. On a serial port the speed and parity are tried, the most likely
first, until a unit answers; then all units are asked at these; --mode ascii does so in
ASCII mode. Behind an address the units are asked one after the other. It reads and never
writes.

What a device is, is told by its identification (function 43/14) and by registers that
profiles know. A device file for each is printed; save it in the devices folder.

Stopped (Ctrl-C) it tells what it has found. A port that a running gateway uses is refused.`,
		Example: `  gatehouse device scan --port /dev/ttyUSB0
  gatehouse device scan --port /dev/ttyUSB0 --baud 9600 --parity none --units 1-20
  gatehouse device scan --tcp 192.168.1.20
  gatehouse device scan --tls plc.example --ca ca.pem --certificate gw.pem --key gw.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("timeout") {
				direct.timeout = scanTimeout(&direct)
			}
			s, err := newScan(&direct, units, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err = s.run(cmd.Context()); err != nil && len(s.found) == 0 {
				return err
			}
			return errors.Join(err, s.tell(cmd.OutOrStdout()))
		},
	}
	direct.line(cmd)
	cmd.Flags().Lookup("timeout").DefValue = "200ms on a serial port, else 500ms"
	cmd.Flags().StringVar(&units, "units", "", "units to ask, such as 1-20,100 (default: all)")
	return cmd
}

// scanTimeout is how long a unit may take to answer: a gateway asks its own line first.
func scanTimeout(f *directFlags) time.Duration {
	if !f.address() {
		return 200 * time.Millisecond
	}
	return 500 * time.Millisecond
}

// scan looks for devices.
type scan struct {
	flags    *directFlags
	units    []uint8 // nil is those that are likely, then all
	driver   *modbus.Driver
	profiles []modbus.Profile
	progress io.Writer
	found    []found
	strange  bool // something answered that was no answer
}

func newScan(f *directFlags, units string, progress io.Writer) (*scan, error) {
	if !f.given() {
		return nil, errors.New("where? Give --port, --tcp, --tls, --rtu-tcp or --ascii-tcp; `gatehouse device list` shows what the gateway has")
	}
	s := &scan{flags: f, progress: progress}
	var err error
	if s.units, err = parseUnits(units, f.onLine()); err != nil {
		return nil, err
	}
	if s.profiles, err = modbus.Profiles(profiles.FS()); err != nil {
		return nil, err
	}
	s.driver, err = modbusDriver()
	return s, err
}

// parseUnits reads 1-20,100; nothing is nil.
func parseUnits(text string, line bool) ([]uint8, error) {
	if text == "" {
		return nil, nil
	}
	low, high := 0, 255
	if line {
		low, high = 1, 247
	}
	var units []uint8
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from < low || to > high || from > to {
			return nil, fmt.Errorf("--units must be like 1-20,100, of %d to %d, not %q", low, high, part)
		}
		for u := from; u <= to; u++ {
			units = append(units, uint8(u))
		}
	}
	return units, nil
}

// run scans. That it was stopped is no error.
func (s *scan) run(ctx context.Context) error {
	err := s.lines(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(s.progress, "stopped")
		return nil
	}
	return portHint(err)
}

// lines tries the settings of the line until a unit answers, and then all units.
func (s *scan) lines(ctx context.Context) error {
	if s.flags.address() {
		return s.ask(ctx, modbus.SerialConfig{}, s.chosen(allUnits(!s.flags.onLine())))
	}
	lines := s.wanted()
	units := s.chosen(likelyUnits)
	if len(lines) == 1 {
		units = s.chosen(allUnits(false))
	}
	fmt.Fprintf(s.progress, "%d settings of the line, %d units each: at most %v\n", len(lines), len(units),
		(time.Duration(len(lines)*len(units)) * (s.flags.timeout + 20*time.Millisecond)).Round(time.Second))
	for _, line := range lines {
		if err := s.ask(ctx, line, units); err != nil {
			return err
		}
		if len(s.found) == 0 {
			continue
		}
		if s.units != nil || len(lines) == 1 {
			return nil
		}
		rest := slices.DeleteFunc(allUnits(false), func(u uint8) bool { return slices.Contains(units, u) })
		return s.ask(ctx, line, rest)
	}
	return nil
}

func (s *scan) chosen(otherwise []uint8) []uint8 {
	if s.units != nil {
		return s.units
	}
	return otherwise
}

// allUnits are all that there may be, the likely ones first.
func allUnits(tcp bool) []uint8 {
	units := slices.Clone(likelyUnits)
	last := 247
	if tcp {
		units, last = append(units, 255, 0), 254
	}
	for u := 1; u <= last; u++ {
		if !slices.Contains(units, uint8(u)) {
			units = append(units, uint8(u))
		}
	}
	return units
}

// wanted are the settings that the flags leave open.
func (s *scan) wanted() []modbus.SerialConfig {
	var lines []modbus.SerialConfig
	likely, given := likelyLines, s.flags.serial
	if given.Mode == "ascii" {
		likely = likelyASCII
	}
	for _, l := range likely {
		l.Port, l.Mode = given.Port, given.Mode
		l.Baud = cmp.Or(given.Baud, l.Baud)
		l.Parity = cmp.Or(given.Parity, l.Parity)
		l.DataBits = cmp.Or(given.DataBits, l.DataBits)
		l.StopBits = cmp.Or(given.StopBits, l.StopBits)
		if !slices.Contains(lines, l) {
			lines = append(lines, l)
		}
	}
	return lines
}

// ask asks units on one line.
func (s *scan) ask(ctx context.Context, line modbus.SerialConfig, units []uint8) (err error) {
	c, err := s.driver.Dial(s.flags.target(line))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	begun := time.Now()
	inARow := 0
	for i, unit := range units {
		s.show(line, i, len(units), begun)
		alive, err := s.probe(ctx, c, unit)
		if err != nil {
			return err
		}
		if !alive {
			inARow = 0
			continue
		}
		if inARow++; inARow == sameInARow && s.units == nil && s.flags.address() {
			s.found = s.found[:len(s.found)-sameInARow+2]
			s.found[len(s.found)-1].any = true
			fmt.Fprintln(s.progress, "it answers whatever the unit: taken for one device")
			return nil
		}
		f := found{unit: unit, line: line, onLine: s.flags.onLine()}
		f.look(ctx, c, s.profiles)
		s.found = append(s.found, f)
		fmt.Fprintf(s.progress, "unit %d%s: %s\n", unit, lineName(line), f.name())
	}
	return nil
}

// probe reports whether a unit answers, with whatever.
func (s *scan) probe(ctx context.Context, c *modbus.Client, unit uint8) (bool, error) {
	_, err := c.ReadRegisters(ctx, unit, modbus.ReadHoldingRegisters, 0, 1)
	var refused modbus.Exception
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &refused):
		return refused.Code != modbus.GatewayPath && refused.Code != modbus.GatewayNoResponse, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, modbus.ErrGarbled):
		s.strange = true
		return false, nil
	case errors.Is(err, modbus.ErrSilent):
		return false, nil
	case errors.Is(err, drivers.ErrLost) && unit != 1 && s.flags.address():
		return false, nil // some close the connection when they are asked for another unit
	}
	return false, err
}

// show tells how far it is, on a terminal.
func (s *scan) show(line modbus.SerialConfig, i, n int, begun time.Time) {
	if file, ok := s.progress.(*os.File); !ok || !isTerminal(file) {
		if i == 0 {
			fmt.Fprintf(s.progress, "asking %d units%s\n", n, lineName(line))
		}
		return
	}
	left := ""
	if i > 2 {
		left = fmt.Sprintf(", %v left", (time.Since(begun) / time.Duration(i) * time.Duration(n-i)).Round(time.Second))
	}
	fmt.Fprintf(s.progress, "\r\x1b[Kunit %d of %d%s%s\r", i+1, n, lineName(line), left)
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lineName tells the settings of a serial line.
func lineName(l modbus.SerialConfig) string {
	if l.Port == "" {
		return ""
	}
	data := ""
	if l.DataBits != 0 {
		data = fmt.Sprintf(", %d data bits", l.DataBits)
	}
	return fmt.Sprintf(" at %d baud, parity %s%s, %d stop bits", l.Baud, l.Parity, data, l.StopBits)
}
