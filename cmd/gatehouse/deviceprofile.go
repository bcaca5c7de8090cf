package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
)

func newDeviceProfile() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "List the profiles, which are the register maps of real devices, or show one",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "list [WORD...]",
		Short: "List the profiles whose name, maker, models or kind have all the words",
		RunE: func(cmd *cobra.Command, words []string) error {
			return listProfiles(cmd.OutOrStdout(), words)
		},
	}, &cobra.Command{
		Use:   "show NAME",
		Short: "Show a profile: sources, notes, points; and a device file that uses it",
		Args:  cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return profileNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return showProfile(cmd.OutOrStdout(), args[0])
		},
	})
	return cmd
}

func listProfiles(out io.Writer, words []string) error {
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "PROFILE\tKIND\tPOINTS\tMODELS")
	found := 0
	for i := range all {
		p := &all[i]
		models := p.Vendor + " " + strings.Join(p.Models, ", ")
		if !hasWords(p.Name+" "+p.Kind+" "+models, words) {
			continue
		}
		found++
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", p.Name, p.Kind, p.Points, models)
	}
	if found == 0 {
		return fmt.Errorf("none of the %d profiles has %q", len(all), strings.Join(words, " "))
	}
	return table.Flush()
}

// hasWords reports whether text has every word, in whatever case.
func hasWords(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

func profileNames() []string {
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		return nil // a completion has nobody to tell
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names
}

// profile finds a profile by its name.
func profile(name string) (modbus.Profile, error) {
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		return modbus.Profile{}, err
	}
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return modbus.Profile{}, fmt.Errorf("there is no profile %q; `gatehouse device profile list` names them", name)
}

func showProfile(out io.Writer, name string) error {
	p, err := profile(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n# A device file that uses it, and takes only some of its points:\n#\n", p.Text)
	fmt.Fprintf(out, "# driver: modbus\n# profile: %s\n# %s\n# unit: %d\n# only: [%s]\n", p.Name, profileLine(&p), p.Unit, somePoint(p.Text))
	return nil
}

// profileLine is how a device file reaches the device. Baud and parity are there if the
// profile does not know them, as examples.
func profileLine(p *modbus.Profile) string {
	if p.TCP != 0 {
		return "tcp: 192.168.1.20"
	}
	line := "serial: {port: /dev/ttyUSB0"
	if p.Serial.Baud == 0 {
		line += ", baud: 9600"
	}
	if p.Serial.Parity == "" {
		line += ", parity: none"
	}
	return line + "}"
}

// somePoint is the first point of a profile's text.
func somePoint(text []byte) string {
	_, points, _ := strings.Cut(string(text), "\npoints:\n")
	name, _, _ := strings.Cut(strings.TrimSpace(points), ":")
	return name
}
