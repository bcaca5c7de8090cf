package drivers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	wireHead  = `{"recording":"gatehouse wire 1","program":"gatehouse 1","device":"m","protocol":"modbus-rtu","place":"serial /dev/x 9600 8N1","unit":7,"timeout":"1s","at":"2026-01-02T03:04:05Z"}` + "\n"
	wirePiece = `{"at":"2026-01-02T03:04:06Z","sent":true,"hex":"0103"}` + "\n"
)

func TestRecordingIsReadAsItIsWritten(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	head := drivers.RecordingHead{
		Device: "m", Program: "gatehouse 1", At: at,
		Wire: drivers.Wire{Protocol: drivers.ProtocolModbusRTU, Place: "serial /dev/x", Unit: 7, Timeout: time.Second},
	}
	b, err := head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []drivers.Traffic{{At: at, Sent: true, Data: []byte{1, 3}}, {At: at.Add(time.Second), Data: []byte("\x00x"), Lost: 2}} {
		if b, err = one.AppendRecorded(b); err != nil {
			t.Fatal(err)
		}
	}
	if b, err = drivers.AppendNote(b, at, "the clock was set"); err != nil {
		t.Fatal(err)
	}
	var all []string
	var got drivers.RecordingHead
	err = drivers.ReadRecording("m.jsonl", strings.NewReader(string(b)), func(h drivers.RecordingHead) (func(drivers.Traffic) error, error) {
		got = h
		return func(p drivers.Traffic) error {
			all = append(all, fmt.Sprintf("%v %v %q %d", p.At.Sub(at), p.Sent, p.Data, p.Lost))
			return nil
		}, nil
	})
	if err != nil || got != head {
		t.Errorf("want the head %+v, got %+v, %v", head, got, err)
	}
	if want := `0s true "\x01\x03" 0, 1s false "\x00x" 2, 1s false "" 0`; strings.Join(all, ", ") != want {
		t.Errorf("want %s, got %s", want, strings.Join(all, ", "))
	}
}

func TestRecordingsThatAreNone(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "x.jsonl:1: this is no recording of a wire"},
		{"another file", "driver: modbus\n", "x.jsonl:1: this is no recording of a wire"},
		{"a recording of messages", `{"topic":"a","payload":"b"}` + "\n", "x.jsonl:1: this is no recording of a wire"},
		{"a newer one", strings.Replace(wireHead, "wire 1", "wire 2", 1), "x.jsonl:1: this is no recording of a wire"},
		{"a unit that is none", strings.Replace(wireHead, ":7", ":700", 1), "x.jsonl:1: the head has a time-out or unit that is none"},
		{"torn", wireHead + wirePiece + wirePiece[:20], "x.jsonl:3: the line is not whole"},
		{"torn head", wireHead[:20], "x.jsonl:1: this is no recording of a wire"},
		{"no JSON", wireHead + "hello\n", "x.jsonl:2: the line is no piece of traffic"},
		{"a key that is none", wireHead + wirePiece + `{"at":"2026-01-02T03:04:06Z","send":true,"hex":"01"}` + "\n", `x.jsonl:3: the line is no piece of traffic such as {"at":"2026-01-02T03:04:05Z","sent":true,"hex":"0103"}: json: unknown field "send"`},
		{"half a byte", wireHead + `{"at":"2026-01-02T03:04:06Z","hex":"013"}` + "\n", `x.jsonl:2: hex is "013", which is no bytes`},
		{"no time", wireHead + `{"hex":"01"}` + "\n", `x.jsonl:2: the line does not say when`},
		{"nothing", wireHead + `{"at":"2026-01-02T03:04:06Z"}` + "\n", `x.jsonl:2: the line needs either "hex" or "note"`},
		{"a line without end", wireHead + `{"at":"` + strings.Repeat("2", 2<<20), "x.jsonl:2: the line is longer than 1048576 bytes"},
		{"what each refuses", wireHead + wirePiece + wirePiece, "x.jsonl:3: enough"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			err := drivers.ReadRecording("x.jsonl", strings.NewReader(c.text), func(drivers.RecordingHead) (func(drivers.Traffic) error, error) {
				return func(drivers.Traffic) error {
					if n++; n == 2 {
						return errors.New("enough")
					}
					return nil
				}, nil
			})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}

func FuzzReadRecording(f *testing.F) {
	f.Add(wireHead + wirePiece)
	f.Add(wireHead + `{"at":"2026-01-02T03:04:06Z","note":"gone"}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		each := func(drivers.Traffic) error { return nil }
		begin := func(drivers.RecordingHead) (func(drivers.Traffic) error, error) { return each, nil }
		if err := drivers.ReadRecording("x", strings.NewReader(text), begin); err != nil && !strings.HasPrefix(err.Error(), "x:") {
			t.Errorf("want the place in the error, got %v", err)
		}
	})
}
