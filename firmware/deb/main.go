package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
}

// architectures are what a gateway runs on, in Go's words and in Debian's. The
// arm of Go is built with GOARM=6, so that it runs on every Raspberry Pi.
var architectures = []struct{ goarch, debian string }{
	{"amd64", "amd64"},
	{"arm64", "arm64"},
	{"arm", "armhf"},
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	flags := flag.NewFlagSet("deb", flag.ContinueOnError)
	described := flags.String("version", "dev", "the version, as git describe words it")
	binaries := flags.String("binaries", "../../dist", "the `folder` of gatehouse-linux-ARCH")
	folder := flags.String("out", "../../dist", "the `folder` to write packages to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	built, err := epoch(getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	documents, err := newDocuments(ctx, "../..")
	if err != nil {
		return err
	}
	defer documents.remove()
	for _, architecture := range architectures {
		name, err := Build(Options{
			Architecture: architecture.debian,
			Version:      debianVersion(*described, built),
			Binary:       filepath.Join(*binaries, "gatehouse-linux-"+architecture.goarch),
			Files:        "files",
			Documents:    documents.folder,
			Built:        built,
			Out:          *folder,
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, "deb:", name); err != nil {
			return err
		}
	}
	return nil
}

// epoch reads SOURCE_DATE_EPOCH, the seconds since 1970 that every file in the
// package carries as its time.
func epoch(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
