package jsvm_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// trialOf plays with scripts in virtual time: the engine and the worker are real.
func trialOf(t *testing.T, files map[string]string, play func(*gateway)) {
	t.Helper()
	s, folder := start(t), fstest.MapFS{}
	for name, text := range files {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	opt := trial.Options{Engine: rules.Options{Languages: trial.Shared([]rules.Language{s.lang})}, Folder: folder}
	err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
		play(&gateway{World: w, t: t, s: s, ctx: ctx, folder: folder})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// gateway is a world whose errors end the test.
type gateway struct {
	*trial.World
	t      *testing.T
	s      *suite
	ctx    context.Context
	folder fstest.MapFS
}

func (g *gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) publish(topic, payload string) {
	g.t.Helper()
	_, err := g.Publish(g.ctx, message.Message{Topic: topic, Payload: []byte(payload)})
	g.must(err)
}

func (g *gateway) retain(topic, payload string) {
	g.t.Helper()
	_, err := g.Publish(g.ctx, message.Message{Topic: topic, Payload: []byte(payload), Retain: true})
	g.must(err)
}

func (g *gateway) advance(d time.Duration) { g.t.Helper(); g.must(g.Advance(g.ctx, d)) }

func (g *gateway) restart(down time.Duration) {
	g.t.Helper()
	g.must(g.Restart(g.ctx, down, time.Time{}))
}

// sees checks what was published on out/# since the last time.
func (g *gateway) sees(want ...string) {
	g.t.Helper()
	msgs, take := g.Unseen("out/#")
	var got []string
	for _, m := range msgs {
		got = append(got, strings.TrimPrefix(m.Topic, "out/")+" "+string(m.Payload))
	}
	take(len(msgs))
	if diff := cmp.Diff(want, got); diff != "" {
		g.t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestTimersOutliveTheGateway(t *testing.T) {
	trialOf(t, map[string]string{"a.ts": `
import { minutes } from './lib/time'
on('door', (m: Message) => after(minutes(10), 'off', m.payload, { id: m.payload.room }))
timer('off', { missed: '2h' }, (data: any, info: TimerInfo) => publish('out/off', [data.room, info.late]))
on('cancel', (m) => cancel('off', m.text))`, "lib/time.ts": "export const minutes = (n: number) => n * 60000"}, func(g *gateway) {
		g.publish("door", `{"room":"hall"}`)
		g.advance(time.Minute)
		g.publish("door", `{"room":"bath"}`)
		g.restart(2 * time.Minute)
		g.sees()
		g.s.killWorker(t)
		g.advance(7*time.Minute - time.Second)
		g.sees()
		g.advance(time.Second)
		g.sees(`off ["hall",0]`)
		g.publish("cancel", "bath")
		g.advance(time.Hour)
		g.sees()
		g.publish("door", `{"room":"attic"}`)
		g.restart(40 * time.Minute)
		g.advance(time.Second)
		g.sees(`off ["attic",1800000]`)
		g.publish("door", `{"room":"cellar"}`)
		g.restart(5 * time.Hour)
		g.advance(time.Minute)
		g.sees()
	})
}

func TestSchedulesInTheEngine(t *testing.T) {
	trialOf(t, map[string]string{"a.js": `
cron('0 * * * *', (due) => publish('out/cron', [new Date().getUTCHours(), due.late > 0]))
at('18:30', { missed: 'skip' }, () => publish('out/at', 1))
start((due) => publish('out/start', due.schedule))
publish('out/top', new Date().toISOString())`}, func(g *gateway) {
		g.sees(`top 2026-01-05T12:00:00.000Z`, "start start")
		g.advance(2*time.Hour + time.Minute)
		g.sees("cron [13,false]", "cron [14,false]")
		g.restart(5 * time.Hour)
		g.advance(time.Second)
		msgs, take := g.Unseen("out/cron")
		if len(msgs) != 1 || string(msgs[0].Payload) != "[19,true]" {
			t.Errorf("made good: %d, %v", len(msgs), msgs)
		}
		take(len(msgs))
		if msgs, _ := g.Unseen("out/at"); len(msgs) > 0 {
			t.Errorf("it was to be skipped: %v", msgs)
		}
	})
}

func TestMemoryOutlivesTheGateway(t *testing.T) {
	trialOf(t, map[string]string{"a.js": `
watch('home/+/door')
const w = window({ last: 3 })
on('add', (m) => { w.add(m.payload); state.update('n', (n = 0) => n + 1) })
on('ask', () => publish('out/is', [last('home/hall/door')?.payload ?? null, w.mean(), state.get('n')]))
on('home/+/door', { retained: true }, (m) => publish('out/door', [m.payload, m.retain]))`}, func(g *gateway) {
		g.retain("home/hall/door", "1")
		g.sees("door [1,false]")
		for _, n := range []string{"1", "2", "3", "4"} {
			g.publish("add", n)
		}
		g.publish("ask", "")
		g.sees("is [1,3,4]")
		g.advance(time.Minute) // what is in windows is kept every few seconds
		g.restart(time.Minute)
		g.sees("door [1,true]")
		g.publish("ask", "")
		g.sees("is [1,3,4]")
		g.s.killWorker(t)
		g.publish("ask", "")
		g.sees("is [1,3,4]")
	})
}

// TestWhatAShadowLeadsTo is shown, not done: what follows a request, a timer and a timer of
// that. What a rule beside it does is done.
func TestWhatAShadowLeadsTo(t *testing.T) {
	trialOf(t, map[string]string{"a.js": `
const act = async (name) => {
  const reply = await http('http://127.0.0.1/' + name)
  publish('out/' + name, ['reply', reply.status, reply.ok])
  await sleep('1s')
  publish('out/' + name, 'slept')
  const every = setInterval(() => { publish('out/' + name, 'interval'); clearInterval(every); setTimeout(() => publish('out/' + name, 'timeout'), 1000) }, 1000)
}
on('x', { shadow: true, name: 'shadow' }, () => act('shadow'))
on('x', async () => { await sleep('1s'); publish('out/real', 1) })
timer('later', { shadow: true }, () => act('timer'))
on('x', () => after('1s', 'later'))`}, func(g *gateway) {
		g.publish("x", "")
		g.advance(10 * time.Second)
		g.sees("real 1")
		var facts []string
		for _, r := range g.Status()[0].Rules {
			if r.Name != "shadow" {
				continue
			}
			for _, e := range slices.Backward(r.Trace) {
				if e.Outcome != rules.RanShadow {
					t.Errorf("a run came to %q: %s", e.Outcome, e.Why)
				}
				for _, f := range e.Facts {
					if strings.HasPrefix(f.What, "publish ") {
						facts = append(facts, f.Value)
					}
				}
			}
		}
		if diff := cmp.Diff([]string{`["reply",0,false]`, "slept", "interval", "timeout"}, facts); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
	})
}

func TestShadowAndHooks(t *testing.T) {
	trialOf(t, map[string]string{"a.js": `
on('x', { shadow: true }, () => publish('out/shadow', 1))
on('x', { enabled: false }, () => publish('out/off', 1))
on('x', () => publish('out/real', 1))
hook('bell', (m) => publish('out/bell', [m.payload, m.topic]))`}, func(g *gateway) {
		g.publish("x", "")
		g.sees("real 1")
		g.must(g.Hook(g.ctx, "bell", message.Message{Payload: []byte("7")}))
		g.sees(`bell [7,"$hook/bell"]`)
	})
}
