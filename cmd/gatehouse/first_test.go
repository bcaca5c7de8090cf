package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkFirstRule starts the demo house of `make run`, on free ports, with its state on
// disk: from just before exec to the earliest run that fired, by the trace of the rules. The
// first start finds nothing on disk; of the later ones the median and the least count
// (-benchtime 15x or more, and CGO_ENABLED=0, with which the product is built).
func BenchmarkFirstRule(b *testing.B) {
	dir := b.TempDir()
	text, err := os.ReadFile("demo/gatehouse.yaml")
	if err != nil {
		b.Fatal(err)
	}
	config := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(string(text), "127.0.0.1:0")
	writeFile(b, filepath.Join(dir, "gatehouse.yaml"), strings.Replace(config, "../../../scripts", "scripts", 1))
	for name, text := range demoHouse(b) {
		writeFile(b, filepath.Join(dir, name), text)
	}
	program := filepath.Join(dir, "program")
	if out, err := exec.Command("cp", binary, program).CombinedOutput(); err != nil { // as it is installed
		b.Fatalf("%v: %s", err, out)
	}
	first := firstFired(b, program, dir)
	var later []float64
	for b.Loop() {
		later = append(later, firstFired(b, program, dir))
	}
	slices.Sort(later)
	b.ReportMetric(first, "ms/first-start")
	b.ReportMetric(later[len(later)/2], "ms/later-start")
	b.ReportMetric(later[0], "ms/least")
}

func firstFired(b *testing.B, program, dir string) float64 {
	b.Helper()
	data := filepath.Join(dir, "data")
	cmd := exec.Command(program, "run", "--config", filepath.Join(dir, "gatehouse.yaml"), "--data", data)
	log, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			continue
		}
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	}()
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), "gateway is up") {
		continue
	}
	at := earliestFired(b, filepath.Join(data, "api.sock"))
	return float64(at.Sub(began).Microseconds()) / 1e3
}

// earliestFired asks the API until a rule has fired.
func earliestFired(b *testing.B, socket string) (first time.Time) {
	b.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	for until := time.Now().Add(time.Minute); first.IsZero(); {
		if time.Now().After(until) {
			b.Fatal("no rule fired within a minute")
		}
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://localhost/api/v1/rules", nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		var files []struct {
			Rules []struct {
				Trace []struct {
					At      time.Time
					Outcome string
				}
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&files)
		_ = resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range files {
			for _, r := range f.Rules {
				for _, run := range r.Trace {
					if run.Outcome == "fired" && (first.IsZero() || run.At.Before(first)) {
						first = run.At
					}
				}
			}
		}
	}
	return first
}
