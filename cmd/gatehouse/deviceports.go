package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers/serial"
)

func newDevicePorts() *cobra.Command {
	return &cobra.Command{
		Use:   "ports",
		Short: "List the serial ports of this machine, by the names that device files best give them",
		Long: `List the serial ports of this machine. None is opened, so that what is connected to them
notices nothing. The first column is what "port:" in a device file best says: a name that
stays when the adapter is pulled out and put in again, where there is one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ports, err := serial.Ports()
			if err != nil {
				return err
			}
			return listPorts(cmd.OutOrStdout(), ports)
		},
	}
}

func listPorts(out io.Writer, ports []serial.PortInfo) error {
	if len(ports) == 0 {
		_, err := fmt.Fprintln(out, "there is no serial port")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "PORT\tNOW\tUSB\tDRIVER\tWHAT IT SAYS IT IS")
	for i := range ports {
		p := &ports[i]
		usb := "-"
		if p.VID != "" {
			usb = p.VID + ":" + p.PID
		}
		what := strings.Join(strings.Fields(p.Manufacturer+" "+p.Product+" "+p.Serial), " ")
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", p.Lasting, p.Name, usb, p.Driver, what)
	}
	return table.Flush()
}
