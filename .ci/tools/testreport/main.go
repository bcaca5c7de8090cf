package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	totals := flag.String("totals", "", "append the totals to this `FILE`")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *totals); err != nil {
		fmt.Fprintf(os.Stderr, "testreport: %v\n", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, totals string) error {
	sum, err := Summarize(in, out)
	if err != nil {
		return err
	}
	if totals != "" {
		if err := appendLine(totals, fmt.Sprintf("%d %d %d", sum.Passed, sum.Failed, sum.Skipped)); err != nil {
			return err
		}
	}
	if sum.Failed > 0 {
		return fmt.Errorf("%d tests failed", sum.Failed)
	}
	return nil
}

func appendLine(name, line string) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot keep the totals: %w", err)
	}
	if _, err := fmt.Fprintln(file, line); err != nil {
		_ = file.Close() // the error of the write says more
		return fmt.Errorf("cannot keep the totals: %w", err)
	}
	return file.Close()
}
