package serial

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// talk is how a device is talked to.
type talk struct {
	address    int
	hasAddress bool
	init       [][]byte
	expect     *wanted // acknowledges what init sends
	wake       wake
	timeout    time.Duration // of an answer, after the request is on the line
	retries    int
	pause      time.Duration // on the line before a request
}

// wake is what rouses a device that sleeps.
type wake struct {
	brk, dtr time.Duration
	send     []byte
	pause    time.Duration // until it is awake
	after    time.Duration // it falls asleep after so long
}

func (w wake) none() bool { return w.brk == 0 && w.dtr == 0 && len(w.send) == 0 }

const (
	defaultTimeout = time.Second
	defaultRetries = 1
	longestPause   = 10 * time.Second
)

func understandTalk(cfg drivers.Config, f *deviceFile) (talk, error) {
	t := talk{timeout: defaultTimeout, retries: defaultRetries, pause: f.Pause}
	if f.Timeout != 0 {
		t.timeout = f.Timeout
	}
	if f.Retries != nil {
		t.retries = *f.Retries
	}
	if f.Address != nil {
		t.address, t.hasAddress = *f.Address, true
	}
	switch {
	case t.timeout < time.Millisecond || t.timeout > longestPause:
		return t, cfg.Errorf("$.timeout", "timeout must be 1ms to %v, not %v", longestPause, f.Timeout)
	case t.retries < 0 || t.retries > 10:
		return t, cfg.Errorf("$.retries", "retries must be 0 to 10, not %d", t.retries)
	case t.pause < 0 || t.pause > longestPause:
		return t, cfg.Errorf("$.pause", "pause must be 0s to %v, not %v", longestPause, t.pause)
	case t.address < 0:
		return t, cfg.Errorf("$.address", "address must not be negative")
	}
	var err error
	if t.expect, err = parseWanted(f.Expect); err != nil {
		return t, cfg.Errorf("$.expect", "%v", err)
	}
	if _, err = parseWanted(f.Answer); err != nil {
		return t, cfg.Errorf("$.answer", "%v", err)
	}
	for i, source := range f.Init {
		b, err := t.text(source)
		if err != nil {
			return t, cfg.Errorf(fmt.Sprintf("$.init[%d]", i), "%v", err)
		}
		t.init = append(t.init, b)
	}
	t.wake, err = t.understandWake(cfg, f.Wake)
	return t, err
}

func (t *talk) understandWake(cfg drivers.Config, f wakeFile) (w wake, err error) {
	w = wake{brk: f.Break, dtr: f.DTR, pause: f.Pause, after: f.After}
	for key, d := range map[string]time.Duration{"break": w.brk, "dtr": w.dtr, "pause": w.pause} {
		if d < 0 || d > longestPause {
			return w, cfg.Errorf("$.wake."+key, "%s must be 0s to %v, not %v", key, longestPause, d)
		}
	}
	if w.send, err = t.text(f.Send); err != nil {
		return w, cfg.Errorf("$.wake.send", "%v", err)
	}
	if w.none() && (w.pause != 0 || w.after != 0) {
		return w, cfg.Errorf("$.wake", "wake needs break, dtr or send")
	}
	return w, nil
}

// text fills in a template that knows no point.
func (t *talk) text(source string) ([]byte, error) {
	parsed, err := parseTemplate(source, t.places()...)
	if err != nil {
		return nil, err
	}
	return parsed.fill(t.place("", parsed.hex, nil))
}

// places are the names that a template may have.
func (t *talk) places(names ...string) []string {
	if t.hasAddress {
		return append(names, "address")
	}
	return names
}

// place gives what stands at a place of a template. An address is a decimal number in
// a text, and a byte in hexadecimal.
func (t *talk) place(point string, isHex bool, value func(isHex bool) ([]byte, error)) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		switch {
		case name == "point":
			return []byte(point), nil
		case name == "value":
			return value(isHex)
		case !isHex:
			return strconv.AppendInt(nil, int64(t.address), 10), nil
		case t.address > 0xff:
			return nil, fmt.Errorf("the address %d is no byte", t.address)
		}
		return []byte{byte(t.address)}, nil
	}
}

// wanted tells whether a frame is the one that is waited for: by what it begins with,
// or by a regular expression.
type wanted struct {
	source  string
	begins  []byte
	pattern *regexp.Regexp // nil: begins counts
}

// parseWanted understands "hex:..." and regular expressions; empty is nil.
func parseWanted(source string) (*wanted, error) {
	if source == "" {
		return nil, nil
	}
	w := &wanted{source: source}
	var err error
	if strings.HasPrefix(source, "hex:") {
		w.begins, err = parseBytes(source)
		return w, err
	}
	if w.pattern, err = regexp.Compile(source); err != nil {
		return nil, errors.New(`it must be a regular expression, or "hex:" and what a frame begins with: ` + err.Error())
	}
	return w, nil
}

func (w *wanted) is(frame []byte) bool {
	if w.pattern != nil {
		return w.pattern.Match(frame)
	}
	return bytes.HasPrefix(frame, w.begins)
}
