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

// say logs one line. A record below the log's level does not count.
func (o *output) say(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	level, isRecord := recordLevel(line)
	if isRecord && !o.log.Enabled(context.Background(), level) {
		return
	}
	ok, dropped, crash := o.admit(line, isRecord, time.Now())
	if dropped > 0 {
		o.log.Warn("plugin writes too much, lines dropped", "lines", dropped)
	}
	switch {
	case !ok:
	case crash:
		o.log.Error("plugin crashed", "text", line)
	case !isRecord || !o.record(level, line):
		o.log.Log(context.Background(), level, "plugin wrote", "text", line)
	}
}

// admit counts a line and decides whether it is logged, how many lines of the
// window before were not, and whether it belongs to a crash.
func (o *output) admit(line string, isRecord bool, now time.Time) (ok bool, dropped int, crash bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
		o.panics, o.last = true, line
	}
	if !o.panics && !isRecord {
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

// recordLevel gives the level of a line that begins as a record of the SDK's does;
// that of any other is slog.LevelInfo.
func recordLevel(line string) (level slog.Level, ok bool) {
	rest, ok := strings.CutPrefix(line, `{"level":"`)
	name, _, _ := strings.Cut(rest, `"`)
	if !ok || level.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo, false
	}
	return level, true
}

// record logs a line that is a record of the SDK's, or reports that it is none.
func (o *output) record(level slog.Level, line string) bool {
	fields, whole := members(line)
	text, ok := fields[slog.MessageKey].(string)
	if !ok {
		return false
	}
	delete(fields, slog.MessageKey)
	delete(fields, slog.LevelKey)
	var with []any
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		with = append(with, slog.Any(key, fields[key]))
	}
	attrs := []slog.Attr{slog.String("text", text), slog.Group("with", with...)}
	if !whole {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	o.log.LogAttrs(context.Background(), level, "plugin says", attrs...)
	return true
}

// members are those of a JSON object, as far as the line goes; whole is false when
// it was cut.
func members(line string) (fields map[string]any, whole bool) {
	dec := json.NewDecoder(strings.NewReader(line))
	dec.UseNumber()
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	fields = make(map[string]any)
	for dec.More() {
		name, err := dec.Token()
		key, ok := name.(string)
		var value any
		if err != nil || !ok || dec.Decode(&value) != nil {
			return fields, false
		}
		fields[key] = value
	}
	_, err := dec.Token()
	return fields, err == nil
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
