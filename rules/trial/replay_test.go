package trial_test

import (
	"bytes"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// readRecording reads all of a recording.
func readRecording(r io.Reader) (all []trial.Entry, err error) {
	for e, err := range trial.Entries(r) {
		if err != nil {
			return nil, err
		}
		all = append(all, *e)
	}
	return all, nil
}

// entries are those of a recording that is there already.
func entries(all []trial.Entry) iter.Seq2[*trial.Entry, error] {
	return func(yield func(*trial.Entry, error) bool) {
		for i := range all {
			if !yield(&all[i], nil) {
				return
			}
		}
	}
}

var began = time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)

func TestAnEntryIsItsMessage(t *testing.T) {
	for _, m := range []message.Message{
		{Topic: "a", At: began},
		{Topic: "a/b", Payload: []byte("<text> \u2028"), QoS: 2, Retain: true, Origin: "device/x", At: began.Add(1)},
		{
			Topic: "a", Payload: []byte{0xff, 0}, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0xff},
			UserProperties: []message.Property{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}, At: began,
		},
	} {
		e := trial.EntryOf(&m)
		head := trial.Entry{At: began, Recording: trial.Form}
		read, err := readRecording(bytes.NewReader(e.Append(head.Append(nil))))
		if err != nil || len(read) != 2 {
			t.Fatalf("%v, %v", read, err)
		}
		got := read[1].Message()
		if len(m.Payload) == 0 {
			got.Payload = nil
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestARecordingThatIsTornIsReadAsFarAsItGoes(t *testing.T) {
	head := trial.Entry{At: began, Recording: trial.Form}
	whole := head.Append(nil)
	for range 3 {
		e := trial.Entry{At: began, Topic: "a", Payload: "x"}
		whole = e.Append(whole)
	}
	lines := 0
	for cut := 1; cut <= len(whole); cut++ {
		read, err := readRecording(bytes.NewReader(whole[:cut]))
		if cut < bytes.IndexByte(whole, '\n') {
			if err == nil {
				t.Fatalf("cut at %d: half a head is read", cut)
			}
			continue
		}
		if err != nil || len(read) < lines {
			t.Fatalf("cut at %d: %d lines, %v", cut, len(read), err)
		}
		lines = len(read)
	}
	if lines != 4 {
		t.Errorf("%d lines", lines)
	}
	for text, want := range map[string]string{
		"":     "the recording is empty",
		"{}\n": "line 1 is not the head",
		`{"at":"2026-11-25T18:00:00Z","recording":2}` + "\n":        "its form is 2, not 1",
		string(head.Append(nil)) + "{}\n":                           "line 2 has no topic",
		string(head.Append(nil)) + `{"topic":"a","qos":3}` + "\n":   "line 2: there is no QoS 3",
		string(head.Append(nil)) + `{"topic":"a"}` + "\n":           "line 2: the time",
		string(head.Append(nil)) + "{\n" + string(head.Append(nil)): "line 2 is not one of a recording",
	} {
		if _, err := readRecording(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCompareCountsWhatIsDoneTwice(t *testing.T) {
	at := func(s int, text string) trial.Action {
		return trial.Action{At: began.Add(time.Duration(s) * time.Second), Text: text}
	}
	got := trial.Compare(
		[]trial.Action{at(1, "a"), at(1, "a"), at(2, "b"), at(3, "c")},
		[]trial.Action{at(1, "a"), at(2, "b"), at(3, "d"), at(4, "c")})
	want := []trial.Difference{{Action: at(1, "a")}, {Action: at(3, "c")}, {Action: at(3, "d"), New: true}, {Action: at(4, "c"), New: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Of a recording no more is read than is replayed: it may be larger than the memory.
func TestAReplayReadsAsItGoes(t *testing.T) {
	const messages = 100
	ran, most := 0, 0 // by one goroutine at a time, which waits for the rules
	o := trial.Options{
		Folder:  folder("a.yaml", "rules:\n  - {name: r, on: in, do: [{publish: out}]}\n"),
		Engine:  rules.Options{Languages: []rules.Language{exprlang.New()}},
		Observe: func(trial.Ran) { ran++ },
	}
	recording := func(yield func(*trial.Entry, error) bool) {
		if !yield(&trial.Entry{At: began, Recording: trial.Form}, nil) {
			return
		}
		for i := range messages {
			most = max(most, i-ran)
			if !yield(&trial.Entry{At: began.Add(time.Duration(i) * time.Second), Topic: "in"}, nil) {
				return
			}
		}
	}
	r, err := trial.Replay(t.Context(), o, recording)
	if err != nil || len(r.Actions) != messages || r.Messages != messages || r.To.Sub(r.From) != (messages-1)*time.Second {
		t.Fatalf("%+v, %v", r, err)
	}
	if most > 1 {
		t.Errorf("%d messages were read ahead", most)
	}
	if _, err := trial.Replay(t.Context(), o, trial.Entries(strings.NewReader(`{"at":"2026-11-25T18:00:00Z","recording":1}`+"\n{}\n"))); err == nil || err.Error() != "line 2 has no topic" {
		t.Errorf("a recording that is not right: %v", err)
	}
}

// However long a recording is, what has been told of is forgotten.
func BenchmarkReplay(b *testing.B) {
	recording := []trial.Entry{{At: began, Recording: trial.Form}}
	for i := range 10_000 {
		recording = append(recording, trial.Entry{At: began.Add(time.Duration(i) * time.Second), Topic: "in", Payload: "1"})
	}
	o := trial.Options{
		Folder: folder("a.yaml", "rules:\n  - name: r\n    on: in\n    if: payload == 1\n    do: [{publish: out}]\n"),
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
	}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := trial.Replay(b.Context(), o, entries(recording)); err != nil || len(r.Actions) != 10_000 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}

func FuzzEntries(f *testing.F) {
	head := trial.Entry{At: began, Recording: trial.Form}
	e := trial.Entry{At: began, Topic: "a", Bytes: []byte{0xff}}
	f.Add(e.Append(head.Append(nil)))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := readRecording(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again []byte
		for i := range entries {
			again = entries[i].Append(again)
		}
		twice, err := readRecording(bytes.NewReader(again))
		if err != nil || len(twice) != len(entries) {
			t.Errorf("%d lines, %d again, %v", len(entries), len(twice), err)
		}
	})
}
