package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

type testFlags struct {
	config  string
	run     string
	verbose bool
	junit   string
	cover   bool
	timeout time.Duration
}

func newTest() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [FOLDER | FILE.test.yaml]...",
		Short: "Run the tests of rules, in virtual time",
		Long: `Run the tests of rules: files NAME.test.yaml beside the rule files, by default those of
the rules folder. Each test has the real engine for itself, with virtual time: to wait for
a day takes milliseconds. The exit code is 1 if a test fails. See docs/rules.md.`,
		Example: `  gatehouse test scripts/
  gatehouse test --run 'door' -v scripts/door-light.test.yaml
  gatehouse test --junit report.xml --cover`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.test(cmd, args) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file, for the rules' place, time zone and folder")
	cmd.Flags().StringVar(&f.run, "run", "", "run the tests only whose names the regular expression matches")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "name each test, and print what rules log")
	cmd.Flags().StringVar(&f.junit, "junit", "", "write the results to a file, too, as JUnit XML")
	cmd.Flags().BoolVar(&f.cover, "cover", false, "tell which rules never fired, and which conditions were never true or never false")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "longest time that one test may take")
	return cmd
}

// tester runs test files, and keeps what came of them.
type tester struct {
	testFlags
	match *regexp.Regexp
	out   io.Writer
	opt   rules.Options
	files []testedFile
	cover coverage
	fails int
}

// testedFile is one test file with its results.
type testedFile struct {
	name    string // as the user knows it
	took    time.Duration
	results []trial.Result
	err     error // why there are none
}

// testPlace is a test file in a folder of rules.
type testPlace struct{ root, name string }

func (f *testFlags) test(cmd *cobra.Command, args []string) error {
	t := &tester{testFlags: *f, out: cmd.OutOrStdout()}
	var err error
	if t.match, err = regexp.Compile(f.run); err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	cfg, err := config.Read(f.config, os.Environ())
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{cfg.Rules.Folder}
	}
	places, err := testPlaces(args)
	if err != nil {
		return err
	}
	opt := gateway.Options{Version: version, Worker: workerCommand()}
	if f.verbose {
		opt.Log = rulesSay(t.out)
	}
	err = gateway.Try(cmd.Context(), cfg, opt, func(ctx context.Context, o rules.Options) error {
		t.opt = o
		for _, p := range places {
			t.file(ctx, p)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return t.finish()
}

// testPlaces finds the test files that the arguments mean.
func testPlaces(args []string) ([]testPlace, error) {
	var places []testPlace
	for _, arg := range args {
		info, err := os.Stat(arg)
		switch {
		case err != nil:
			return nil, err
		case !info.IsDir() && !strings.HasSuffix(arg, trial.Ending):
			return nil, fmt.Errorf("%s is neither a folder nor a test file (*%s)", arg, trial.Ending)
		case !info.IsDir():
			places = append(places, testPlace{filepath.Dir(arg), filepath.Base(arg)})
			continue
		}
		names, err := trial.Find(os.DirFS(arg))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
		for _, name := range names {
			places = append(places, testPlace{arg, name})
		}
	}
	return places, nil
}

// path is a file of the folder as the user knows it.
func (p testPlace) path(name string) string {
	return filepath.Join(p.root, filepath.FromSlash(name))
}

// file runs the tests of one file and tells what came of them.
func (t *tester) file(ctx context.Context, p testPlace) {
	began := time.Now()
	done := testedFile{name: p.path(p.name)}
	folder := os.DirFS(p.root)
	text, err := fs.ReadFile(folder, p.name)
	if err == nil {
		var f *trial.File
		if f, err = trial.Parse(p.name, text); err == nil {
			done.results = t.tests(ctx, p, folder, f)
		}
	}
	done.err, done.took = err, time.Since(began)
	failed := err != nil
	for _, r := range done.results {
		failed = failed || r.Failure != nil
	}
	took := done.took.Seconds()
	switch {
	case failed:
		t.fails++
		if err != nil {
			fmt.Fprintln(t.out, atRoot(p, err))
		}
		fmt.Fprintf(t.out, "FAIL\t%s\t%.3fs\n", done.name, took)
	case len(done.results) == 0:
		fmt.Fprintf(t.out, "ok  \t%s\t%.3fs [no tests to run]\n", done.name, took)
	default:
		fmt.Fprintf(t.out, "ok  \t%s\t%.3fs\n", done.name, took)
	}
	t.files = append(t.files, done)
}

// atRoot is an error about files of the folder, with their names as the user knows them.
func atRoot(p testPlace, err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, p.name+":") {
			lines[i] = filepath.Join(p.root, filepath.FromSlash(path.Dir(p.name))) + string(filepath.Separator) + path.Base(line[:len(p.name)]) + line[len(p.name):]
		}
	}
	return strings.Join(lines, "\n")
}

func (t *tester) tests(ctx context.Context, p testPlace, folder fs.FS, f *trial.File) []trial.Result {
	var all []trial.Result
	for i := range f.Tests {
		test := &f.Tests[i]
		if !t.match.MatchString(test.Name) {
			continue
		}
		if t.verbose {
			fmt.Fprintf(t.out, "=== RUN   %s\n", test.Name)
		}
		bounded, cancel := context.WithTimeout(ctx, t.timeout)
		o := trial.Options{Engine: t.opt, Folder: folder, Ended: func(files []rules.FileStatus) { t.cover.add(p, files) }}
		if t.testFlags.cover {
			o.Observe = func(r rules.Ran) { t.cover.observe(p, r) }
		}
		r := f.Run(bounded, o, test)
		cancel()
		t.tell(p, &r)
		all = append(all, r)
	}
	return all
}

// tell tells what came of one test.
func (t *tester) tell(p testPlace, r *trial.Result) {
	switch {
	case r.Failure != nil:
		fmt.Fprintf(t.out, "--- FAIL: %s (%.3fs)\n%s", r.Test.Name, r.Took.Seconds(), explained(p, r.Failure))
	case t.verbose:
		fmt.Fprintf(t.out, "--- PASS: %s (%.3fs)\n", r.Test.Name, r.Took.Seconds())
	}
}

// explained is a failure in full.
func explained(p testPlace, f *trial.Failure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "    %s:%d: ", p.path(f.File), f.Line)
	if f.Step != "" {
		fmt.Fprintf(&b, "%s: ", f.Step)
	}
	b.WriteString(strings.ReplaceAll(f.Text, "\n", "\n        ") + "\n")
	for _, line := range f.Timeline {
		b.WriteString("    " + line + "\n")
	}
	return b.String()
}

// finish tells the rest, and returns errTold if a test failed.
func (t *tester) finish() error {
	if t.testFlags.cover {
		t.cover.tell(t.out)
	}
	if t.junit != "" {
		if err := writeJUnit(t.junit, t.files); err != nil {
			return err
		}
	}
	if t.fails > 0 {
		fmt.Fprintln(t.out, "FAIL")
		return fmt.Errorf("%w: %d", errTold, t.fails)
	}
	return nil
}
