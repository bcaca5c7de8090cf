package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/versions"
)

func (f *rulesFlags) history() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "List the versions of the rules folder that are kept",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, all, err := f.versions()
			if err != nil {
				return err
			}
			return tellHistory(cmd.OutOrStdout(), all)
		},
	}
}

// versions are those that are kept, the newest first: one at least.
func (f *rulesFlags) versions() (*versions.Versions, []versions.Version, error) {
	if f.data == "" {
		return nil, nil, errors.New("which gateway? Give its data folder: --data DIR")
	}
	kept := versions.Open(filepath.Join(f.data, versions.Folder))
	all, err := kept.List()
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no versions of rules are kept in %q: is it the data folder of a gateway?", f.data)
	}
	return kept, all, err
}

func tellHistory(out io.Writer, all []versions.Version) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tIN FORCE SINCE\tFILES\tWHAT CHANGED")
	for i, v := range all {
		before := map[string]string{}
		if i+1 < len(all) {
			before = all[i+1].Files
		}
		what := changes(before, v.Files)
		if i+1 == len(all) {
			what = "the oldest that is kept"
		}
		if len(v.Broken) > 0 {
			what += "; not right: " + strings.Join(v.Broken, ", ")
		}
		fmt.Fprintf(table, "%d\t%s\t%d\t%s\n", v.Number, v.At.Local().Format("2006-01-02 15:04:05"), len(v.Files), what)
	}
	return table.Flush()
}

// changes names the files that came (+), went (-) and changed.
func changes(before, after map[string]string) string {
	const most = 5
	var all []string
	for _, name := range names(before, after) {
		switch old, was := before[name]; {
		case !was:
			all = append(all, "+"+name)
		case after[name] == "":
			all = append(all, "-"+name)
		case old != after[name]:
			all = append(all, name)
		}
	}
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(all, ", ")
}

// names are those of both, in order.
func names[T any](a, b map[string]T) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func (f *rulesFlags) diff() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Show what differs between two versions, or a version and the rules folder",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kept, _, err := f.versions()
			if err != nil {
				return err
			}
			a, err := versionOf(kept, args[0])
			if err != nil {
				return err
			}
			old, err := kept.Texts(a)
			if err != nil {
				return err
			}
			var name string
			var now map[string][]byte
			if len(args) == 2 {
				b, err := versionOf(kept, args[1])
				if err != nil {
					return err
				}
				name = fmt.Sprintf("version %d", b.Number)
				now, err = kept.Texts(b)
				if err != nil {
					return err
				}
			} else if name, now, err = f.folder(); err != nil {
				return err
			}
			diffFiles(cmd.OutOrStdout(), fmt.Sprintf("version %d", a.Number), name, old, now)
			return nil
		},
	}
	return f.configured(cmd)
}

// configured adds the flag of commands that look at the rules folder.
func (f *rulesFlags) configured(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file, which names the rules folder")
	return cmd
}

// folder reads the rules folder of the configuration.
func (f *rulesFlags) folder() (name string, files map[string][]byte, err error) {
	cfg, err := config.Read(f.config, os.Environ())
	if err != nil {
		return "", nil, err
	}
	files, err = versions.Read(cfg.Rules.Folder)
	return cfg.Rules.Folder, files, err
}

func versionOf(kept *versions.Versions, text string) (*versions.Version, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("%q is not the number of a version: see gatehouse rules history", text)
	}
	v, err := kept.Get(n)
	if errors.Is(err, versions.ErrNone) {
		return nil, fmt.Errorf("version %d is not kept: see gatehouse rules history", n)
	}
	return v, err
}

// diffFiles shows the files that differ.
func diffFiles(out io.Writer, oldName, newName string, old, now map[string][]byte) {
	for _, name := range names(old, now) {
		a, b := string(old[name]), string(now[name])
		if a == b && (old[name] == nil) == (now[name] == nil) {
			continue
		}
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			fmt.Fprintf(out, "%s differs\n", name)
			continue
		}
		writeDiff(out, oldName+": "+name, newName+": "+name, a, b)
	}
}

func (f *rulesFlags) rollback() *cobra.Command {
	return f.configured(&cobra.Command{
		Use:   "rollback VERSION",
		Short: "Make the rules folder what it was in a version",
		Long: `Make the rules folder what it was in a version. What it is now is kept as a version
first, so that a rollback can be rolled back. A gateway that runs loads it at once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := f.versions(); err != nil {
				return err
			}
			return versions.Change(cmd.Context(), filepath.Join(f.data, versions.Folder), func(kept *versions.Versions) error {
				return f.goBack(cmd.OutOrStdout(), kept, args[0])
			})
		},
	})
}

func (f *rulesFlags) goBack(out io.Writer, kept *versions.Versions, number string) error {
	to, err := versionOf(kept, number)
	if err != nil {
		return err
	}
	texts, err := kept.Texts(to)
	if err != nil {
		return err
	}
	folder, now, err := f.folder()
	if err != nil {
		return err
	}
	saved, err := kept.Save(now, time.Now(), nil)
	if err != nil {
		return err
	}
	if saved != nil {
		fmt.Fprintf(out, "kept what was there as version %d\n", saved.Number)
	}
	if err := versions.Restore(texts, folder); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is what it was in version %d\n", folder, to.Number)
	return nil
}
