package exprlang_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// hear has the first rule hear a message so long after noon, and returns what it
// publishes: its payloads, "-" if it did not fire, "?" if it could not be judged.
func hear(t testing.TB, p rules.Program, after time.Duration, topic, payload string) string {
	t.Helper()
	m := &message.Message{Topic: topic, Payload: []byte(payload)}
	out := p.Run(t.Context(), []rules.Call{{Message: m, Now: noon.Add(after)}})[0]
	if v := verdict(out); v != "yes" {
		return map[string]string{"no": "-"}[v] + strings.TrimPrefix(v, "no")
	}
	var all []string
	for _, m := range out.Publish {
		all = append(all, string(m.Payload))
	}
	return strings.Join(all, " ")
}

func windowRule(window string) string {
	return "rules:\n  - name: r\n    on: home/+/temp\n    windows:\n      w:\n        " + strings.ReplaceAll(window, ", ", "\n        ") +
		"\n    do: [{publish: out, payload: '${windows.w}'}]\n"
}

func TestWindows(t *testing.T) {
	for _, c := range []struct{ window, steps string }{
		// room value second = result
		{"avg: payload.c, last: 3, by: parts[1]", "a 1 0 = 1, a 2 1 = 1.5, b 10 2 = 10, a 3 3 = 2, a 7 4 = 4, b 20 5 = 15"},
		{"avg: payload.c, last: 3", "a 1 0 = 1, b 2 1 = 1.5, a 6 2 = 3, b 1 3 = 3"},
		{"min: payload.c, last: 2", "a 5 0 = 5, a 3 1 = 3, a 4 2 = 3, a 9 3 = 4"},
		{"max: payload.c, last: 2", "a 5 0 = 5, a 3 1 = 5, a 4 2 = 4, a -9 3 = 4, a -8 4 = -8"},
		{"sum: payload.c, last: 2", "a 5 0 = 5, a 3 1 = 8, a x 2 = 8, a 4 2 = 7"},
		{"median: payload.c, last: 4", "a 5 0 = 5, a 3 1 = 4, a 100 2 = 5, a 4 3 = 4.5, a 1 4 = 3.5"},
		{"count: payload.c > 3, last: 3", "a 5 0 = 1, a 3 1 = 1, a 4 2 = 2, a 0 3 = 1"},
		{"count: payload.c > 3", "a 5 0 = 1, a 3 1 = 1, a 4 2 = 2, a x 3 = 2"},
		{"sum: payload.c", "a 5 0 = 5, a 0.5 1 = 5.5, b 1 9 = 6.5"},
		{"count: true, over: 10s, by: parts[1]", "a 5 0 = 1, a 3 9 = 2, b 1 9 = 1, a 4 10 = 2, a 4 30 = 1"},
		{"avg: payload.c, over: 10s", "a 5 0 = 5, a 3 5 = 4, a 4 10 = 3.5, a x 14 = 3.5, a x 15 = 4, a x 20 = null"},
		{"max: payload.c, over: 10s", "a 5 0 = 5, a 3 5 = 5, a 4 10 = 4"},
		{"median: payload.c, over: 10s", "a 5 0 = 5, a 3 5 = 4, a 4 10 = 3.5, a x 20 = null"},
		{"rate: payload.c, over: 1m", "a 5 0 = null, a 10 5 = 1, a 40 20 = 1.75, a 100 60 = 1.6363636363636365"},
		{"rate: payload.c, last: 2", "a 5 0 = null, a 10 5 = 1, a 10 6 = 0, a 8 8 = -1"},
		{"ema: payload.c, alpha: 0.5, by: parts[1]", "a 4 0 = 4, a 8 1 = 6, b 1 1 = 1, a 6 2 = 6, a x 3 = 6"},
		{"avg: payload.c, per: 2", "a 5 0 = null, a 7 1 = 6, a 100 2 = 6, a 200 3 = 150"},
		{"median: payload.c, per: 3", "a 5 0 = null, a 7 1 = null, a 1 2 = 5, a 9 3 = 5, a 9 4 = 5, a 8 5 = 9"},
		{"sum: payload.c, every: 10s", "a 5 0 = null, a 7 9 = null, a 1 10 = 12, a 2 19 = 12, a 9 20 = 3, a 1 55 = 0, a x 60 = 1, a x 70 = 0"},
		{"max: payload.c, every: 10s", "a 5 0 = null, a 1 10 = 5, a x 20 = 1, a x 30 = null"},
		{"median: payload.c, every: 10s", "a 5 0 = null, a 4 1 = null, a 1 10 = 4.5, a x 20 = 1, a x 35 = null"},
		{"avg: payload.c, last: 3, by: payload.key", "a 1 0 = null"},
		{"avg: payload.c * 2, last: 3", "a 1 0 = 2"},
		{"avg: payload.c / 0, last: 3", "a 1 0 = null"},
	} {
		t.Run(c.window, func(t *testing.T) {
			p := compile(t, windowRule(c.window))
			for step := range strings.SplitSeq(c.steps, ", ") {
				room, value, second, want := "", "", 0, ""
				if _, err := fmt.Sscanf(step, "%s %s %d = %s", &room, &value, &second, &want); err != nil {
					t.Fatal(err)
				}
				if value == "x" {
					value = `"no number"`
				}
				if got := hear(t, p, time.Duration(second)*time.Second, "home/"+room+"/temp", `{"c":`+value+`}`); got != want {
					t.Errorf("after %s it is %s", step, got)
				}
			}
		})
	}
}

// What a window says is what is calculated from all there was.
func TestWindowsAgainstAModel(t *testing.T) {
	type sample struct{ at, v float64 }
	functions := map[string]func([]sample) float64{
		"avg": func(s []sample) float64 {
			sum := 0.0
			for _, x := range s {
				sum += x.v
			}
			return sum / float64(len(s))
		},
		"min": func(s []sample) float64 { return slices.MinFunc(s, func(a, b sample) int { return int(a.v - b.v) }).v },
		"max": func(s []sample) float64 { return slices.MaxFunc(s, func(a, b sample) int { return int(a.v - b.v) }).v },
		"median": func(s []sample) float64 {
			s = slices.Clone(s)
			slices.SortFunc(s, func(a, b sample) int { return int(a.v - b.v) })
			return (s[(len(s)-1)/2].v + s[len(s)/2].v) / 2
		},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		for _, extent := range []string{"last: 7", "last: 1000", "over: 4m"} {
			p := compile(t, windowRule(name+": payload.c, "+extent+", by: parts[1]"))
			heard := make(map[string][]sample)
			at := 0.0
			for range 1_300 {
				at += float64(1 + random.IntN(9)) // no shorter than what a sliding time is divided into
				room, v := string(rune('a'+random.IntN(3))), float64(random.IntN(1_000))
				all := append(heard[room], sample{at, v})
				heard[room] = all
				switch {
				case strings.HasPrefix(extent, "over"):
					all = slices.DeleteFunc(slices.Clone(all), func(s sample) bool { return s.at <= at-240 })
				default:
					n, _ := strconv.Atoi(strings.TrimPrefix(extent, "last: "))
					all = all[max(0, len(all)-n):]
				}
				got := hear(t, p, time.Duration(at)*time.Second, "home/"+room+"/temp", fmt.Sprintf(`{"c":%g}`, v))
				result, err := strconv.ParseFloat(got, 64)
				if want := functions[name](all); err != nil || math.Abs(result-want) > 1e-9 {
					t.Fatalf("%s %s of %d points is %s, want %g", name, extent, len(all), got, want)
				}
			}
		}
	}
}

// However many points come, and keys, a window stays small, and close to the truth.
func TestWindowsAreBounded(t *testing.T) {
	p := compile(t, windowRule("sum: payload.c, over: 4m, by: payload.k"))
	last := 0.0
	for i := range 15_000 { // fifty a second
		got := hear(t, p, time.Duration(i)*20*time.Millisecond, "home/a/temp", `{"k":"x","c":1}`)
		last, _ = strconv.ParseFloat(got, 64)
	}
	if math.Abs(last-12_000) > 12_000/240 {
		t.Errorf("the sum over 4m is %g, want about 12000", last)
	}
	size := 0
	saveTo(t, p, false, func(_ string, value []byte) { size += len(value) })
	if size > 32<<10 {
		t.Errorf("what is kept of one key has %d bytes", size)
	}
	for i := range 1_100 {
		hear(t, p, time.Hour, "home/a/temp", fmt.Sprintf(`{"k":"k%d","c":1}`, i))
	}
	keys := make(map[string]bool)
	saveTo(t, p, false, func(key string, value []byte) { keys[key] = value != nil && strings.HasPrefix(key, "w") })
	there := 0
	for _, is := range keys {
		if is {
			there++
		}
	}
	if want := 100_000 / 240 / 3; there != want || keys["w\x00r\x00w\x00x"] {
		t.Errorf("%d keys are remembered", there)
	}
	if got := hear(t, p, time.Hour, "home/a/temp", `{"k":"`+strings.Repeat("x", 300)+`","c":1}`); got != "0" {
		t.Errorf("a key that is too long came to %s", got)
	}
}

// restart hands what one program saved to another one.
func restart(t testing.TB, old, fresh rules.Program, kept map[string][]byte, after time.Duration) {
	t.Helper()
	saveTo(t, old, false, func(key string, value []byte) {
		if value == nil {
			delete(kept, key)
		} else {
			kept[key] = slices.Clone(value)
		}
	})
	out := fresh.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon.Add(after)}})[0]
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	saveTo(t, fresh, false, func(key string, value []byte) {
		if value != nil {
			t.Errorf("%q is saved again at once", key)
		}
		delete(kept, key)
	})
}

// A restart in the middle changes nothing.
func TestWindowsOutliveAProgram(t *testing.T) {
	for _, window := range []string{
		"avg: payload.c, last: 3, by: parts[1]", "median: payload.c, last: 3", "rate: payload.c, last: 3", "count: payload.c > 4",
		"avg: payload.c, over: 1m, by: parts[1]", "median: payload.c, over: 1m", "ema: payload.c, alpha: 0.3, by: parts[1]",
		"median: payload.c, last: 40, by: parts[1]", "rate: payload.c, last: 50", "max: payload.c, over: 4m", "median: payload.c, per: 35", "sum: payload.c, last: 33",
		"sum: payload.c, every: 20s", "median: payload.c, every: 20s, by: parts[1]", "avg: payload.c, per: 4", "median: payload.c, per: 4", "sum: payload.c, per: 3",
	} {
		t.Run(window, func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			through, restarted := compile(t, windowRule(window)), compile(t, windowRule(window))
			kept := make(map[string][]byte)
			at := time.Duration(0)
			for i := range 260 {
				at += time.Duration(1+random.IntN(9)) * time.Second
				if random.IntN(3) == 0 {
					fresh := compile(t, windowRule(window))
					restart(t, restarted, fresh, kept, at)
					restarted = fresh
				}
				topic, payload := "home/"+string(rune('a'+random.IntN(3)))+"/temp", fmt.Sprintf(`{"c":%d}`, random.IntN(10))
				if want, got := hear(t, through, at, topic, payload), hear(t, restarted, at, topic, payload); got != want {
					t.Fatalf("message %d: %s, without a restart %s", i, got, want)
				}
			}
		})
	}
}

// What a window was told with a promise is there after a power cut, though nothing but that
// was saved; and it is a small record, however much the window holds.
func TestPromisedWindowsOutliveAPowerCut(t *testing.T) {
	const trigger = "value: payload.c\n    above: 4\n    hysteresis: 2\n    "
	for _, window := range []string{
		"avg: payload.c, last: 3, by: parts[1]", "avg: payload.c, last: 700", "median: payload.c, last: 900, by: parts[1]", "rate: payload.c, last: 64",
		"sum: payload.c, over: 60m", "median: payload.c, over: 50m, by: parts[1]", "ema: payload.c, alpha: 0.3", "median: payload.c, every: 30m", "median: payload.c, per: 300",
	} {
		for name, source := range map[string]string{"": windowRule(window), ", an edge": strings.Replace(windowRule(window), "windows:", trigger+"windows:", 1)} {
			t.Run(window+name, func(t *testing.T) {
				random := rand.New(rand.NewPCG(5, 6))
				through, cut := compile(t, source), compile(t, source)
				kept := make(map[string][]byte)
				at, written, n := time.Duration(0), 0, 2_000
				for i := range n {
					at += time.Duration(1+random.IntN(9)) * time.Second
					m := &message.Message{Topic: "home/" + string(rune('a'+random.IntN(3))) + "/temp", Payload: fmt.Appendf(nil, `{"c":%d.%d}`, random.IntN(10), random.IntN(10))}
					call := rules.Call{Message: m, Now: noon.Add(at), Promised: true}
					want := through.Run(t.Context(), []rules.Call{call})[0]
					got := cut.Run(t.Context(), []rules.Call{call})[0]
					if diff := cmp.Diff(want.Publish, got.Publish); diff != "" {
						t.Fatalf("message %d (-through +cut): %s", i, diff)
					}
					if !got.Save {
						t.Fatalf("message %d asks for nothing to be kept", i)
					}
					saveTo(t, cut, true, func(key string, value []byte) {
						written += len(key) + len(value)
						if delete(kept, key); value != nil {
							kept[key] = slices.Clone(value)
						}
					})
					if random.IntN(20) == 0 { // the power goes
						cut = compile(t, source)
						cut.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon.Add(at)}})
					}
				}
				all := 0
				for key, value := range kept {
					all += len(key) + len(value)
				}
				t.Logf("%d bytes a message are written, %d bytes in %d records are kept", written/n, all, len(kept))
				if written/n > 700 {
					t.Errorf("%d bytes are written a message", written/n)
				}
			})
		}
	}
}

// What nobody asked for is not written with what somebody did.
func TestOnlyWhatIsAskedForIsSaved(t *testing.T) {
	s := newStandIn(t, `rules:
  - {name: plain, on: plain/+, windows: {w: {sum: payload, last: 10, by: "topic"}}, value: payload, above: 5, do: [{publish: out}]}
  - {name: calm, on: plain/+, debounce: 1s, do: [{publish: out}]}
  - {name: kept, on: kept/+, windows: {w: {sum: payload, last: 10}}, do: [{publish: out}]}
`)
	saved := func(asked bool) (keys []string) {
		saveTo(t, s.prog, asked, func(key string, _ []byte) { keys = append(keys, strings.ReplaceAll(key, "\x00", " ")) })
		return keys
	}
	s.hear("plain/a 9", "plain/a 9", "kept/a 1")
	if keys := saved(true); len(keys) > 0 {
		t.Errorf("%q is saved, and nobody asked", keys)
	}
	s.promised = true
	s.hear("kept/a 1")
	s.promised = false
	s.hear("plain/b 9")
	want := []string{"debounce/calm/plain/a", "e plain limit plain/a", "e plain limit plain/b", "w plain w plain/a", "w plain w plain/b"}
	keys := saved(false)
	slices.Sort(keys)
	if diff := cmp.Diff(want, keys); diff != "" || string(s.kept["w\x00kept\x00w\x00"]) == "" {
		t.Error(diff, s.kept)
	}
}

// apart is a timeline that the wall clock of the process is behind.
type apart time.Duration

func (a apart) Keep(t time.Time) time.Time                 { return t.Add(time.Duration(a)) }
func (a apart) Kept(t time.Time) time.Time                 { return t.Add(-time.Duration(a)) }
func (apart) Owed(time.Time) (away time.Duration, ok bool) { return 0, true }

// A process that believed it was 1970 leaves a window to one that knows better.
func TestWindowsOutliveAWrongClock(t *testing.T) {
	const years = 56 * 365 * 24 * time.Hour
	p := compile(t, windowRule("sum: payload.c, over: 1m"))
	begin := func(p rules.Program, behind time.Duration, kept map[string][]byte) {
		t.Helper()
		call := rules.Call{Trigger: rules.OnStart, Kept: kept, Timeline: apart(behind), Now: noon.Add(-behind)}
		if out := p.Run(t.Context(), []rules.Call{call})[0]; out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	begin(p, years, nil)
	hear(t, p, -years, "home/a/temp", `{"c":1}`)
	kept := make(map[string][]byte)
	saveTo(t, p, false, func(key string, value []byte) { kept[key] = slices.Clone(value) })
	next := compile(t, windowRule("sum: payload.c, over: 1m"))
	begin(next, 0, kept)
	if got := hear(t, next, 59*time.Second, "home/a/temp", `{"c":2}`); got != "3" {
		t.Errorf("the sum is %s, want 3", got)
	}
	if got := hear(t, next, 61*time.Second, "home/a/temp", `{"c":4}`); got != "6" {
		t.Errorf("the sum is %s, want 6", got)
	}
}

// keep is where a program saves what it is asked for.
func keep(kept map[string][]byte) func(string, []byte) error {
	return func(key string, value []byte) error {
		if delete(kept, key); value != nil {
			kept[key] = slices.Clone(value)
		}
		return nil
	}
}

// saveTo gives put what a program saves, which nothing is against.
func saveTo(t testing.TB, p rules.Program, asked bool, put func(key string, value []byte)) {
	t.Helper()
	err := p.Save(asked, func(key string, value []byte) error {
		put(key, value)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What a window hears after it was edited is saved under names that what it held before has
// left.
func TestAWindowThatWasEditedKeepsWhatItHears(t *testing.T) {
	kept := make(map[string][]byte)
	p := compile(t, windowRule("sum: payload.c, last: 100"))
	for i := range 100 {
		hear(t, p, time.Duration(i)*time.Second, "home/a/temp", `{"c":1}`)
	}
	if err := p.Save(false, keep(kept)); err != nil {
		t.Error(err)
	}
	source := windowRule("sum: payload.c, last: 200")
	p = compile(t, source)
	p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon.Add(2 * time.Minute)}})
	for i := range 150 { // before anything is saved
		hear(t, p, 2*time.Minute+time.Duration(i)*time.Millisecond, "home/a/temp", `{"c":1}`)
	}
	if err := p.Save(false, keep(kept)); err != nil {
		t.Error(err)
	}
	p = compile(t, source)
	p.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon.Add(3 * time.Minute)}})
	if got := hear(t, p, 3*time.Minute, "home/a/temp", `{"c":1}`); got != "151" {
		t.Errorf("the sum after a restart is %s, want 151", got)
	}
}

// bounded is where a program saves within so many bytes.
func bounded(kept map[string][]byte, most int) func(string, []byte) error {
	size := 0
	return func(key string, value []byte) error {
		now := size
		if old, had := kept[key]; had {
			now -= len(key) + len(old)
		}
		if value != nil {
			now += len(key) + len(value)
		}
		if now > most {
			return errors.New("no room")
		}
		size = now
		return keep(kept)(key, value)
	}
}

// One window has room in what a file may have saved, whatever it holds.
func TestAWindowHasRoom(t *testing.T) {
	p := compile(t, windowRule("avg: payload.c, over: 1h, by: parts[1]"))
	put := bounded(make(map[string][]byte), 4<<20)
	for k := range 420 { // one after the other, since those used longest ago go
		for i := range 480 { // two values to an aggregate
			hear(t, p, time.Duration(i)*8*time.Second, fmt.Sprintf("home/sensor-%d/temp", k), fmt.Sprintf(`{"c":1%02d.%04d}`, i/72, i*37%10_000))
		}
		if err := p.Save(false, put); err != nil {
			t.Fatalf("key %d: %v", k, err)
		}
	}
}

// Of a key for which there is no room nothing is kept: after a restart it begins anew, and
// says nothing that is wrong. Nor is it tried for each message.
func TestAWindowWithoutRoomBeginsAnew(t *testing.T) {
	source := windowRule("avg: payload.c, over: 1h, by: parts[1]")
	p := compile(t, source)
	kept := make(map[string][]byte)
	put := bounded(kept, 100_000)
	const keys = 20
	topic := func(k int) string { return fmt.Sprintf("home/sensor-%d/temp", k) }
	refused, at := 0, time.Duration(0)
	for i := range 1_000 {
		at = time.Duration(i) * 5 * time.Second
		for k := range keys {
			hear(t, p, at, topic(k), fmt.Sprintf(`{"c":%d}`, i+k))
		}
		if err := p.Save(false, put); err != nil {
			if refused++; !strings.Contains(err.Error(), `window "w" of rule "r": no room`) {
				t.Fatal(err)
			}
		}
	}
	p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: topic(0), Payload: []byte(`{"c":1000}`)}, Now: noon.Add(at), Promised: true}})
	next := compile(t, source)
	next.Run(t.Context(), []rules.Call{{Trigger: rules.OnStart, Kept: maps.Clone(kept), Now: noon.Add(at)}})
	anew := 0
	for k := 1; k < keys; k++ {
		want, got := hear(t, p, at+time.Second, topic(k), `{"c":5000}`), hear(t, next, at+time.Second, topic(k), `{"c":5000}`)
		switch got {
		case want:
		case "5000":
			anew++
		default:
			t.Errorf("%s: the mean is %s after a restart, want %s, or that of what comes", topic(k), got, want)
		}
	}
	if anew == 0 || anew == keys-1 || refused > 200 {
		t.Errorf("%d of %d keys begin anew, %d saves are refused", anew, keys, refused)
	}
}

// A window that is calculated in another way begins anew, and what nobody needs any more
// is taken away.
func TestWindowsOfAnotherShape(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		want   string
	}{
		"the same":       {windowRule("avg:   payload.c, last:  3"), "2"},
		"another extent": {windowRule("avg: payload.c, last: 4"), "3"},
		"another value":  {windowRule("avg: payload.c + 0, last: 3"), "3"},
		"another name":   {strings.ReplaceAll(windowRule("avg: payload.c, last: 3"), "name: r", "name: s"), "3"},
	} {
		t.Run(name, func(t *testing.T) {
			old := compile(t, windowRule("avg: payload.c, last: 3"))
			hear(t, old, 0, "home/a/temp", `{"c":1}`)
			kept := map[string][]byte{"w\x00gone\x00w\x00": []byte("{}"), "other": []byte("{}"), "w\x00r\x00w\x00bad": []byte("nonsense")}
			fresh := compile(t, c.source)
			restart(t, old, fresh, kept, 0)
			if got := hear(t, fresh, 0, "home/a/temp", `{"c":3}`); got != c.want {
				t.Errorf("it came to %s, want %s", got, c.want)
			}
			if len(kept) != 1 && name != "the same" || len(kept) != 2 && name == "the same" || kept["other"] == nil {
				t.Errorf("kept is %q", kept)
			}
		})
	}
}

// A clock that is set does not empty a window of the last minutes while the program runs.
func TestWindowsGoByASteadyClock(t *testing.T) {
	p := compile(t, windowRule("sum: payload.c, over: 1m"))
	m := &message.Message{Topic: "home/a/temp", Payload: []byte(`{"c":1}`)}
	now := time.Now() // has a monotonic reading, which goes on when the wall is set
	for _, want := range []string{"1", "2"} {
		out := p.Run(t.Context(), []rules.Call{{Message: m, Now: now}})[0]
		if string(out.Publish[0].Payload) != want {
			t.Errorf("the sum is %s, want %s", out.Publish[0].Payload, want)
		}
		now = now.Add(30 * time.Second)
	}
}

// A rule by the clock sees its windows, without adding to them.
func TestWindowsByTheClock(t *testing.T) {
	p := compile(t, strings.Replace(windowRule("sum: payload.c, over: 1m"), "on:", "every: 10s\n    on:", 1))
	hear(t, p, 0, "home/a/temp", `{"c":5}`)
	for at, want := range map[time.Duration]string{10 * time.Second: "5", 50 * time.Second: "5", 61 * time.Second: "0"} {
		if at == 61*time.Second {
			continue // last
		}
		out := p.Run(t.Context(), []rules.Call{{Trigger: rules.OnSchedule, Now: noon.Add(at)}})[0]
		if string(out.Publish[0].Payload) != want {
			t.Errorf("after %v it is %s, want %s", at, out.Publish[0].Payload, want)
		}
	}
	out := p.Run(t.Context(), []rules.Call{{Trigger: rules.OnSchedule, Now: noon.Add(time.Minute)}})[0]
	if string(out.Publish[0].Payload) != "0" {
		t.Errorf("after a minute it is %s", out.Publish[0].Payload)
	}
}

func TestRefusedWindows(t *testing.T) {
	for window, want := range map[string]string{
		"{w: {avg: payload.c}}":                               "the window has no end",
		"{w: {last: 3}}":                                      "the window calculates nothing",
		"{w: {avg: payload.c, sum: payload.c, last: 3}}":      `the window has "avg" already`,
		"{w: {avg: payload.c, last: 3, over: 1m}}":            `the window has "last" already`,
		"{w: {avg: payload.c, last: 0}}":                      "last is a number of messages, 1 to 1000",
		"{w: {avg: payload.c, last: 1001}}":                   "1 to 1000",
		"{w: {avg: payload.c, over: 5}}":                      "over is a duration",
		"{w: {avg: payload.c, every: 1ms}}":                   "every is a duration",
		"{w: {ema: payload.c}}":                               "ema wants alpha",
		"{w: {ema: payload.c, alpha: 2}}":                     "alpha is a number above 0",
		"{w: {avg: payload.c, last: 3, alpha: 0.5}}":          "alpha is for ema",
		"{w: {rate: payload.c, last: 1}}":                     "two points",
		"{w: {avg: paylod.c, last: 3}}":                       `unknown name "paylod"`,
		"{w: {avg: payload.c, last: 3, by: paylod}}":          `unknown name "paylod"`,
		"{w: {avg: payload.c, last: 3, for: 1}}":              `unknown key "for"`,
		"{a b: {avg: payload.c, last: 3}}":                    "the name of a window is one word",
		"[w]":                                                 "must be a mapping",
		"{w: {avg: windows.v, last: 3}}":                      `no "windows" before this`,
		"{v: {sum: payload.c}, w: {avg: windows.u, last: 3}}": `windows has no "u": it has v`,
		"{v: {sum: payload.c}}":                               `windows has no "w": it has v`,
	} {
		source := strings.Replace(windowRule("X"), "\n      w:\n        X", " "+window, 1)
		if _, err := compileOnly(source); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "t.yaml:") {
			t.Errorf("%s: %v, want %s", window, err, want)
		}
	}
	for source, want := range map[string]string{
		ruleIf("windows.w > 1"):                                 `5:7: the rule has no "windows"`,
		"filters:\n  - {name: f, on: x, drop: windows.w > 1}\n": "windows are for rules",
		"rules:\n  - {name: r, on: x, windows: {w: {sum: payload}}, if: windows > 1, do: [{publish: y}]}\n":          "windows wants a field: w",
		"rules:\n  - {name: r, on: x, windows: {w: {sum: payload}}, if: windows.w(), do: [{publish: y}]}\n":          "windows has no functions",
		"rules:\n  - {name: r, on: x, windows: {w: {sum: payload}}, if: windows.w.x == nil, do: [{publish: y}]}\n":   "",
		"rules:\n  - {name: r, on: x, windows: {w: {avg: payload, last: 2}}, if: windows.w > 1, do: [{publish: y}]}": "",
	} {
		_, err := compileOnly(source)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
}
