package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// placeFlags lead to Modbus devices without a gateway, in the words of a device file.
type placeFlags struct {
	tcp, tls, rtuTCP, asciiTCP string
	secure                     modbus.TLSConfig    // of tls
	serial                     modbus.SerialConfig // what is zero is left to the profile, or found out
	timeout                    time.Duration
}

// The flags that go with only one way to a device.
var (
	tlsFlags    = []string{"ca", "certificate", "key", "server-name"}
	serialFlags = []string{"baud", "parity", "data-bits", "stop-bits", "mode"}
)

func (f *placeFlags) line(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.tcp, "tcp", "", "ask a Modbus TCP device without a gateway: HOST or HOST:PORT")
	flags.StringVar(&f.tls, "tls", "", "ask a Modbus TCP device behind TLS: HOST or HOST:PORT (default port 802)")
	flags.StringVar(&f.secure.CA, "ca", "", "PEM file that the certificate of --tls is verified by (default: what the system trusts)")
	flags.StringVar(&f.secure.Certificate, "certificate", "", "PEM file of the certificate to show the device of --tls")
	flags.StringVar(&f.secure.Key, "key", "", "PEM file of the key of --certificate")
	flags.StringVar(&f.secure.ServerName, "server-name", "", "what the certificate of --tls must name (default: the host)")
	flags.StringVar(&f.rtuTCP, "rtu-tcp", "", "ask a Modbus RTU device behind a serial device server: HOST or HOST:PORT")
	flags.StringVar(&f.asciiTCP, "ascii-tcp", "", "ask a Modbus ASCII device behind a serial device server: HOST or HOST:PORT")
	flags.StringVar(&f.serial.Port, "port", "", "ask a Modbus RTU or ASCII device without a gateway: the serial port")
	flags.StringVar(&f.serial.Mode, "mode", "", "mode of --port: rtu or ascii (default: rtu)")
	flags.IntVar(&f.serial.Baud, "baud", 0, "baud rate of --port (default: that of --profile, else 19200)")
	flags.StringVar(&f.serial.Parity, "parity", "", "parity of --port: none, even or odd (default: that of --profile, else even)")
	flags.IntVar(&f.serial.DataBits, "data-bits", 0, "data bits of --port (default: 8; in mode ascii 7)")
	flags.IntVar(&f.serial.StopBits, "stop-bits", 0, "stop bits of --port (default: that of --profile, else 1)")
	flags.DurationVar(&f.timeout, "timeout", time.Second, "how long a device may take to answer")
	cmd.MarkFlagsMutuallyExclusive("tcp", "tls", "rtu-tcp", "ascii-tcp", "port")
	// Flags of another way to the device would be passed over in silence.
	cmd.PreRunE = func(*cobra.Command, []string) error {
		for _, g := range []struct {
			given bool
			of    string
			names []string
		}{{f.tls != "", "--tls", tlsFlags}, {f.serial.Port != "", "--port", serialFlags}} {
			for _, name := range g.names {
				if !g.given && flags.Changed(name) {
					return fmt.Errorf("--%s is for %s", name, g.of)
				}
			}
		}
		return f.check()
	}
}

// check judges what has one meaning only in a device file, and makes paths absolute:
// the device file that a scan prints is somewhere else.
func (f *placeFlags) check() (err error) {
	ascii := f.serial.Mode == "ascii"
	switch bits := f.serial.DataBits; {
	case !ascii && f.serial.Mode != "" && f.serial.Mode != "rtu":
		return fmt.Errorf("--mode must be rtu or ascii, not %q", f.serial.Mode)
	case ascii && bits != 0 && bits != 7 && bits != 8:
		return fmt.Errorf("--data-bits must be 7 or 8, not %d", bits)
	case !ascii && bits != 0 && bits != 8:
		return fmt.Errorf("--data-bits must be 8, not %d: only --mode ascii has others", bits)
	}
	for _, path := range []*string{&f.secure.CA, &f.secure.Certificate, &f.secure.Key} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *placeFlags) given() bool { return f.address() || f.serial.Port != "" }

// address reports whether the devices are behind an address.
func (f *placeFlags) address() bool { return f.tcp+f.tls+f.rtuTCP+f.asciiTCP != "" }

// onLine reports whether units are those of a line: 1 to 247.
func (f *placeFlags) onLine() bool { return f.tcp+f.tls == "" }

// target is what a client asks; of a serial port, with these settings.
func (f *placeFlags) target(line modbus.SerialConfig) modbus.Target {
	return modbus.Target{
		TCP: f.tcp, TLS: f.tls, RTUTCP: f.rtuTCP, ASCIITCP: f.asciiTCP, Serial: line, Secure: f.secure, Timeout: f.timeout,
	}
}

// dial returns a client of what the flags lead to.
func (f *placeFlags) dial() (*modbus.Client, error) {
	if !f.given() {
		return nil, errors.New("which device? Give --tcp, --tls, --rtu-tcp, --ascii-tcp or --port")
	}
	driver, err := modbusDriver()
	if err != nil {
		return nil, err
	}
	return driver.Dial(f.target(f.serial))
}

// keys are the line of a device file that leads to the devices; of a serial port, with
// these settings.
func (f *placeFlags) keys(line modbus.SerialConfig) string {
	for _, stream := range []struct{ key, address string }{{"tcp", f.tcp}, {"rtu_tcp", f.rtuTCP}, {"ascii_tcp", f.asciiTCP}} {
		if stream.address != "" {
			return stream.key + ": " + strconv.Quote(stream.address) + "\n"
		}
	}
	if f.tls != "" {
		return "tls: {" + keyed("address", f.tls, "ca", f.secure.CA, "certificate", f.secure.Certificate,
			"key", f.secure.Key, "server_name", f.secure.ServerName) + "}\n"
	}
	return "serial: {" + keyed("port", line.Port, "mode", line.Mode, "baud", line.Baud, "parity", line.Parity,
		"data_bits", line.DataBits, "stop_bits", line.StopBits) + "}\n"
}

// keyed are the keys with their values, of pairs, that are not zero.
func keyed(pairs ...any) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case int:
			if v != 0 {
				out = append(out, fmt.Sprintf("%s: %d", pairs[i], v))
			}
		case string:
			if v != "" {
				out = append(out, fmt.Sprintf("%s: %q", pairs[i], v))
			}
		}
	}
	return strings.Join(out, ", ")
}
