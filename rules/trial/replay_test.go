package trial_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"runtime"
	"strconv"
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

// does is a side that does the same every time.
func does(actions ...trial.Action) trial.Side {
	return func(_ context.Context, did func(trial.Action) error) error {
		for _, a := range actions {
			if err := did(a); err != nil {
				return err
			}
		}
		return nil
	}
}

// at is an action.
func at(s int, text string) trial.Action {
	return trial.Action{At: began.Add(time.Duration(s) * time.Second), Text: text}
}

func TestCompareCountsWhatIsDoneTwice(t *testing.T) {
	var got []trial.Difference
	err := trial.Compare(t.Context(),
		does(at(1, "a"), at(1, "a"), at(2, "b"), at(3, "c")),
		does(at(1, "a"), at(2, "b"), at(3, "d"), at(4, "c"), at(5, "e")),
		func(d trial.Difference) error { got = append(got, d); return nil })
	want := []trial.Difference{
		{Action: at(1, "a")},
		{Action: at(3, "c")},
		{Action: at(3, "d"), New: true},
		{Action: at(4, "c"), New: true},
		{Action: at(5, "e"), New: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// A side that fails ends the other one, and its error is told; so is one that nobody can
// be told of differences.
func TestCompareEndsWithWhoFails(t *testing.T) {
	broken := errors.New("broken")
	fails := func(context.Context, func(trial.Action) error) error { return broken }
	endless := func(_ context.Context, did func(trial.Action) error) error {
		for n := 0; ; n++ {
			if err := did(at(n, "x")); err != nil {
				return err
			}
		}
	}
	quiet := func(trial.Difference) error { return nil }
	deaf := func(trial.Difference) error { return broken }
	for name, err := range map[string]error{
		"the old side":  trial.Compare(t.Context(), fails, endless, quiet),
		"the new side":  trial.Compare(t.Context(), endless, fails, quiet),
		"both":          trial.Compare(t.Context(), fails, fails, quiet),
		"who is told":   trial.Compare(t.Context(), endless, does(), deaf),
		"at the end":    trial.Compare(t.Context(), does(at(1, "a")), fails, quiet),
		"who was there": trial.Compare(t.Context(), does(), endless, deaf),
	} {
		if !errors.Is(err, broken) {
			t.Errorf("%s fails: %v", name, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trial.Compare(gone, endless, endless, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits for it: %v", err)
	}
}

// What one side had not come to when the other failed is no difference.
func TestCompareTellsNothingOfWhatASideThatFailedDidNotDo(t *testing.T) {
	broken := errors.New("broken")
	all := func(n int) (list []trial.Action) {
		for i := range n {
			list = append(list, at(i, "x"))
		}
		return list
	}
	fails := func(side trial.Side) trial.Side {
		return func(ctx context.Context, did func(trial.Action) error) error {
			if err := side(ctx, did); err != nil {
				return err
			}
			return broken
		}
	}
	after := func(failed <-chan struct{}, side trial.Side) trial.Side { // what it did is on its way
		return func(ctx context.Context, did func(trial.Action) error) error {
			<-failed
			return side(ctx, did)
		}
	}
	for name, sides := range map[string]func(signal chan struct{}) (old, new trial.Side){
		"the old one earlier": func(chan struct{}) (old, new trial.Side) { return fails(does(all(50)...)), does(all(100)...) },
		"the new one earlier": func(chan struct{}) (old, new trial.Side) { return does(all(100)...), fails(does(all(50)...)) },
		"both": func(signal chan struct{}) (old, new trial.Side) {
			first := func(ctx context.Context, did func(trial.Action) error) error {
				defer close(signal)
				return fails(does(all(100)...))(ctx, did)
			}
			return first, after(signal, fails(does(all(100)...)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			old, new := sides(make(chan struct{}))
			err := trial.Compare(t.Context(), old, new, func(trial.Difference) error { n++; return nil })
			if !errors.Is(err, broken) || n > 0 {
				t.Errorf("%d differences of the same, %v", n, err)
			}
		})
	}
}

// What two sides do is not held, nor how they differ: a recording may be as long as it
// likes.
func TestWhatAReplayHoldsDoesNotGrow(t *testing.T) {
	const messages = 10_000
	var early, late uint64
	side := func(file string, measured bool) trial.Side {
		o := trial.Options{Folder: folder("a.yaml", file), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
		recording := func(yield func(*trial.Entry, error) bool) {
			if !yield(&trial.Entry{At: began, Recording: trial.Form}, nil) {
				return
			}
			for i := range messages {
				switch {
				case measured && i == messages/10:
					early = heap()
				case measured && i == messages-1:
					late = heap()
				}
				at := began.Add(time.Duration(i) * time.Second)
				if !yield(&trial.Entry{At: at, Topic: "in", Payload: strings.Repeat("x", 900) + strconv.Itoa(i)}, nil) {
					return
				}
			}
		}
		return func(ctx context.Context, did func(trial.Action) error) error {
			_, err := trial.Replay(ctx, o, recording, did)
			return err
		}
	}
	n := 0
	err := trial.Compare(t.Context(),
		side("rules:\n  - {name: r, on: in, do: [{publish: out, payload: \"${payload}\"}]}\n", true),
		side("rules:\n  - {name: r, on: in, do: [{publish: other, payload: \"${payload}\"}]}\n", false),
		func(trial.Difference) error { n++; return nil })
	if err != nil || n != 2*messages {
		t.Fatalf("%d differences, %v", n, err)
	}
	t.Logf("from %d to %d bytes", early, late)
	if late > early+messages*100 {
		t.Errorf("it held %d bytes after %d messages, and %d after %d", early, messages/10, late, messages)
	}
}

// heap is what is alive: the least of several looks, since others allocate meanwhile.
func heap() uint64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, m.HeapAlloc)
	}
	return least
}

// While time goes by between two messages, what rules do is told as they do it.
func TestAReplayTellsAsItGoes(t *testing.T) {
	o := trial.Options{
		Folder: folder("a.yaml", "rules:\n  - {name: r, every: 1s, do: [{publish: out}, {http: {url: \"http://x/\", as: r}, on_error: continue}]}\n"),
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
	}
	enough := errors.New("enough")
	var got []trial.Action
	_, err := trial.Replay(t.Context(), o, entries([]trial.Entry{
		{At: began, Recording: trial.Form},
		{At: began.Add(24 * time.Hour), End: true},
	}), func(a trial.Action) error {
		if got = append(got, a); len(got) == 4 {
			return enough
		}
		return nil
	})
	const request, message = "request GET http://x/", "out  (rule/r)"
	want := []trial.Action{at(1, message), at(1, request), at(2, message), at(2, request)}
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, enough) {
		t.Error(diff, err)
	}
}

// Of a recording no more is read than is replayed: it may be larger than the memory.
func TestAReplayReadsAsItGoes(t *testing.T) {
	const messages = 100
	ran, most := 0, 0 // by one goroutine at a time, which waits for the rules
	o := trial.Options{
		Folder:  folder("a.yaml", "rules:\n  - {name: r, on: in, do: [{publish: out}]}\n"),
		Engine:  rules.Options{Languages: []rules.Language{exprlang.New()}},
		Observe: func(rules.Ran) { ran++ },
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
	quiet := func(trial.Action) error { return nil }
	r, err := trial.Replay(t.Context(), o, recording, quiet)
	if err != nil || r.Actions != messages || r.Messages != messages || r.To.Sub(r.From) != (messages-1)*time.Second {
		t.Fatalf("%+v, %v", r, err)
	}
	if most > 1 {
		t.Errorf("%d messages were read ahead", most)
	}
	if _, err := trial.Replay(t.Context(), o, trial.Entries(strings.NewReader(`{"at":"2026-11-25T18:00:00Z","recording":1}`+"\n{}\n")), quiet); err == nil || err.Error() != "line 2 has no topic" {
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
		if r, err := trial.Replay(b.Context(), o, entries(recording), func(trial.Action) error { return nil }); err != nil || r.Actions != 10_000 {
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
