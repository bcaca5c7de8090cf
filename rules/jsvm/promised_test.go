package jsvm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

const promisedScript = `
const few = window({ last: 5, name: 'few' })
const many = window({ last: 300, name: 'many' })
const lately = window({ over: '20m', name: 'lately' })
on('add', (m) => {
  few.add(m.text, m.payload % 10)
  many.add(m.payload)
  lately.add(m.payload % 2, m.payload)
  publish('sum', [few.sum(m.text), many.sum(), many.count(), many.rate() ?? null, lately.sum(m.payload % 2), lately.count(m.payload % 2)])
})
on('calm', debounce('30s', (m) => publish('calm', m.payload), { key: (m) => m.parts[0] }))
on('rare', throttle('5s', (m) => publish('rare', m.payload)))
`

// What a script remembers of calls that were promised is there after a power cut, though
// nothing but that was saved; and that is little.
func TestWhatWasPromisedOutlivesAPowerCut(t *testing.T) {
	through, cut := startKept(t, promisedScript), startKept(t, promisedScript)
	cut.promised = true
	cut.memory = make(map[string][]byte)
	random := rand.New(rand.NewPCG(7, 8))
	const n = 1500
	for i := range n {
		after := time.Duration(1+random.IntN(5)) * time.Second
		rule, topic, payload := 0, "add", fmt.Sprint(random.IntN(100))
		switch random.IntN(8) {
		case 0:
			rule, topic = 2, "calm"
		case 1:
			rule, topic = 4, "rare"
		}
		for r, of := range through.p.Rules() {
			if len(of.Filters) > 0 && of.Filters[0] == topic {
				rule = r
			}
		}
		want, got := through.later(t, after), cut.later(t, after)
		wants(t, "what was due", strings.Join(got, "; "), strings.Join(want, "; "))
		wants(t, fmt.Sprintf("message %d, %s %s", i, topic, payload), show(cut.hear(t, rule, topic, payload)), show(through.hear(t, rule, topic, payload)))
		if t.Failed() {
			return
		}
		if random.IntN(40) == 0 { // the power goes
			cut.version(t, promisedScript, false)
		}
	}
	written := 0
	cut.wrote = func(key string, value []byte) { written += len(key) + len(value) }
	for range 100 {
		cut.later(t, time.Second)
		cut.hear(t, 0, "add", "7.25")
	}
	t.Logf("%d bytes a message are written, %d records are kept", written/100, len(cut.memory))
	if written > 100*1200 { // of three windows
		t.Errorf("%d bytes are written a message", written/100)
	}
}

// Keys of a throttle that are over are forgotten, and their records, though there is room.
func TestAThrottleForgetsByAge(t *testing.T) {
	const text = `on('in', throttle('20s', (m) => publish('out', m.payload), { key: (m) => m.payload }))`
	k := startKept(t, text)
	for i := range 300 {
		k.hear(t, 0, "in", fmt.Sprint(i))
	}
	k.later(t, 10*time.Second)
	k.hear(t, 0, "in", "1000")
	k.save()
	if n := len(k.memory); n != 301 {
		t.Errorf("%d records are kept, want 301", n)
	}
	k.later(t, 11*time.Second)
	k.hear(t, 0, "in", "1001")
	k.save()
	if n := len(k.memory); n != 2 {
		t.Errorf("%d records are kept, want 2", n)
	}
	k.version(t, text, true)
	wants(t, "within the time", show(k.hear(t, 0, "in", "1000")), "")
	k.later(t, 9*time.Second)
	wants(t, "after it", show(k.hear(t, 0, "in", "1000")), `publish out "1000" q0`)
}

// A window that is made larger or smaller keeps what fits, and nothing is left of how it was
// kept.
func TestAWindowOfAnotherSizeKeepsWhatFits(t *testing.T) {
	text := func(last int) string {
		return fmt.Sprintf("const w = window({ last: %d, name: 'w' })\non('add', (m) => { w.add(m.payload); publish('n', [w.count(), w.sum()]) })", last)
	}
	k := startKept(t, text(200))
	for i := range 300 {
		k.hear(t, 0, "add", fmt.Sprint(i))
	}
	sum := func(from, to int) (s int) {
		for i := from; i <= to; i++ {
			s += i
		}
		return s
	}
	for i, c := range []struct{ last, count, records int }{{200, 200, 8}, {100, 100, 5}, {10, 10, 1}, {10, 10, 1}, {500, 11, 1}, {40, 12, 1}} {
		k.version(t, text(c.last), true)
		next := 300 + i
		wants(t, fmt.Sprint("last ", c.last), show(k.hear(t, 0, "add", fmt.Sprint(next))), fmt.Sprintf(`publish n "[%d,%d]" q0`, c.count, sum(next-c.count+1, next)))
		k.save()
		if n := len(k.memory); n > c.records {
			t.Errorf("last %d: %d records are kept", c.last, n)
		}
	}
}

// A key that is forgotten for others is not there after a restart.
func TestAForgottenKeyOfAWindowIsNotKept(t *testing.T) {
	k := startKept(t, `const w = window({ last: 100, name: 'w' })
on('add', (m) => { w.add(m.text, 1); publish('n', w.count(m.text)) })`)
	k.hear(t, 0, "add", "first")
	k.save()
	for i := range 1000 {
		k.hear(t, 0, "add", fmt.Sprint("k", i))
	}
	k.save()
	if n := len(k.memory); n != 1000 {
		t.Errorf("%d records are kept, want 1000", n)
	}
	k.version(t, `const w = window({ last: 100, name: 'w' })
on('add', (m) => publish('n', w.count(m.text)))`, true)
	wants(t, "the first key", show(k.hear(t, 0, "add", "first")), `publish n "0" q0`)
	wants(t, "the second key", show(k.hear(t, 0, "add", "k1")), `publish n "1" q0`)
}

// What a version has saved that kept all of a window in one record is taken over.
func TestAWindowOfAFormerVersion(t *testing.T) {
	k := startKept(t, `on('add', () => {})`)
	at := k.now.UnixMilli()
	k.memory["window/1/w"] = fmt.Appendf(nil, "[[%d,1],[%d,2]]", at, at)
	k.memory["piece/1/w7/"] = []byte("nonsense")
	k.memory["piece/1/wx/"] = []byte(`{"i":0,"t":[1],"v":[1]}`)
	k.memory["piece/1/w0/b"] = []byte(`{"i":-3,"t":[1],"v":[1]}`)
	text := `const w = window({ last: 100, name: 'w' })
on('add', (m) => { w.add(m.payload); publish('n', [w.count(), w.sum()]) })`
	k.version(t, text, false)
	wants(t, "at first", show(k.hear(t, 0, "add", "3")), `publish n "[3,6]" q0`)
	k.save()
	if len(k.memory) != 1 || k.memory["piece/1/w0/"] == nil {
		t.Errorf("kept is %q", k.memory)
	}
	k.version(t, text, false)
	wants(t, "after that", show(k.hear(t, 0, "add", "4")), `publish n "[4,10]" q0`)
}

// What takes the records of a former version away is kept with those that replace them,
// though only another key was asked for: the power may go then.
func TestAFormerWindowOutlivesAPowerCut(t *testing.T) {
	count := func(last int) string {
		return fmt.Sprintf("const w = window({ last: %d, name: 'w' })\non('add', (m) => { w.add(m.text, 1); publish('n', w.count(m.text)) })", last)
	}
	for name, c := range map[string]struct {
		before func(k *keptLife)
		want   string
	}{
		"one record": {func(k *keptLife) {
			whole := "[" + strings.Repeat(fmt.Sprintf("[%d,1],", k.now.UnixMilli()), 49) + fmt.Sprintf("[%d,1]]", k.now.UnixMilli())
			k.memory["window/1/wa"], k.memory["window/1/wb"] = []byte(whole), []byte(whole)
		}, "51"},
		"fewer pieces": {func(k *keptLife) {
			k.version(t, count(100), false)
			for range 300 {
				k.hear(t, 0, "add", "a")
				k.hear(t, 0, "add", "b")
			}
			k.save()
		}, "101"},
	} {
		t.Run(name, func(t *testing.T) {
			k := startKept(t, `on('add', () => {})`)
			c.before(k)
			k.version(t, count(300), false)
			k.run(t, k.p, rules.Call{Message: k.call(0, "add", "a").Message, Now: k.now, Promised: true})
			k.saveOf(true)
			k.version(t, count(300), false) // the power goes
			wants(t, "the other key", show(k.hear(t, 0, "add", "b")), fmt.Sprintf(`publish n "%s" q0`, c.want))
		})
	}
}

// A version from before there were pieces, to which one went back for a while, has written
// last what it left in one record.
func TestAWindowGoesBackAVersionAndForth(t *testing.T) {
	k := startKept(t, `on('add', () => {})`)
	at := k.now.UnixMilli()
	k.memory["window/1/w"] = []byte("[" + strings.Repeat(fmt.Sprintf("[%d,5],", at), 34) + fmt.Sprintf("[%d,5]]", at))
	k.memory["piece/1/w0/"] = fmt.Appendf(nil, `{"i":0,"t":[%d%s],"v":[1%s]}`, at-3600_000, strings.Repeat(",0", 31), strings.Repeat(",1", 31))
	text := `const w = window({ last: 40, name: 'w' })
on('add', (m) => { w.add(5); publish('n', [w.last(), w.sum()]) })`
	k.version(t, text, false)
	wants(t, "what is newest", show(k.hear(t, 0, "add", "")), `publish n "[5,180]" q0`)
	k.version(t, text, true)
	wants(t, "after a restart", show(k.hear(t, 0, "add", "")), `publish n "[5,185]" q0`)
}

// Of a key for which there is no room nothing is kept, as a part would be taken for the whole;
// it is kept again when there is room.
func TestAWindowWithoutRoomBeginsAnew(t *testing.T) {
	const text = "const w = window({ last: 100, name: 'w' })\non('add', (m) => { w.add(m.text, 1); publish('n', w.count(m.text)) })"
	k := startKept(t, text)
	fill := func(n int) {
		for range n {
			k.hear(t, 0, "add", "a")
			k.hear(t, 0, "add", "b")
		}
	}
	fill(40)
	k.save()
	k.full = func(key string) bool { return key == "piece/1/w1/a" }
	fill(40)
	k.save()
	if k.refused == nil || !strings.Contains(k.refused.Error(), `window "w"`) {
		t.Errorf("it is refused: %v", k.refused)
	}
	for key := range k.memory {
		if strings.HasSuffix(key, "/a") {
			t.Errorf("%s is kept", key)
		}
	}
	k.promised = true
	fill(1)
	if k.promised = false; k.refused != nil {
		t.Errorf("it is tried for each call: %v", k.refused)
	}
	k.version(t, text, false)
	wants(t, "a", show(k.hear(t, 0, "add", "a")), `publish n "1" q0`)
	wants(t, "b", show(k.hear(t, 0, "add", "b")), `publish n "82" q0`)
	fill(60)
	k.save()
	k.full = nil
	fill(1)
	k.version(t, text, true)
	wants(t, "a, with room", show(k.hear(t, 0, "add", "a")), `publish n "63" q0`)
}

// Only what is asked for is written for it.
func TestOnlyWhatIsAskedForIsSaved(t *testing.T) {
	k := startKept(t, promisedScript)
	k.hear(t, 0, "add", "1")
	keys := 0
	saveTo(t, k.p, true, func(string, []byte) { keys++ })
	if keys > 0 {
		t.Errorf("%d records are saved, and nobody asked", keys)
	}
	out := k.run(t, k.p, rules.Call{Message: k.call(0, "add", "2").Message, Now: k.now, Promised: true})
	saveTo(t, k.p, true, func(string, []byte) { keys++ })
	if keys != 3 || !out.Save {
		t.Errorf("%d records are saved, want those of three windows; it asks: %t", keys, out.Save)
	}
}
