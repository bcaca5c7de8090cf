package plugins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what a plugin may put into the log.
const (
	maxLine      = 4 << 10          // bytes of a line; the rest is cut off
	outputWindow = 10 * time.Second // in each window ...
	maxLines     = 100              // ... so many lines; more are counted only
)

// output puts what a plugin prints into the log.
type output struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time // start of the window
	lines   int       // in the window
	dropped int       // in the window
	panics  bool      // the stack of a crash follows
	last    string    // the last line that is no record of the SDK's, or the first of a crash
}

// copyLines logs r line by line until it ends.
func (o *output) copyLines(r *bufio.Reader) {
	for {
		line, err := readLine(r)
		if err != nil {
			return
		}
		o.say(line)
	}
}

// readLine reads one line without its end, cut to maxLine bytes.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	cut := false
	for {
		part, more, err := r.ReadLine()
		if err != nil {
			return "", err
		}
		if room := maxLine - len(line); len(part) > room {
			part, cut = part[:room], true
		}
		line = append(line, part...)
		if !more {
			break
		}
	}
	s := strings.ToValidUTF8(string(line), "\uFFFD")
	if cut {
		s += "…"
	}
	return s, nil
}

// say logs one line.
func (o *output) say(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	ok, dropped, crash := o.admit(line, time.Now())
	if dropped > 0 {
		o.log.Warn("plugin writes too much, lines dropped", "lines", dropped)
	}
	if !ok {
		return
	}
	if crash {
		o.log.Error("plugin crashed", "text", line)
		return
	}
	if !o.record(line) {
		o.log.Info("plugin wrote", "text", line)
	}
}

// admit counts a line and decides whether it is logged, how many lines of the
// window before were not, and whether it belongs to a crash.
func (o *output) admit(line string, now time.Time) (ok bool, dropped int, crash bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
		o.panics, o.last = true, line
	}
	if !o.panics && !isRecord(line) {
		o.last = line
	}
	if now.Sub(o.since) >= outputWindow {
		dropped = o.dropped
		o.since, o.lines, o.dropped = now, 0, 0
	}
	if o.lines++; o.lines > maxLines {
		o.dropped++
		return false, dropped, o.panics
	}
	return true, dropped, o.panics
}

// lastWords is the line that best tells why the plugin ended; empty if there is none.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// flush reports lines that were dropped and not yet reported.
func (o *output) flush() {
	o.mu.Lock()
	dropped := o.dropped
	o.dropped = 0
	o.mu.Unlock()
	if dropped > 0 {
		o.log.Warn("plugin writes too much, lines dropped", "lines", dropped)
	}
}

func isRecord(line string) bool { return strings.HasPrefix(line, `{"level":`) }

// record logs a line that is a record of the SDK's, or reports that it is none.
func (o *output) record(line string) bool {
	if !isRecord(line) {
		return false
	}
	dec := json.NewDecoder(strings.NewReader(line))
	dec.UseNumber()
	var fields map[string]any
	if dec.Decode(&fields) != nil {
		return false
	}
	var level slog.Level
	text, isText := fields[slog.MessageKey].(string)
	name, isName := fields[slog.LevelKey].(string)
	if !isText || !isName || level.UnmarshalText([]byte(name)) != nil {
		return false
	}
	delete(fields, slog.MessageKey)
	delete(fields, slog.LevelKey)
	var with []any
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		with = append(with, slog.Any(key, fields[key]))
	}
	o.log.LogAttrs(context.Background(), level, "plugin says", slog.String("text", text), slog.Group("with", with...))
	return true
}

// lineWriter cuts what is written to it into lines for the output. One goroutine
// writes.
type lineWriter struct {
	out  *output
	line []byte
}

// Write implements io.Writer; it never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		if room := maxLine - len(w.line); len(part) > room {
			part = part[:room]
		}
		w.line = append(w.line, part...)
		if !ended {
			break
		}
		w.out.say(strings.ToValidUTF8(string(w.line), "\uFFFD"))
		w.line, p = w.line[:0], rest
	}
	return n, nil
}

var _ io.Writer = (*lineWriter)(nil)
