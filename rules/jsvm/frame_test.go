package jsvm_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	for _, body := range jsvm.SampleBodies() {
		list, err := jsvm.Records(body)
		if err != nil {
			t.Fatal(err)
		}
		if again := jsvm.Body(list); !bytes.Equal(again, body) {
			t.Errorf("%T: body %x, want %x", list[0], again, body)
		}
		for n := range body {
			if part, err := jsvm.Records(body[:n]); err == nil && len(part) >= len(list) {
				t.Errorf("%T: %d of %d bytes were enough", list[0], n, len(body))
			}
		}
	}
}

func TestFrames(t *testing.T) {
	frame, err := jsvm.FrameOf([]byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := jsvm.ReadFrame(frame); err != nil || string(body) != "body" {
		t.Errorf("body %q, error %v", body, err)
	}
	cases := map[string]struct {
		stream []byte
		want   error
	}{
		"an end between frames":   {nil, io.EOF},
		"an end within a length":  {frame[:3], jsvm.ErrMalformed},
		"an end within a body":    {frame[:6], jsvm.ErrMalformed},
		"a frame of nothing":      {[]byte{0, 0, 0, 0}, jsvm.ErrMalformed},
		"a frame that is too big": {[]byte{255, 0, 0, 0}, jsvm.ErrMalformed},
	}
	for behaviour, c := range cases {
		if _, err := jsvm.ReadFrame(c.stream); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", behaviour, err, c.want)
		}
	}
	if _, err := jsvm.FrameOf(make([]byte, 16<<20+1)); err == nil {
		t.Error("a body over the limit is a frame")
	}
}

// FuzzFrame decodes bytes as either end of the pipe does. What can be decoded must
// encode to what decodes equal.
func FuzzFrame(f *testing.F) {
	for _, body := range jsvm.SampleBodies() {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := jsvm.Records(body)
		if err != nil {
			if !errors.Is(err, jsvm.ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := jsvm.Records(jsvm.Body(list))
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(jsvm.Body(list), jsvm.Body(again)); diff != "" {
			t.Fatalf("bodies differ: %s", diff)
		}
		if err := jsvm.Settle(body); err == nil && len(list) > 0 {
			t.Fatal("an answer that nobody asked for was taken")
		}
	})
}

// FuzzWorkerFrame feeds a worker with requests. Whatever they are, it answers in
// frames that can be read.
func FuzzWorkerFrame(f *testing.F) {
	for _, body := range jsvm.SampleBodies() {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Contains(body, []byte("for")) || bytes.Contains(body, []byte("while")) {
			return // its watch does not run here
		}
		answers, _ := jsvm.ServeBytes(body)
		for len(answers) > 0 {
			answer, err := jsvm.ReadFrame(answers)
			if err != nil {
				t.Fatalf("an answer cannot be read: %v", err)
			}
			if _, err := jsvm.Records(answer); err != nil {
				t.Fatalf("an answer cannot be decoded: %v", err)
			}
			answers = answers[len(answer)+4:]
		}
	})
}

// FuzzScan looks for sources that the scan cannot take.
func FuzzScan(f *testing.F) {
	for _, text := range []string{"on('a', (m) => { `${m.x}` })", "/[/]/.test('\\'')", "a / b / c // d\n/* e */", "`${`${1}`}`"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var place *rules.Error
		if err := jsvm.ScanSource("a.js", text); err != nil && !errors.As(err, &place) {
			t.Fatalf("error %T", err)
		}
	})
}
