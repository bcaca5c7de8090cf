package trial_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// folder is a folder of files, given by name and text in turns.
func folder(files ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return fsys
}

// inWorld plays in a world of one YAML file.
func inWorld(t *testing.T, o trial.Options, file string, play func(ctx context.Context, w *trial.World)) {
	t.Helper()
	o.Engine.Languages = []rules.Language{exprlang.New()}
	o.Folder = folder("rules.yaml", file)
	err := trial.Run(t.Context(), o, func(ctx context.Context, w *trial.World) error {
		play(ctx, w)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, ctx context.Context, w *trial.World, topic, payload string) message.Verdict {
	t.Helper()
	v, err := w.Publish(ctx, message.Message{Topic: topic, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// unseen takes what rules have published on a filter.
func unseen(w *trial.World, filter string) []string {
	var all []string
	msgs, take := w.Unseen(filter)
	for _, m := range msgs {
		all = append(all, m.Topic+" "+string(m.Payload))
	}
	take(len(msgs))
	return all
}

func TestWhatIsPublishedIsJudgedWhenPublishReturns(t *testing.T) {
	const file = `
rules:
  - name: light
    on: home/+/door
    if: payload.open
    do: [{publish: "home/${parts[1]}/light/set", payload: "on"}]
  - name: chain
    on: home/+/light/set
    do: [{publish: "log/${parts[1]}", payload: "${payload}"}]
filters:
  - name: far
    on: raw/#
    drop: payload.c > 100
    topic: clean/${parts[1]}
`
	inWorld(t, trial.Options{}, file, func(ctx context.Context, w *trial.World) {
		publish(t, ctx, w, "home/hall/door", `{"open":true}`)
		publish(t, ctx, w, "home/attic/door", `{"open":false}`)
		if v := publish(t, ctx, w, "raw/a", `{"c":101}`); v.Action != message.Drop {
			t.Errorf("the verdict is %+v", v)
		}
		publish(t, ctx, w, "raw/b", `{"c":1}`)
		want := []string{"home/hall/light/set on", "log/hall on", `clean/b {"c":1}`}
		if diff := cmp.Diff(want, unseen(w, "#")); diff != "" {
			t.Error(diff)
		}
		if again := unseen(w, "#"); again != nil {
			t.Errorf("seen twice: %q", again)
		}
	})
}

func TestADayGoesByStepByStep(t *testing.T) {
	const file = `
rules:
  - name: hourly
    every: 1h
    do: [{publish: tick, payload: "${now()}"}]
  - name: noon
    at: ["12:00", "12:00:30"]
    do: [{publish: noon, payload: "${now()}"}]
`
	berlin := time.FixedZone("CET", 3600)
	start := time.Date(2026, 3, 1, 9, 59, 59, 0, berlin)
	inWorld(t, trial.Options{Start: start}, file, func(ctx context.Context, w *trial.World) {
		if err := w.Advance(ctx, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		if n := len(unseen(w, "tick")); n != 24 {
			t.Errorf("%d hours went by", n)
		}
		msgs, _ := w.Unseen("noon")
		for i, m := range msgs {
			if at := m.At.Sub(start); at != 2*time.Hour+time.Second+time.Duration(i)*30*time.Second {
				t.Errorf("noon came %v after the start", at)
			}
		}
		if len(msgs) != 2 {
			t.Errorf("noon came %d times", len(msgs))
		}
		if now := w.Now(); !now.Equal(start.Add(24 * time.Hour)) {
			t.Errorf("it is %v", now)
		}
	})
}

func TestAClockThatIsSetMovesNoInterval(t *testing.T) {
	const file = `
rules:
  - name: ten
    every: 10s
    do: [{publish: tick}]
  - name: noon
    at: "12:00"
    do: [{publish: noon}]
`
	inWorld(t, trial.Options{Start: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)}, file, func(ctx context.Context, w *trial.World) {
		if err := w.Advance(ctx, 15*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := w.Set(ctx, time.Date(2026, 3, 1, 11, 59, 50, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		if err := w.Advance(ctx, 4*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := unseen(w, "#"); len(got) != 1 {
			t.Errorf("before: %q", got)
		}
		if err := w.Advance(ctx, 6*time.Second+time.Minute); err != nil {
			t.Fatal(err)
		}
		if n := len(unseen(w, "tick")); n != 7 {
			t.Errorf("%d ticks", n)
		}
		if n := len(unseen(w, "noon")); n != 1 {
			t.Errorf("%d noons", n)
		}
		if err := w.Set(ctx, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
			t.Error("the clock says 1800")
		}
	})
}

// bootedIn1970 is a gateway without a clock of its own: each of its lives begins in 1970,
// and it learns ten seconds later what time it is.
type bootedIn1970 struct {
	t     *testing.T
	world *trial.World
	truth time.Time
}

// live lets the gateway, which has just begun, be on, and then be off.
func (b *bootedIn1970) live(on, off time.Duration, want ...string) {
	b.t.Helper()
	const before = 10 * time.Second
	ctx := b.t.Context()
	err := b.world.Advance(ctx, before)
	if err == nil {
		err = b.world.Set(ctx, b.truth.Add(before))
	}
	if err == nil {
		err = b.world.Advance(ctx, on-before)
	}
	if diff := cmp.Diff(want, unseen(b.world, "out")); err != nil || diff != "" {
		b.t.Errorf("until %v: %v %s", b.world.Now(), err, diff)
	}
	b.truth = b.truth.Add(on + off)
	if err := b.world.Restart(ctx, off, time.Unix(0, 0)); err != nil {
		b.t.Fatal(err)
	}
}

func TestAGatewayThatBeginsIn1970(t *testing.T) {
	o := trial.Options{Start: time.Unix(0, 0).UTC()}
	truth := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	t.Run("a wait goes on with the time that is left", func(t *testing.T) {
		const file = `
rules:
  - name: later
    on: set
    do: [{wait: 30m}, {publish: out, payload: "done"}]
`
		inWorld(t, o, file, func(ctx context.Context, w *trial.World) {
			b := &bootedIn1970{t, w, truth}
			publish(t, ctx, w, "set", "")
			b.live(10*time.Minute, 5*time.Minute)
			b.live(10*time.Minute, time.Minute)
			b.live(5*time.Minute, 0, "out done") // it was due four minutes after this began
		})
	})
	t.Run("an interval is longer than it is ever on", func(t *testing.T) {
		const file = `
rules:
  - name: daily
    every: 24h
    do: [{publish: out, payload: "done"}]
`
		inWorld(t, o, file, func(_ context.Context, w *trial.World) {
			b := &bootedIn1970{t, w, truth}
			b.live(8*time.Hour, 2*time.Hour)
			b.live(8*time.Hour, 2*time.Hour)
			b.live(8*time.Hour, time.Hour, "out done") // at 24:00
			b.live(8*time.Hour, 12*time.Hour)
			b.live(8*time.Hour, 0) // it was due at 48:00, an hour before this began, and ten seconds
			b.live(18*time.Hour, 0, "out done")
		})
	})
}

func TestARestartKeepsWhatIsRetained(t *testing.T) {
	const file = `
rules:
  - name: begin
    start: true
    do: [{publish: began, payload: "${now()}"}]
`
	lives := 0
	o := trial.Options{Ended: func(files []rules.FileStatus) {
		lives++
		if files[0].Rules[0].Counters.Fired != 1 {
			t.Errorf("the status at its end is %+v", files)
		}
	}}
	inWorld(t, o, file, func(ctx context.Context, w *trial.World) {
		before := w.Now()
		if err := w.Restart(ctx, time.Hour, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if down := w.Now().Sub(before); down != time.Hour {
			t.Errorf("it was down for %v", down)
		}
		if got := unseen(w, "began"); len(got) != 2 {
			t.Errorf("it began: %q", got)
		}
		wall := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := w.Restart(ctx, 0, wall); err != nil || !w.Now().Equal(wall) {
			t.Errorf("it is %v: %v", w.Now(), err)
		}
	})
	if lives != 3 {
		t.Errorf("%d lives ended", lives)
	}
}

func TestABrokenFileMakesNoWorld(t *testing.T) {
	o := trial.Options{Folder: folder("a.yaml", "rules: 1"), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	err := trial.Run(t.Context(), o, func(context.Context, *trial.World) error {
		t.Error("it plays")
		return nil
	})
	if err == nil {
		t.Error("no error")
	}
}

func BenchmarkADay(b *testing.B) {
	const file = `
rules:
  - name: every minute
    every: 1m
    if: payload == 1
    do: [{publish: tick}]
  - name: noon
    at: "12:00"
    do: [{publish: noon}]
`
	o := trial.Options{Folder: folder("a.yaml", file), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	b.ReportAllocs()
	err := trial.Run(b.Context(), o, func(ctx context.Context, w *trial.World) error {
		for b.Loop() {
			if err := w.Advance(ctx, 24*time.Hour); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
