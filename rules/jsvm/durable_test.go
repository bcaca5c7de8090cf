package jsvm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
)

func TestKeptTimers(t *testing.T) {
	const text = `
on('door', (m) => after('10m', 'off', { room: m.parts[0], n: m.payload }, { id: m.topic }))
timer('off', (data, info) => publish('off', [data, info.name, info.id, info.late]))
on('cancel', (m) => { cancel('off', m.text); cancel('off') })
on('fail', () => { after(1000, 'off'); throw new Error('no') })
timer('bare', { missed: 'skip', shadow: true }, (data) => publish('bare', data === undefined))
on('long', () => after('1s', 'off', 'x'.repeat(66000)))
on('lost', () => after('1s', 'of'))
on('bare', () => after(0, 'bare'))`
	s := start(t)
	p := s.compile(t, "a.js", text)
	heard := func(rule int, payload string) string { t.Helper(); return show(s.hear(t, p, rule, "door", payload)) }
	want := func(got, want string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	want(heard(0, "7"), `keep after "off" door 10m0s {"room":"door","n":7}`)
	want(heard(2, "door"), "keep after \"off\" door 0s \nkeep after \"off\"  0s ")
	if got := heard(3, ""); !strings.HasPrefix(got, "error a.js:5:46: no\n") || strings.Contains(got, "keep") {
		t.Error(got)
	}
	want(heard(7, ""), `keep after "bare"  1ms `)
	if got := heard(5, ""); !strings.Contains(got, "after: 66002 bytes of data are over the limit of 65536") {
		t.Error(got)
	}
	if got := heard(6, ""); !strings.Contains(got, `a.js:8:23: TypeError: after("of"): the script has no timer("of", handler) at its top level`) {
		t.Error(got)
	}
	for name, handled := range map[string]bool{"off": true, "bare": true, "of": false, "": false, "(await)": false} {
		if p.Handles(name) != handled {
			t.Errorf("Handles(%q) = %v", name, !handled)
		}
	}
	due := rules.Call{Trigger: rules.OnTimer, Timer: `after "off" hall`, Name: "off", Data: []byte(`{"n":[1]}`), Late: 59 * time.Minute, Now: s.now}
	next, err := s.compileIn(t, "a.js", folder{"a.js": text}) // another version, to which the timer is given
	if err != nil {
		t.Fatal(err)
	}
	o := s.run(t, next, due)
	want(show(o), `publish off "[{\"n\":[1]},\"off\",\"hall\",3540000]" q0`)
	if o.For != 2 || !o.Fired {
		t.Errorf("a timer of rule %d, fired %v", o.For, o.Fired)
	}
	due.Late = 61 * time.Minute
	want(show(s.run(t, next, due)), "missed")
	bare := rules.Call{Trigger: rules.OnTimer, Timer: `after "bare" `, Name: "bare", Now: s.now}
	want(show(s.run(t, next, bare)), `publish bare "true" q0`)
	bare.Late = time.Nanosecond
	want(show(s.run(t, next, bare)), "missed")
	bare.Name = "gone"
	want(show(s.run(t, next, bare)), `WARN nothing handles "gone" any more`)
}

// TestKeptTimersAfterARestart: what handles them is there again in the next worker.
func TestKeptTimersAfterARestart(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
after('1s', 'late', 1)
timer('late', (data) => publish('late', data))`)
	o := s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	if got := show(o); got != `keep after "late"  1s 1` {
		t.Fatalf("start: %s", got)
	}
	s.killWorker(t)
	got := show(s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: o.Timers[0].ID, Name: "late", Data: o.Timers[0].Data, Now: s.now}))
	if got != `publish late "1" q0` {
		t.Errorf("timer: %s", got)
	}
}

func TestSchedules(t *testing.T) {
	s := start(t)
	text := `
cron('*/5 7-19 * * mon-fri', (info) => publish('cron', info))
at(['07:30', '12:00'], { missed: 'run', name: 'shutters', shadow: true }, () => publish('at', 1))
sun('sunset - 30m', { missed: '2h' }, () => {})
start(() => publish('up', 1))
hook('door-bell', { missing: undefined }, (msg) => publish('rang', msg.payload))
on('a', { retained: true, enabled: true, qos: 1 }, (msg) => publish('r', msg.retain))
on('b', { enabled: false }, () => {})
cron('0 0 1 1 *', { missed: 'skip' }, () => {})`
	zone := time.FixedZone("here", 3600)
	src := rules.Source{Name: "a.js", Text: []byte(text), Place: &rules.Place{Latitude: 52.5, Longitude: 13.4}, Zone: zone}
	p, err := s.lang.Compile(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Rules() {
		line := fmt.Sprintf("%d %s grace=%v", r.Line, r.Name, r.Grace)
		for _, sched := range r.Schedules {
			line += fmt.Sprintf(" [%s: %s]", sched, sched.Next(s.now).In(zone).Format("Mon 15:04"))
		}
		got = append(got, line+fmt.Sprintf(" start=%v hooks=%q retained=%v shadow=%v", r.Start, r.Hooks, r.Retained, r.Shadow))
	}
	want := []string{
		`2 cron */5 7-19 * * mon-fri grace=0s [cron */5 7-19 * * mon-fri: Mon 07:00] start=false hooks=[] retained=false shadow=false`,
		`3 shutters grace=2562047h47m16.854775807s [at 07:30: Mon 07:30] [at 12:00: Sun 12:00] start=false hooks=[] retained=false shadow=true`,
		`4 sun sunset - 30m grace=2h0m0s [sunset - 30m: Sun 15:34] start=false hooks=[] retained=false shadow=false`,
		`5 start grace=0s start=true hooks=[] retained=false shadow=false`,
		`6 hook door-bell grace=0s start=false hooks=["door-bell"] retained=false shadow=false`,
		`7 on a grace=0s start=false hooks=[] retained=true shadow=false`,
		`9 cron 0 0 1 1 * grace=-1ns [cron 0 0 1 1 *: Fri 00:00] start=false hooks=[] retained=false shadow=false`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	due := rules.Call{Trigger: rules.OnSchedule, Schedule: "cron x", Late: time.Minute, Now: s.now}
	if got := show(s.run(t, p, due)); got != `publish cron "{\"late\":60000,\"schedule\":\"cron x\"}" q0` && got != `publish cron "{\"schedule\":\"cron x\",\"late\":60000}" q0` {
		t.Errorf("cron: %s", got)
	}
	due.Rule = 3
	if got := show(s.run(t, p, due)); got != `publish up "1" q0` {
		t.Errorf("start: %s", got)
	}
	if got := show(s.hear(t, p, 4, "$hook/door-bell", `{"a":1}`)); got != `publish rang "{\"a\":1}" q0` {
		t.Errorf("hook: %s", got)
	}
}

func TestErrorsOfSchedules(t *testing.T) {
	cases := map[string]string{
		"cron('* * *', () => {})":                                    `x.js:1:5: TypeError: "* * *" is not a cron expression`,
		"at('25:00', () => {})":                                      `x.js:1:3: TypeError: "25:00" is not a time of the day`,
		"sun('moonrise', () => {})":                                  `x.js:1:4: TypeError: "moonrise" is none of sunrise, sunset`,
		"\nsun('sunset', () => {})":                                  `x.js:2: the sun needs to know where it is: set rules.place`,
		"at([], () => {})":                                           `x.js:1:3: TypeError: at needs at least one time`,
		"at(7, () => {})":                                            `x.js:1:3: TypeError: at needs text`,
		"at('07:30', { missed: 'never' }, () => {})":                 `x.js:1:3: TypeError: "never" is not a duration`,
		"at('07:30', { missed: 0 }, () => {})":                       `x.js:1:3: TypeError: missed must be "run", "skip", or how late`,
		"at('07:30', { qos: 1 }, () => {})":                          `x.js:1:3: TypeError: at has no option "qos"`,
		"on('a', { shadow: 'false' }, () => {})":                     `x.js:1:3: TypeError: shadow must be true or false`,
		"start('a')":                                                 `x.js:1:6: TypeError: the last argument of start must be a function`,
		"hook('a/b', () => {})":                                      `x.js:1:5: TypeError: the name of a webhook is letters, digits, - and _`,
		"hook('', () => {})":                                         `x.js:1:5: TypeError: hook needs a name of 1 to 200 bytes`,
		"timer('a', () => {}); timer('a', () => {})":                 `x.js:1:28: TypeError: there are two timer("a")`,
		"\nafter('1s', 'a')\nafter('1s', 'b'); timer('b', () => {})": `x.js:2:6: after("a"): the script has no timer("a", handler)`,
		"on('a', () => at('07:30', () => {})); at('a')":              `x.js:1:41: TypeError: the last argument of at must be a function`,
	}
	s := start(t)
	for text, want := range cases {
		_, err := s.lang.Compile(t.Context(), rules.Source{Name: "x.js", Text: []byte(text)})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestSleep(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('a', async (msg) => { publish('before', 1); await sleep('5s'); publish('after', msg.payload); await sleep(10); throw new Error('late') })
filter('f', () => sleep(5))`)
	o := s.hear(t, p, 0, "a", "7")
	if got := show(o); got != "publish before \"1\" q0\ntimer run/1.1 5s false" {
		t.Fatalf("until it sleeps: %s", got)
	}
	o = s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: o.Timers[0].ID, Now: s.now})
	if got := show(o); got != "publish after \"7\" q0\ntimer run/1.2 10ms false" {
		t.Errorf("afterwards: %s", got)
	}
	o = s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: o.Timers[0].ID, Now: s.now})
	if got := show(o); !strings.HasPrefix(got, "error a.js:2:121: late") {
		t.Errorf("an error afterwards: %s", got)
	}
	if got := show(s.hear(t, p, 1, "f", "")); !strings.Contains(got, "sleep cannot be called in a filter") {
		t.Errorf("a filter: %s", got)
	}
}

func TestHTTP(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('get', async () => { const r = await http('https://example.org/a'); publish('got', [r.status, r.ok, r.headers['x-a'], r.payload.n, r.text, r.bytes.length]) })
on('fails', async () => { try { await http('http://example.org', { method: 'put', headers: { A: 'b' }, body: { n: 1 }, timeout: '2s', retries: 2 }) } catch (e) { publish('failed', e.message) } })
on('later', (m) => http.later('http://example.org/x', { name: 'saved', data: { t: m.topic }, body: 'plain', id: 'one' }))
reply('saved', (r, data, info) => publish('saved', [r.status, r.error === undefined, data, info.name]))
on('throws', () => { http('http://example.org'); throw new Error('no') })
on('bad', async () => { const r = await http('http://example.org'); return r.payload })`)
	reply := func(o rules.Outcome, r rules.Reply) rules.Outcome {
		t.Helper()
		if len(o.Requests) != 1 {
			t.Fatalf("requests: %s", show(o))
		}
		q := o.Requests[0]
		return s.run(t, p, rules.Call{Trigger: rules.OnReply, Timer: q.ID, Name: q.Name, Data: q.Data, Reply: &r, Now: s.now})
	}
	want := func(o rules.Outcome, want string) {
		t.Helper()
		if diff := cmp.Diff(want, show(o)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	o := s.hear(t, p, 0, "a", "")
	want(o, ` https://example.org/a map[] "" 0s retries=0 for (await) `)
	want(reply(o, rules.Reply{Status: 200, Header: map[string]string{"X-A": "1"}, Body: []byte(`{"n":5}`)}), `publish got "[200,true,\"1\",5,\"{\\\"n\\\":5}\",7]" q0`)
	want(reply(o, rules.Reply{Status: 200}), `INFO a reply came too late: the runtime that waited for it is gone`)
	o = s.hear(t, p, 1, "a", "")
	want(o, `PUT http://example.org map[A:b Content-Type:application/json] "{\"n\":1}" 2s retries=2 for (await) `)
	want(reply(o, rules.Reply{Err: "refused"}), `publish failed "refused" q0`)
	o = s.hear(t, p, 2, "a/b", "")
	want(o, `POST http://example.org/x map[] "plain" 0s retries=0 for saved {"t":"a/b"}`)
	if got := o.Requests[0].ID; got != `http "saved" one` {
		t.Errorf("identifier %s", got)
	}
	s.killWorker(t)
	o = reply(o, rules.Reply{Status: 503})
	want(o, `publish saved "[503,true,{\"t\":\"a/b\"},\"saved\"]" q0`)
	if o.For != 4 {
		t.Errorf("a reply of rule %d", o.For)
	}
	if o := s.hear(t, p, 4, "a", ""); o.Err == nil || len(o.Requests) > 0 {
		t.Errorf("a handler that throws: %s", show(o))
	}
	if got := show(reply(s.hear(t, p, 5, "a", ""), rules.Reply{Status: 200, Body: []byte("x")})); !strings.HasPrefix(got, "error a.js:7:78: payload of the reply is not JSON") {
		t.Errorf("a reply that is not JSON: %s", got)
	}
}

func TestErrorsOfHTTP(t *testing.T) {
	cases := map[string]string{
		"http('ftp://x')":                                  "is not an address such as",
		"http('/etc/passwd')":                              "is not an address such as",
		"http('file:///etc/passwd')":                       "is not an address such as",
		"http('http://x', { method: 'CONNECT' })":          "method must be GET",
		"http('http://x', { headers: { 'a b': 1 } })":      `header "a b" cannot be sent`,
		"http('http://x', { headers: { a: 'b\\r\\nc' } })": `header "a" cannot be sent`,
		"http('http://x', { timeout: '2m' })":              "timeout must be more than nothing and at most 1m0s",
		"http('http://x', { retries: 11 })":                "retries must be 0 to 10",
		"http('http://x', { name: 'n' })":                  `http has no option "name"`,
		"http.later('http://x')":                           "http.later needs the name of a reply",
		"http.later('http://x', { name: 'n' })":            `the script has no reply("n", handler)`,
		"for (let i = 0; i < 101; i++) http('http://x')":   "an event may make at most 100 requests",
	}
	s := start(t)
	for body, want := range cases {
		p := s.compile(t, "x.js", "on('a', () => {\n"+body+"\n})")
		if o := s.hear(t, p, 0, "a", ""); o.Err == nil || !strings.Contains(o.Err.Error(), want) || len(o.Requests) > 0 {
			t.Errorf("%s: %s, want %s", body, show(o), want)
		}
	}
	p := s.compile(t, "f.js", "filter('a', () => http('http://x'))")
	if o := s.hear(t, p, 0, "a", ""); o.Err == nil || !strings.Contains(o.Err.Error(), "http cannot be called in a filter") {
		t.Errorf("a filter: %s", show(o))
	}
}
