package exprlang_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// A throttle forgets the keys that are over, and so does the store.
func TestAThrottleForgetsByAge(t *testing.T) {
	s := newStandIn(t, "rules:\n  - {name: r, on: in/+, throttle: 20s, do: [{publish: \"out/${parts[1]}\"}]}\n")
	names := func() (n int) {
		s.save()
		for name := range s.kept {
			if strings.HasPrefix(name, "throttle") {
				n++
				if len(s.kept[name]) > 100 {
					t.Errorf("%s has %d bytes", name, len(s.kept[name]))
				}
			}
		}
		return n
	}
	for i := range 300 {
		s.hear(fmt.Sprintf("in/%d", i))
	}
	s.advance(10 * time.Second)
	s.hear("in/a")
	if n := names(); n != 301 {
		t.Errorf("%d keys are saved, want 301", n)
	}
	s.advance(11 * time.Second)
	s.hear("in/b")
	if n := names(); n != 2 {
		t.Errorf("%d keys are saved, want 2", n)
	}
	s.did = nil
	s.restart(0, false)
	s.play(`
> in/a 1
= refused: throttle: it ran 11s ago
+ 9s
> in/a 1
= out/a
> in/b 1
= refused: throttle: it ran 9s ago`)
}

// A topic that is too long for the name of a record is known after a restart all the same.
func TestALongTopicIsRemembered(t *testing.T) {
	long := "in/" + strings.Repeat("x", 3000)
	s := newStandIn(t, "rules:\n  - {name: r, on: in/+, throttle: 1m, do: [{publish: out}]}\n")
	s.hear(long)
	s.did = nil
	s.restart(0, false)
	for name := range s.kept {
		if len(name) > 1024 {
			t.Errorf("a name has %d bytes", len(name))
		}
	}
	s.hear(long)
	if diff := cmp.Diff([]string{"refused: throttle: it ran 0s ago"}, s.did); diff != "" {
		t.Error(diff)
	}
}

// What a version has saved that kept all keys of a rule, and all of a window, in one record
// is taken over, and kept as it is now.
func TestWhatAFormerVersionSaved(t *testing.T) {
	source := `rules:
  - {name: calm, on: in/+, debounce: 3s, do: [{publish: "calm/${parts[1]}", payload: "${payload}"}]}
  - {name: rare, on: in/+, throttle: 30s, do: [{publish: "rare/${parts[1]}", payload: "${payload}"}]}
  - {name: mean, on: in/+, windows: {w: {sum: payload, last: 100}, o: {max: payload, over: 1h}}, do: [{publish: mean, payload: "${windows.w} ${windows.o}"}]}
`
	s := newStandIn(t, source)
	s.hear("in/a 1", "in/b 1", "in/a 2")
	s.save()
	at := func(kind, key string) json.RawMessage {
		return json.RawMessage(s.kept[kind+"/"+key])
	}
	all := func(values map[string]json.RawMessage) []byte {
		b, err := json.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s.kept = map[string][]byte{
		"debounce/calm":            all(map[string]json.RawMessage{"in/a": at("debounce", "calm/in/a")}),
		"throttle/rare":            all(map[string]json.RawMessage{"in/a": at("throttle", "rare/in/a"), "in/b": at("throttle", "rare/in/b")}),
		"w\x00mean\x00w\x00":       []byte(`{"shape":"last: 100, sum: payload","v":[1,1,2]}`),
		"w\x00mean\x00o\x00":       fmt.Appendf(nil, `{"shape":"max: payload, over: 1h","panes":[{"n":3,"sum":4,"min":1,"max":2,"first":1,"last":2,"from":%[1]d,"to":%[1]d}]}`, noon.UnixMilli()),
		"p\x00mean\x00w\x007\x00":  []byte("nonsense"),
		"p\x00mean\x00w\x00x\x00":  []byte(`{"i":0,"v":[7]}`),
		"p\x00gone\x00w\x000\x00":  []byte(`{"i":0,"v":[7]}`),
		"p\x00mean\x00w\x000\x00k": []byte(`{"i":0,"v":[7]}`),
	}
	s.did = nil
	s.restart(0, true)
	s.save()
	want := []string{
		"debounce/calm/in/a", "p mean o 0 ", "p mean w 0 ", "throttle/rare/in/a", "throttle/rare/in/b", "w mean o ", "w mean w ",
	}
	names := strings.Split(strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(s.kept)), "\n"), "\x00", " "), "\n")
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for _, cut := range []bool{true, false} {
		s.did = nil
		s.restart(0, cut)
	}
	s.play(`
> in/a 1
= refused: throttle: it ran 0s ago
= mean 5 2
+ 3s
= calm/a 1
= calm/b 1`)
}

// Pieces that make no sense, or lie as those of another version, are written anew.
func TestPiecesThatDoNotFit(t *testing.T) {
	source := windowRule("sum: payload.c, last: 100")
	for name, c := range map[string]struct{ piece, want string }{
		"where they belong": {`{"i":32,"v":[1,2]}`, "6"},
		"another place":     {`{"i":7,"v":[1,2]}`, "6"},
		"below zero":        {`{"i":-7,"v":[1,2]}`, "3"},
		"not the values":    {`{"i":32,"v":[1,2],"t":[1]}`, "3"},
		"nothing":           {`{"i":32}`, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, source)
			kept := map[string][]byte{
				"w\x00r\x00w\x00":       []byte(`{"shape":"last: 100, sum: payload.c"}`),
				"p\x00r\x00w\x001\x00":  []byte(c.piece),
				"p\x00r\x00w\x0077\x00": []byte(`{"i":64,"v":[1,2]}`),
			}
			p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: kept, Now: noon}})
			if got := hear(t, p, time.Second, "home/a/temp", `{"c":3}`); got != c.want {
				t.Errorf("the sum is %s, want %s", got, c.want)
			}
			restart(t, p, compile(t, source), kept, time.Minute)
			if len(kept) != 2 {
				t.Errorf("kept is %q", kept)
			}
		})
	}
}

// What takes the record of all keys away that a former version has saved is kept with those
// of all of them, though only another key was asked for: the power may go then.
func TestWhatAFormerVersionSavedOutlivesAPowerCut(t *testing.T) {
	s := newStandIn(t, `rules:
  - {name: rare, on: in/+, throttle: 5s, do: [{publish: "rare/${parts[1]}", payload: "${payload}"}]}
  - {name: hush, on: in/+, silent: 10m, do: [{publish: "hush/${parts[1]}"}]}
`)
	s.hear("in/a 1", "in/b 1")
	s.save()
	all := func(rule string) []byte {
		b, err := json.Marshal(map[string]json.RawMessage{"in/a": s.kept[rule+"/in/a"], "in/b": s.kept[rule+"/in/b"]})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s.kept = map[string][]byte{"throttle/rare": all("throttle/rare"), "silent/hush": all("silent/hush")}
	s.promised = true
	s.restart(0, true)
	s.advance(time.Second)
	s.hear("in/c 1")
	s.did = nil
	s.restart(0, true)
	s.hear("in/a 2")
	if diff := cmp.Diff([]string{"refused: throttle: it ran 1s ago"}, s.did); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"silent/hush/in/a", "silent/hush/in/b", "throttle/rare/in/b"} {
		if s.kept[name] == nil {
			t.Errorf("%s is lost", name)
		}
	}
}

// Pieces that lie as those of another version are not taken away before they are written
// anew, whatever is asked for first.
func TestPiecesThatDoNotFitOutliveAPowerCut(t *testing.T) {
	source := windowRule("sum: payload.c, last: 100, by: parts[1]")
	kept := map[string][]byte{
		"w\x00r\x00w\x00a":      []byte(`{"shape":"by: parts[1], last: 100, sum: payload.c"}`),
		"p\x00r\x00w\x001\x00a": []byte(`{"i":7,"v":[1,2]}`),
	}
	p := compile(t, source)
	p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon}})
	m := &message.Message{Topic: "home/b/temp", Payload: []byte(`{"c":3}`)}
	p.Run(t.Context(), []rules.Call{{Message: m, Now: noon, Promised: true}})
	if err := p.Save(true, keep(kept)); err != nil {
		t.Error(err)
	}
	p = compile(t, source)
	p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon}})
	if got := hear(t, p, time.Second, "home/a/temp", `{"c":3}`); got != "6" {
		t.Errorf("the sum is %s, want 6; kept %q", got, kept)
	}
}
