package jsvm_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// keptLife is a script over several versions and processes, with what the engine keeps of
// it.
type keptLife struct {
	*suite
	p        rules.Program
	standing map[string]rules.TimerChange
	due      map[string]time.Time
	memory   map[string][]byte
	line     rules.Timeline
	promised bool // what the script asks to be kept with a call is
	wrote    func(key string, value []byte)
	full     func(key string) bool // nil if there is room for all
	refused  error                 // of what was saved last
}

func (k *keptLife) hear(t *testing.T, rule int, topic, payload string) rules.Outcome {
	t.Helper()
	call := k.call(rule, topic, payload)
	call.Promised = k.promised
	return k.did(k.run(t, k.p, call))
}

// did sets the timers of an outcome.
func (k *keptLife) did(o rules.Outcome) rules.Outcome {
	for _, c := range o.Timers {
		if delete(k.standing, c.ID); c.After > 0 {
			k.standing[c.ID], k.due[c.ID] = c, k.now.Add(c.After)
		}
	}
	if k.promised && o.Save {
		k.saveOf(true)
	}
	return o
}

// later lets time pass, and gives what the timers do that are due then.
func (k *keptLife) later(t *testing.T, d time.Duration) (did []string) {
	t.Helper()
	for until := k.now.Add(d); ; {
		next := ""
		for id := range k.standing {
			if next == "" || k.due[id].Before(k.due[next]) {
				next = id
			}
		}
		if next == "" || k.due[next].After(until) {
			k.now = until
			return did
		}
		k.now = k.due[next]
		c := k.standing[next]
		delete(k.standing, next)
		o := k.did(k.run(t, k.p, rules.Call{Trigger: rules.OnTimer, Timer: c.ID, Name: c.Name, Data: c.Data, Now: k.now, Promised: k.promised}))
		did = append(did, show(o))
	}
}

// version begins another version, in this process or the next.
func (k *keptLife) version(t *testing.T, text string, saved bool) {
	t.Helper()
	if k.p != nil {
		if saved {
			k.save()
		}
		if err := k.p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	k.p = k.compile(t, "a.js", text)
	call := rules.Call{Trigger: rules.OnStart, Now: k.now, Kept: maps.Clone(k.memory), Timeline: k.line}
	for _, id := range slices.Sorted(maps.Keys(k.standing)) {
		c := k.standing[id]
		if !k.p.Handles(c.Name) {
			delete(k.standing, id)
			continue
		}
		call.Standing = append(call.Standing, rules.Standing{ID: id, Name: c.Name, Data: c.Data, Left: k.due[id].Sub(k.now)})
	}
	if o := k.did(k.run(t, k.p, call)); o.Err != nil {
		t.Fatal(o.Err)
	}
}

func (k *keptLife) save() { k.saveOf(false) }

func (k *keptLife) saveOf(asked bool) {
	k.refused = k.p.Save(asked, func(key string, value []byte) error {
		if k.full != nil && value != nil && k.full(key) {
			return errors.New("no room")
		}
		if k.wrote != nil {
			k.wrote(key, value)
		}
		if delete(k.memory, key); value != nil {
			k.memory[key] = slices.Clone(value)
		}
		return nil
	})
}

func startKept(t *testing.T, text string, change ...func(*jsvm.Options)) *keptLife {
	k := &keptLife{suite: start(t, change...), standing: make(map[string]rules.TimerChange), due: make(map[string]time.Time), memory: make(map[string][]byte)}
	k.version(t, text, false)
	return k
}

func wants(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDebounceAndThrottle(t *testing.T) {
	k := startKept(t, `
const calm = debounce('2s', (m) => publish('calm', m.payload))
const each = debounce(500, (topic, n) => publish('each/' + topic, n), { key: (topic) => topic })
const rare = throttle('10s', (n) => publish('rare', n), { key: (n, topic) => topic })
on('calm', (m) => calm(m))
on('each', (m) => each(m.text, 1))
on('fail', (m) => { calm(m); throw new Error('no') })
on('rare', (m) => rare(m.payload, m.topic))
on('rare fails', (m) => { rare(m.payload, 'x'); throw new Error('no') })
on('nothing', () => { for (let i = 0; i < 3; i++) calm({ payload: i }) })`)
	const calm, each, fail, rare, rareFails, thrice = 2, 3, 4, 5, 6, 7
	hear := func(rule int, topic, payload, want string) {
		t.Helper()
		wants(t, topic+" "+payload, show(k.hear(t, rule, topic, payload)), want)
	}
	due := func(after time.Duration, want ...string) {
		t.Helper()
		wants(t, "after "+after.String(), strings.Join(k.later(t, after), "|"), strings.Join(want, "|"))
	}
	hear(calm, "calm", "1", `keep after "(debounce 2s)"  2s {"at":1795334400000,"args":[{"m":{"topic":"calm","text":"1","origin":"client/test","at":"2026-11-22T08:00:00Z"}}]}`)
	due(time.Second)
	hear(calm, "calm", "2", "")
	if o := k.hear(t, fail, "fail", "3"); o.Err == nil || len(o.Timers) > 0 {
		t.Errorf("one that fails: %s", show(o))
	}
	due(time.Second, `keep after "(debounce 2s)"  1s {"at":1795334401000,"args":[{"m":{"topic":"calm","text":"2","origin":"client/test","at":"2026-11-22T08:00:01Z"}}]}`)
	due(time.Second - time.Millisecond)
	due(time.Millisecond, `publish calm "2" q0`)
	due(time.Minute)
	hear(thrice, "nothing", "", `keep after "(debounce 2s)"  2s {"at":1795334463000,"args":[{"v":{"payload":2}}]}`)
	due(2*time.Second, `publish calm "2" q0`)
	hear(each, "each", "a", `keep after "(debounce 500ms)" a 500ms {"at":1795334465000,"args":[{"v":"a"},{"v":1}]}`)
	hear(each, "each", "b", `keep after "(debounce 500ms)" b 500ms {"at":1795334465000,"args":[{"v":"b"},{"v":1}]}`)
	if got := k.later(t, time.Second); len(got) != 2 || !slices.Contains(got, `publish each/a "1" q0`) || !slices.Contains(got, `publish each/b "1" q0`) {
		t.Errorf("of two keys: %q", got)
	}
	hear(rare, "x", "1", `publish rare "1" q0`)
	hear(rare, "x", "2", ``)
	hear(rare, "y", "3", `publish rare "3" q0`)
	due(10*time.Second - time.Millisecond)
	hear(rare, "x", "4", ``)
	due(time.Millisecond)
	if o := k.hear(t, rareFails, "x", "5"); o.Err == nil {
		t.Error("it did not fail")
	}
	hear(rare, "x", "6", `publish rare "6" q0`)
	if p := k.p.Rules()[0]; p.Name != "debounce 2s" || p.Line != 2 || len(p.Filters) > 0 {
		t.Errorf("it is shown as %+v", p)
	}
}

func TestDebounceForgetsWhatFailed(t *testing.T) {
	k := startKept(t, `
const bad = debounce('2s', (key) => { throw new Error('no ' + key) }, { key: (key) => key })
on('all', () => { for (let i = 0; i < 1000; i++) bad('k' + i) })
on('one', () => bad('another'))`, patient)
	if o := k.hear(t, 1, "all", ""); o.Err != nil || len(o.Timers) != 1000 {
		t.Fatalf("%d timers, %v", len(o.Timers), o.Err)
	}
	if o := k.hear(t, 2, "one", ""); o.Err == nil || !strings.Contains(o.Err.Error(), "more than 1000 keys") {
		t.Errorf("one too many: %v", o.Err)
	}
	calls := make([]rules.Call, 0, 1000)
	for id, c := range k.standing {
		calls = append(calls, rules.Call{Trigger: rules.OnTimer, Timer: id, Name: c.Name, Data: c.Data, Now: k.now.Add(2 * time.Second)})
	}
	for i, o := range k.p.Run(t.Context(), calls) {
		if o.Err == nil || !strings.Contains(o.Err.Error(), "no k") || o.For != 1 {
			t.Fatalf("timer %d: %v of rule %d", i, o.Err, o.For)
		}
	}
	for _, life := range []string{"this", "the next"} {
		if o := k.hear(t, 2, "one", ""); o.Err != nil {
			t.Errorf("after they have failed, in %s runtime: %v", life, o.Err)
		}
		k.killWorker(t)
	}
}

// TestPassingDebounce: one that a handler makes, or a shadow rule calls, is no rule, and
// lasts as long as the runtime.
func TestPassingDebounce(t *testing.T) {
	k := startKept(t, `
let calm, rare
const named = debounce('1s', () => publish('named', 1))
on('make', () => { calm ??= debounce('2s', (m) => publish('calm', m.payload)); rare ??= throttle('10s', (m) => publish('rare', m.payload)) })
on('calm', (m) => calm(m))
on('rare', (m) => rare(m))
on('shadow', { shadow: true }, () => named())
const once = throttle('1h', (m) => publish('once', m.payload))
on('trial', { shadow: true }, (m) => once(m))
on('once', (m) => once(m))`)
	k.hear(t, 1, "make", "")
	wants(t, "calm", show(k.hear(t, 2, "calm", "1")), "timer run/2.1 2s false")
	wants(t, "calm again", show(k.hear(t, 2, "calm", "2")), "timer run/2.1 0s false\ntimer run/2.2 2s false")
	wants(t, "rare", show(k.hear(t, 3, "rare", "1")), `publish rare "1" q0`)
	wants(t, "rare again", show(k.hear(t, 3, "rare", "2")), ``)
	wants(t, "later", strings.Join(k.later(t, 10*time.Second), "|"), `publish calm "2" q0`)
	wants(t, "rare at last", show(k.hear(t, 3, "rare", "3")), `publish rare "3" q0`)
	wants(t, "shadow", show(k.hear(t, 4, "shadow", "")), "timer run/2.3@4 1s false")
	wants(t, "a shadow's throttle", show(k.hear(t, 5, "trial", "1")), `publish once "1" q0`)
	wants(t, "which holds back itself", show(k.hear(t, 5, "trial", "2")), ``)
	wants(t, "and nobody else", show(k.hear(t, 6, "once", "3")), `publish once "3" q0`)
	wants(t, "once", show(k.hear(t, 6, "once", "4")), ``)
}

// TestPacesOutlive: what waits goes on in the next worker, version and process, with what
// it was called with last.
func TestPacesOutlive(t *testing.T) {
	const text = `
const calm = debounce('10s', function save(m, n, none, ...rest) { publish('calm', [m.topic, m.qos, m.payload ?? null, n, none === undefined, rest.length, new Date(m.at).getTime() % 1000]) }, { key: (m) => m.topic })
const rare = throttle('1h', (m) => publish('rare', m.text), { name: 'alarm' })
on('calm', (m) => { if (m.text === 'new') m.payload = { made: 1 }; calm(m, 7, undefined) })
on('rare', (m) => rare(m))`
	wantCalm := func(t *testing.T, k *keptLife, after time.Duration, want string) {
		t.Helper()
		wants(t, "the end of the burst", strings.Join(k.later(t, after), "|"), want)
	}
	const saved = `publish calm "[\"calm\",0,2,7,true,0,0]" q0`
	t.Run("in the next worker", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "1")
		k.hear(t, 1, "calm", "2")
		k.hear(t, 2, "rare", "1")
		k.killWorker(t)
		wants(t, "rare", show(k.hear(t, 2, "rare", "2")), "")
		wantCalm(t, k, 10*time.Second, saved)
		wantCalm(t, k, time.Minute, "")
	})
	t.Run("in the next process", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "1")
		k.hear(t, 2, "rare", "1")
		k.later(t, 4*time.Second)
		k.hear(t, 1, "calm", "2")
		k.version(t, text+"\n// edited", true)
		wants(t, "rare", show(k.hear(t, 2, "rare", "2")), "")
		if got := k.later(t, 9*time.Second+999*time.Millisecond); len(got) != 1 || !strings.HasPrefix(got[0], `keep after "(debounce save)" calm 4s `) {
			t.Errorf("before the end: %q", got)
		}
		wantCalm(t, k, time.Millisecond, saved)
		k.save()
		if len(k.memory) != 1 {
			t.Errorf("kept for good: %q", slices.Sorted(maps.Keys(k.memory)))
		}
		k.later(t, time.Hour)
		k.version(t, text, true)
		if k.save(); len(k.memory) != 0 {
			t.Errorf("kept for nothing: %q", slices.Sorted(maps.Keys(k.memory)))
		}
		wants(t, "rare", show(k.hear(t, 2, "rare", "3")), `publish rare "3" q0`)
	})
	t.Run("in a version that comes while it runs", func(t *testing.T) {
		k := startKept(t, text)
		k.now = time.Now().UTC().Truncate(time.Second) // as its top level need not run again then
		k.version(t, text+"\n// edited", true)
		k.hear(t, 1, "calm", "2")
		k.version(t, text, true)
		wantCalm(t, k, 10*time.Second, saved)
	})
	t.Run("without what was not saved", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "1")
		k.hear(t, 1, "calm", "2")
		k.version(t, text, false)
		wantCalm(t, k, 10*time.Second, strings.Replace(saved, ",2,", ",1,", 1))
	})
	t.Run("an older burst is not taken for this one", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "1")
		k.later(t, time.Second)
		k.hear(t, 1, "calm", "5")
		k.save()
		k.later(t, time.Minute)
		k.hear(t, 1, "calm", "2")
		k.version(t, text, false)
		wantCalm(t, k, 10*time.Second, saved)
	})
	t.Run("as the script has changed it", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "new")
		k.version(t, text, false)
		wantCalm(t, k, 10*time.Second, strings.Replace(saved, ",2,", `,{\"made\":1},`, 1))
	})
	t.Run("bytes that are no text", func(t *testing.T) {
		k := startKept(t, `const calm = debounce(1, (m) => publish('b', m.bytes)); on('calm', (m) => calm(m))`)
		k.hear(t, 1, "calm", "\xff\x00")
		k.version(t, `const calm = debounce(1, (m) => publish('b', m.bytes)); on('calm', (m) => calm(m))`, false)
		wantCalm(t, k, time.Second, `publish b "\xff\x00" q0`)
	})
	t.Run("what has no form in JSON lasts as long as the runtime", func(t *testing.T) {
		const text = `const calm = debounce(1, function call(f) { publish('f', f()) }); on('calm', (m) => calm(() => 8)); on('long', (m) => calm(() => 8, m))`
		k := startKept(t, text)
		k.hear(t, 1, "calm", "")
		wantCalm(t, k, time.Second, `publish f "8" q0`)
		for rule, payload := range []string{1: "", 2: strings.Repeat("x", 64<<10)} {
			if rule > 0 {
				k.hear(t, rule, "calm", payload)
				k.version(t, text, true)
				if got := strings.Join(k.later(t, time.Second), "|"); !strings.Contains(got, "debounce call: what it was called with could not be kept") {
					t.Errorf("after a restart: %s", got)
				}
			}
		}
	})
	t.Run("unless it has another name", func(t *testing.T) {
		k := startKept(t, text)
		k.hear(t, 1, "calm", "1")
		k.hear(t, 2, "rare", "1")
		k.version(t, strings.NewReplacer("save", "store", "'alarm'", "'bell'").Replace(text), true)
		if len(k.standing) > 0 {
			t.Errorf("it stands: %v", k.standing)
		}
		wants(t, "rare", show(k.hear(t, 2, "rare", "2")), `publish rare "2" q0`)
	})
}

// apart is a timeline that the wall clock of the process is behind.
type apart time.Duration

func (a apart) Keep(t time.Time) time.Time                 { return t.Add(time.Duration(a)) }
func (a apart) Kept(t time.Time) time.Time                 { return t.Add(-time.Duration(a)) }
func (apart) Owed(time.Time) (away time.Duration, ok bool) { return 0, true }

// TestTimeOutlivesAWrongClock: a process that believed it was 1970 leaves a window, and
// what waits, to one that knows better.
func TestTimeOutlivesAWrongClock(t *testing.T) {
	const text = `
const w = window({ over: '1m' }), rare = throttle('1m', () => publish('rare', 1)), calm = debounce('1m', () => publish('calm', 1))
on('a', (m) => { w.add(m.payload); publish('sum', w.sum()); rare(); calm() })`
	const years = 56 * 365 * 24 * time.Hour
	k := &keptLife{suite: start(t), standing: make(map[string]rules.TimerChange), due: make(map[string]time.Time), memory: make(map[string][]byte)}
	k.now, k.line = k.now.Add(-years), apart(years)
	k.version(t, text, false)
	k.hear(t, 1, "a", "1")
	k.save()
	for id, at := range k.due {
		k.due[id] = at.Add(years) // which is the engine's
	}
	k.now, k.line = k.now.Add(years), apart(0)
	k.version(t, text, true)
	k.now = k.now.Add(59 * time.Second)
	wants(t, "before it is over", show(k.hear(t, 1, "a", "2")), `publish sum "3" q0`)
	k.now = k.now.Add(time.Second)
	wants(t, "afterwards", show(k.hear(t, 1, "a", "4")), "publish sum \"6\" q0\npublish rare \"1\" q0")
	wants(t, "the burst", strings.Join(k.later(t, 61*time.Second), "|"), `keep after "(debounce 1m0s)"  1m0s {"at":1795334460000,"args":[]}|publish calm "1" q0`)
}

func TestNamesOfPaces(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
debounce('1s', () => {}); debounce('1s', () => {}); debounce('2s', () => {})
function save() {}
debounce('1s', save); debounce('1s', save); throttle('1s', save); debounce('1s', save, { name: 'x' })
on('a', () => {})`)
	var names []string
	for _, r := range p.Rules() {
		names = append(names, r.Name)
	}
	wants(t, "names", strings.Join(names, ", "), "debounce 1s, debounce 1s #2, debounce 2s, debounce save, debounce save #2, debounce x, on a")
	for text, want := range map[string]string{
		"debounce('1s', () => {}, { name: 'a' }); debounce('2s', () => {}, { name: 'a' })": `there are two of the name "debounce a"`,
		"debounce('1s', () => {}, { name: '' })":                                           "debounce needs a name of 1 to 200 bytes",
		"debounce('1s', () => {}, { missed: 'never' })":                                    `"never" is not a duration`,
		"throttle('1s', () => {}, { missed: 'run' })":                                      `throttle has no option "missed"`,
		"for (let i = 0; i < 201; i++) throttle('1s', () => {})":                           "more than 200 debounces and throttles",
	} {
		_, err := s.lang.Compile(t.Context(), rules.Source{Name: "x.js", Text: []byte(text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

// TestDebounceGivesAMissingTimerUp: one that the engine could not set holds the function
// back for a minute, not for ever.
func TestDebounceGivesAMissingTimerUp(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `const calm = debounce('2s', () => {}); on('a', () => calm())`)
	for _, step := range []struct {
		after  time.Duration
		timers int
	}{{0, 1}, {time.Second, 0}, {50 * time.Second, 0}, {12 * time.Second, 1}} {
		s.now = s.now.Add(step.after)
		if o := s.hear(t, p, 1, "a", ""); o.Err != nil || len(o.Timers) != step.timers {
			t.Errorf("after %v: %s", step.after, show(o))
		}
	}
}

// TestThrottleForgetsWhatIsOver when it has many keys.
func TestThrottleForgetsWhatIsOver(t *testing.T) {
	k := startKept(t, `
const rare = throttle('10s', () => {}, { key: (n) => n })
on('all', (m) => { for (let i = 0; i < 1000; i++) rare(m.text + i) })`, patient)
	for round, after := range []time.Duration{0, 10 * time.Second, 0} {
		k.later(t, after)
		o := k.hear(t, 0, "all", fmt.Sprint("k", round, "/"))
		if failed := o.Err != nil && strings.Contains(o.Err.Error(), "throttle has more than 1000 keys"); failed != (round == 2) {
			t.Errorf("round %d: %v", round, o.Err)
		}
	}
	k.killWorker(t)
	if o := k.hear(t, 0, "all", "k1/"); o.Err != nil {
		t.Errorf("in the next worker: %v", o.Err)
	}
}

const timeScript = `
const calm = debounce('30s', (m) => publish('out/calm', m.payload))
const skip = debounce('30s', (m) => publish('out/skip', m.payload), { missed: 'skip' })
const long = debounce('3h', (m) => publish('out/long', m.payload))
const any = debounce('3h', (m) => publish('out/any', m.payload), { missed: 'run' })
const rare = throttle('1h', (m) => publish('out/rare', m.payload))
const w = window({ over: '10m' })
on('calm', calm)
on('skip', skip)
on('any', any)
on('long', long)
on('rare', (m) => rare(m))
on('w', (m) => { w.add(m.payload); publish('sum', w.sum()) })
on('w?', () => publish('sum', w.sum()))
`

const timeTests = `
tests:
  - name: a burst goes on with what is left
    rules: [a.js]
    steps:
      - {publish: calm, payload: 1}
      - {advance: 20s}
      - {restart: true}
      - {advance: 9s}
      - {expect none: out/calm}
      - {advance: 1s}
      - {expect: out/calm, payload: 1}
      - {advance: 1h}
      - {expect none: out/calm}
  - name: the last of a burst is kept
    rules: [a.js]
    steps:
      - {publish: calm, payload: 1}
      - {advance: 5s}
      - {publish: calm, payload: 2}
      - {advance: 20s}
      - {restart: true, down: 8s}
      - {advance: 1999ms}
      - {expect none: out/calm}
      - {advance: 1ms}
      - {expect: out/calm, payload: 2}
  - name: what was due while it was off runs once, or not
    rules: [a.js]
    steps:
      - {publish: calm, payload: 1}
      - {publish: skip, payload: 1}
      - {publish: any, payload: 1}
      - {restart: true, down: 59m}
      - {expect: out/calm, payload: 1}
      - {expect none: out/skip}
      - {restart: true}
      - {expect none: out/calm}
      - {publish: calm, payload: 2}
      - {publish: skip, payload: 2}
      - {restart: true, down: 70s}
      - {expect: out/calm, payload: 2}
      - {expect: out/skip, payload: 2}
      - {publish: calm, payload: 3}
      - {restart: true, down: 1d}
      - {expect none: out/calm}
      - {expect: out/any, payload: 1}
  - name: a burst that is not over is not too late
    rules: [a.js]
    steps:
      - {publish: long, payload: 1}
      - {advance: 2h59m}
      - {publish: long, payload: 2}
      - {advance: 20s}
      - {restart: true, down: 2h}
      - {expect none: out/long}
      - {advance: 59m39s}
      - {expect none: out/long}
      - {advance: 1s}
      - {expect: out/long, payload: 2}
  - name: a throttle goes on over a restart
    rules: [a.js]
    steps:
      - {publish: rare, payload: 1}
      - {expect: out/rare, payload: 1}
      - {advance: 20s}
      - {restart: true, down: 30m}
      - {publish: rare, payload: 2}
      - {expect none: out/rare}
      - {advance: 29m}
      - {publish: rare, payload: 3}
      - {expect none: out/rare}
      - {advance: 1m}
      - {publish: rare, payload: 4}
      - {expect: out/rare, payload: 4}
  - name: a throttle is kept at once
    rules: [a.js]
    steps:
      - {publish: rare, payload: 1, qos: 1}
      - {expect: out/rare, payload: 1}
      - {advance: 1s}
      - {restart: true}
      - {publish: rare, payload: 2}
      - {expect none: out/rare}
  - name: a clock that is set empties no window
    rules: [a.js]
    clock: 1970-01-01T00:00:00Z
    steps:
      - {publish: w, payload: 1}
      - {expect: sum, payload: 1}
      - {advance: 5m}
      - {set clock: 2026-01-01T00:00:00Z}
      - {publish: w, payload: 2}
      - {expect: sum, payload: 3}
      - {advance: 4m59s}
      - {publish: w?}
      - {expect: sum, payload: 3}
      - {advance: 1s}
      - {publish: w?}
      - {expect: sum, payload: 2}
      - {set clock: 1999-01-01T00:00:00Z}
      - {publish: w, payload: 4}
      - {expect: sum, payload: 6}
      - {advance: 5m}
      - {publish: w?}
      - {expect: sum, payload: 4}
  - name: nor does it hold back, or hurry, what waits
    rules: [a.js]
    clock: 1970-01-01T00:00:00Z
    steps:
      - {publish: rare, payload: 1}
      - {expect: out/rare, payload: 1}
      - {publish: calm, payload: 1}
      - {set clock: 2026-01-01T00:00:00Z}
      - {publish: rare, payload: 2}
      - {expect none: out/#}
      - {advance: 29s}
      - {expect none: out/calm}
      - {advance: 1s}
      - {expect: out/calm, payload: 1}
      - {set clock: 1999-01-01T00:00:00Z}
      - {advance: 59m}
      - {publish: rare, payload: 3}
      - {expect none: out/rare}
      - {advance: 1m}
      - {publish: rare, payload: 4}
      - {expect: out/rare, payload: 4}
  - name: the time off counts for a window
    rules: [a.js]
    steps:
      - {publish: w, payload: 1}
      - {expect: sum, payload: 1}
      - {advance: 20s}
      - {restart: true, down: 5m}
      - {publish: w, payload: 2}
      - {expect: sum, payload: 3}
      - {advance: 5m}
      - {publish: w?}
      - {expect: sum, payload: 2}
`

// TestTimeInTheEngine plays scripts in virtual time, with power cuts and a clock that is set.
func TestTimeInTheEngine(t *testing.T) {
	f, err := trial.Parse("a.test.yaml", []byte(timeTests))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	o := trial.Options{
		Engine: rules.Options{Languages: trial.Shared([]rules.Language{s.lang})},
		Folder: fstest.MapFS{"a.js": {Data: []byte(timeScript)}},
	}
	for i := range f.Tests {
		t.Run(f.Tests[i].Name, func(t *testing.T) {
			if r := f.Run(t.Context(), o, &f.Tests[i]); r.Failure != nil {
				t.Errorf("%+v", r.Failure)
			}
		})
	}
}
