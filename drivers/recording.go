package drivers

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// recordingFormat is what the head of a recording calls itself.
	recordingFormat = "gatehouse wire 1"
	// maxRecordingLine is how long a line of a recording may be, in bytes.
	maxRecordingLine = 1 << 20
	// MaxRecordingBytes is how long a recording may be that is read.
	MaxRecordingBytes = 256 << 20
)

// RecordingHead is what the first line of a recording of a wire says.
type RecordingHead struct {
	Device  string
	Program string // and its version: "gatehouse 1.2.0"
	Wire    Wire
	At      time.Time // when it begins
}

// headLine is the first line of the file.
type headLine struct {
	Recording string    `json:"recording"`
	Program   string    `json:"program"`
	Device    string    `json:"device"`
	Protocol  string    `json:"protocol"`
	Place     string    `json:"place"`
	Unit      int       `json:"unit,omitempty"`
	Timeout   string    `json:"timeout,omitempty"`
	At        time.Time `json:"at"`
}

// trafficLine is any other line.
type trafficLine struct {
	At   time.Time `json:"at"`
	Sent bool      `json:"sent"`
	Hex  string    `json:"hex,omitempty"`
	Lost int       `json:"lost,omitempty"`
	Note string    `json:"note,omitempty"`
}

// Append adds the line to b.
func (h *RecordingHead) Append(b []byte) ([]byte, error) {
	return appendLine(b, headLine{
		Recording: recordingFormat, Program: h.Program, Device: h.Device,
		Protocol: h.Wire.Protocol, Place: h.Wire.Place, Unit: h.Wire.Unit, Timeout: h.Wire.Timeout.String(), At: h.At.UTC(),
	})
}

// AppendRecorded adds the line of a piece of traffic to b.
func (t *Traffic) AppendRecorded(b []byte) ([]byte, error) {
	return appendLine(b, trafficLine{At: t.At.UTC(), Sent: t.Sent, Hex: hex.EncodeToString(t.Data), Lost: t.Lost})
}

// AppendNote adds a line to b that says what happened to the wire: that it was gone for a
// while, for instance.
func AppendNote(b []byte, at time.Time, note string) ([]byte, error) {
	return appendLine(b, trafficLine{At: at.UTC(), Note: note})
}

func appendLine(b []byte, line any) ([]byte, error) {
	text, err := json.Marshal(line)
	if err != nil {
		return b, err
	}
	return append(append(b, text...), '\n'), nil
}

// ReadRecording reads a recording of a wire: lines of JSON, of which the first is its head
// and each other a piece of traffic. Begin is called with the head, and what it returns
// with the pieces in their order; one without Data is where the wire was gone. What is
// wrong with a line is an error that begins with name:line, those of begin and each, too.
func ReadRecording(name string, r io.Reader, begin func(RecordingHead) (each func(Traffic) error, err error)) error {
	lines := bufio.NewReaderSize(io.LimitReader(r, MaxRecordingBytes+1), 64<<10)
	var each func(Traffic) error
	size, last := 0, time.Time{}
	for n := 1; ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) && len(line) == 0 && n > 1 {
			return nil
		}
		if size += len(line); size > MaxRecordingBytes {
			err = fmt.Errorf("the recording is longer than %d MiB", MaxRecordingBytes>>20)
		} else if errors.Is(err, io.EOF) {
			err = errors.New("the line is not whole: the recording was cut off; without this line the rest can be used")
			if n == 1 {
				err = errNoRecording
			}
		}
		var t Traffic
		switch {
		case err != nil:
		case n == 1:
			var head RecordingHead
			if head, err = parseHead(line); err == nil {
				each, err = begin(head)
			}
		default:
			if t, err = parseTraffic(line); err == nil && t.At.Before(last) {
				t.At = last // the clock was set
			}
			last = t.At
			if err == nil {
				err = each(t)
			}
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
}

// readLine reads a line with its end. One that is too long is an error.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxRecordingLine {
			return line, fmt.Errorf("the line is longer than %d bytes", maxRecordingLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

var errNoRecording = errors.New(`this is no recording of a wire: its first line is not {"recording":"` + recordingFormat + `",...}; gatehouse device record makes one`)

func parseHead(line []byte) (RecordingHead, error) {
	var l headLine
	if json.Unmarshal(line, &l) != nil || l.Recording != recordingFormat {
		return RecordingHead{}, errNoRecording
	}
	h := RecordingHead{
		Device: l.Device, Program: l.Program, At: l.At,
		Wire: Wire{Protocol: l.Protocol, Place: l.Place, Unit: l.Unit},
	}
	var err error
	if l.Timeout != "" {
		h.Wire.Timeout, err = time.ParseDuration(l.Timeout)
	}
	if err != nil || h.Wire.Timeout < 0 || h.Wire.Unit < 0 || h.Wire.Unit > 255 {
		return h, errors.New("the head has a time-out or unit that is none")
	}
	return h, nil
}

func parseTraffic(line []byte) (Traffic, error) {
	var l trafficLine
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Traffic{}, fmt.Errorf("the line is no piece of traffic such as {\"at\":\"2026-01-02T03:04:05Z\",\"sent\":true,\"hex\":\"0103\"}: %w", err)
	}
	data, err := hex.DecodeString(l.Hex)
	switch {
	case err != nil:
		return Traffic{}, fmt.Errorf("hex is %q, which is no bytes in hexadecimal", clipped(l.Hex))
	case l.At.IsZero():
		return Traffic{}, errors.New(`the line does not say when: "at" is missing`)
	case l.Note != "" && len(data) > 0, l.Note == "" && len(data) == 0:
		return Traffic{}, errors.New(`the line needs either "hex" or "note"`)
	}
	return Traffic{At: l.At, Sent: l.Sent, Data: data, Lost: l.Lost}, nil
}

func clipped(s string) string { return s[:min(len(s), 40)] }
