package history_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/history"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets the time of a bubble pass.
func pass(d time.Duration) { <-time.After(d) }

// bus gives what is sent to it to its one subscriber.
type bus chan []message.Message

func (b bus) Publish(context.Context, ...message.Message) error   { return errors.ErrUnsupported }
func (b bus) Resubscribe(context.Context, string, []string) error { return errors.ErrUnsupported }
func (b bus) Subscribe(ctx context.Context, _ message.Subscription, h message.Handler) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-b:
			if err := h(ctx, batch); err != nil {
				return err
			}
		}
	}
}

// watched counts what a store is given, and may refuse it.
type watched struct {
	store.Store
	applies, puts, deletes atomic.Int64
	broken                 atomic.Bool
}

type refused struct{}

func (refused) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
func (refused) Wait(context.Context) error { return store.ErrFull }

func (w *watched) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	w.applies.Add(1)
	grows := slices.ContainsFunc(changes, func(c store.Change) bool { return c.Op == store.Put })
	if w.broken.Load() && grows { // as a store that is full
		return refused{}
	}
	for i := range changes {
		if changes[i].Op == store.Put && changes[i].Bucket == "history" {
			w.puts.Add(1)
		} else if changes[i].Op == store.Delete {
			w.deletes.Add(1)
		}
	}
	return w.Store.Apply(changes, after...)
}

// subject is a history that runs, in the virtual time of a bubble.
type subject struct {
	t     *testing.T
	store *watched
	*history.History
	bus    bus
	cancel context.CancelFunc
	ended  chan error
}

func begin(t *testing.T, s *watched, o history.Options) *subject {
	t.Helper()
	o.Store, o.Log = s, slog.New(slog.DiscardHandler)
	if o.Topics == nil {
		o.Topics = []string{"#"}
	}
	if o.Now == nil {
		o.Now = func() (time.Time, bool) { return time.Now(), true } // the bubble's clock begins in 2000
	}
	h, err := history.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sub := &subject{t: t, store: s, History: h, bus: make(bus), cancel: cancel, ended: make(chan error, 1)}
	go func() { sub.ended <- h.Run(ctx, sub.bus) }()
	synctest.Wait()
	return sub
}

func (s *subject) end() {
	s.t.Helper()
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("ended with %v", err)
	}
}

// say has numbers come a second apart, and returns them.
func (s *subject) say(topic string, n int) (points []history.Point) {
	s.t.Helper()
	for i := range n {
		at, v := time.Now().Truncate(time.Millisecond), float64(i)*0.5
		s.bus <- []message.Message{{Topic: topic, Payload: fmt.Append(nil, v), At: at}}
		points = append(points, history.Point{At: at, Value: v})
		pass(time.Second)
	}
	synctest.Wait()
	return points
}

func (s *subject) points(q history.Query) []history.Point {
	s.t.Helper()
	points, err := s.Points(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	return points
}

func same(t *testing.T, what string, got, want []history.Point) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b history.Point) bool { return a.At.Equal(b.At) && a.Value == b.Value }) {
		t.Errorf("%s: got %d points %v, want %d %v", what, len(got), ends(got), len(want), ends(want))
	}
}

func ends(p []history.Point) []history.Point {
	if len(p) > 4 {
		return []history.Point{p[0], p[1], p[len(p)-2], p[len(p)-1]}
	}
	return p
}

func TestPointsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := &watched{Store: mem.New()}
		s := begin(t, held, history.Options{})
		var want []history.Point
		want = append(want, s.say("a", 700)...) // some are written, some wait, some are in the open chunk
		other := s.say("a/b", 3)
		check := func(when string) {
			t.Helper()
			same(t, when+": all", s.points(history.Query{Series: "a"}), want)
			same(t, when+": another series", s.points(history.Query{Series: "a/b"}), other)
			same(t, when+": a series that is not there", s.points(history.Query{Series: "b"}), nil)
			same(t, when+": the first", s.points(history.Query{Series: "a", Limit: 70}), want[:70])
			for _, i := range []int{0, 1, 59, 60, 61, 333, 699} {
				same(t, fmt.Sprint(when, ": from ", i), s.points(history.Query{Series: "a", From: want[i].At}), want[i:])
				same(t, fmt.Sprint(when, ": to ", i), s.points(history.Query{Series: "a", To: want[i].At}), want[:i])
				same(t, fmt.Sprint(when, ": about ", i), s.points(history.Query{Series: "a", From: want[max(0, i-5)].At, To: want[i].At}), want[max(0, i-5):i])
			}
		}
		check("before they are written")
		pass(history.FlushEvery + time.Second)
		synctest.Wait()
		check("written")
		s.end()
		s = begin(t, held, history.Options{})
		check("read again")
		want = append(want, s.say("a", 100)...)
		check("and gone on")
		s.end()
		if st := s.Stats(); st.Series != 2 || st.Points != 100 || st.Lost+st.Damaged+st.Unkept != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// What someone knows by itself is kept at its own time, and once.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{Topics: []string{"heard/#"}})
		at := time.Now().Add(-time.Minute)
		s.Keep("plc/t", at, 21.5)
		s.Keep("plc#t", at, 1)
		s.Keep("heard/t", at, 3) // it comes as a message, too
		s.Keep("heard#t", at, 3)
		s.Keep("plc/t", time.Now().Add(2*time.Hour), 4)
		s.Keep("plc/t", time.UnixMilli(-1), 5)
		same(t, "plc/t", s.points(history.Query{Series: "plc/t"}), []history.Point{{At: at, Value: 21.5}})
		same(t, "plc#t", s.points(history.Query{Series: "plc#t"}), []history.Point{{At: at, Value: 1}})
		same(t, "heard/t", s.points(history.Query{Series: "heard/t"}), nil)
		same(t, "heard#t", s.points(history.Query{Series: "heard#t"}), nil)
		if st := s.Stats(); st.Points != 2 || st.Unkept != 2 {
			t.Errorf("got %+v", st)
		}
		s.end()
	})
}

// An SD card lasts when points are written together.
func TestWritesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{})
		for range 3600 {
			batch := make([]message.Message, 10)
			for i := range batch {
				batch[i] = message.Message{Topic: fmt.Sprint("t/", i), Payload: []byte("21.5"), At: time.Now()}
			}
			s.bus <- batch
			pass(time.Second)
		}
		synctest.Wait()
		if n := s.store.applies.Load(); n < 5 || n > 6 {
			t.Errorf("%d writes an hour", n)
		}
		before := s.store.applies.Load()
		pass(24 * time.Hour)
		if n := s.store.applies.Load() - before; n > 1 {
			t.Errorf("%d writes while nothing comes", n)
		}
		s.end()
	})
}

func TestTheOldestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := &watched{Store: mem.New()}
		s := begin(t, held, history.Options{Age: time.Hour})
		s.say("gone", 90)
		all := s.say("a", 3*3600)
		got := s.points(history.Query{Series: "a"})
		if len(got) < 3600 || len(got) > 3600+600+120 { // a flush and two chunks late
			t.Errorf("%d points of an hour", len(got))
		}
		same(t, "the newest", got, all[len(all)-len(got):])
		if len(s.Series()) != 1 || s.Series()[0].Name != "a" {
			t.Errorf("got %+v", s.Series())
		}
		s.end()
		left, err := held.Records(t.Context(), store.Range{Bucket: "history", Limit: 1000, NoValues: true})
		if err != nil || len(left) > 3600/60+12+1 {
			t.Errorf("%d chunks left, %v", len(left), err)
		}
	})
}

func TestTheStoreIsNotFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{Bytes: 64 << 10})
		for range 40 {
			batch := make([]message.Message, 1000)
			for i := range batch {
				v := math.Sin(float64(time.Now().UnixMilli())/1e6+float64(i)) * 1e6
				batch[i] = message.Message{Topic: fmt.Sprint("t/", i%7), Payload: fmt.Append(nil, v), At: time.Now().Add(time.Duration(i) * time.Millisecond)}
			}
			s.bus <- batch
			pass(time.Minute)
		}
		pass(history.FlushEvery + time.Second)
		synctest.Wait()
		st := s.Stats()
		if st.Bytes > 64<<10 || st.Bytes < 48<<10 {
			t.Errorf("%d bytes are kept", st.Bytes)
		}
		left, err := s.store.Records(t.Context(), store.Range{Bucket: "history", Limit: 10000, NoValues: true})
		sum := int64(0)
		for _, r := range left {
			sum += int64(r.Size)
		}
		if err != nil || sum != st.Bytes {
			t.Errorf("%d bytes in the store, %d counted, %v", sum, st.Bytes, err)
		}
		s.end()
	})
}

func TestAStoreThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{})
		s.store.broken.Store(true)
		want := s.say("a", 1500)
		if s.store.applies.Load() < 2 || s.store.puts.Load() != 0 {
			t.Errorf("%d writes", s.store.applies.Load())
		}
		same(t, "meanwhile", s.points(history.Query{Series: "a"}), want)
		s.store.broken.Store(false)
		pass(history.FlushEvery + time.Second)
		synctest.Wait()
		if n := s.store.puts.Load(); n != 25 {
			t.Errorf("%d chunks written", n)
		}
		same(t, "later", s.points(history.Query{Series: "a"}), want)
		s.end()
	})
}

func TestMemoryIsBoundedWhileTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{})
		s.store.broken.Store(true)
		for k := range 200 {
			batch := make([]message.Message, 1000)
			for i := range batch {
				at := time.Now().Add(time.Duration(k*1000+i) * time.Millisecond)
				batch[i] = message.Message{Topic: "a", Payload: fmt.Append(nil, math.Sqrt(float64(k*1000+i))), At: at}
			}
			s.bus <- batch
		}
		synctest.Wait()
		st := s.Stats()
		if st.Lost == 0 || st.Bytes > 1<<20 {
			t.Errorf("got %+v", st)
		}
		got := s.points(history.Query{Series: "a", From: time.Now().Add(199 * time.Second)})
		if len(got) != 1000 {
			t.Errorf("%d of the newest 1,000 points", len(got))
		}
		s.end()
	})
}

func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plausible := false
		s := begin(t, &watched{Store: mem.New()}, history.Options{Now: func() (time.Time, bool) { return time.Now(), plausible }})
		s.say("a", 5)
		if st := s.Stats(); st.Points != 0 || st.Unkept != 5 {
			t.Errorf("while the clock is not plausible: %+v", st)
		}
		plausible = true
		begin := time.Now()
		var want []history.Point
		for _, offset := range []time.Duration{0, time.Second, time.Hour, 10 * time.Minute, 10*time.Minute + time.Second, time.Second, 0, 0} {
			at := begin.Add(offset)
			s.bus <- []message.Message{{Topic: "a", Payload: []byte("1"), At: at}}
			want = append(want, history.Point{At: at, Value: 1})
		}
		synctest.Wait()
		got := s.points(history.Query{Series: "a"})
		if len(got) != len(want) || !slices.IsSortedFunc(got, func(a, b history.Point) int { return a.At.Compare(b.At) }) {
			t.Errorf("a clock that is set back: got %v", got)
		}
		s.end()
	})
}

// A clock that leaps by years takes nothing with it unless it stays there, and what it
// had points say then does not stay for years.
func TestAClockThatLeaps(t *testing.T) {
	const years = 50 * 366 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		held := &watched{Store: mem.New()}
		var wrong atomic.Int64 // read by the one that flushes
		o := history.Options{Age: 3 * time.Hour, Now: func() (time.Time, bool) { return time.Now().Add(time.Duration(wrong.Load())), true }}
		s := begin(t, held, o)
		again := func() {
			s.end()
			s = begin(t, held, o)
		}
		count := func(what string, want int) {
			t.Helper()
			if got := s.points(history.Query{Series: "a", To: time.Now().Add(2 * years)}); len(got) != want {
				t.Errorf("%s: %d points, not %d", what, len(got), want)
			}
		}
		s.say("a", 100)
		pass(history.FlushEvery)
		wrong.Store(int64(years))
		s.bus <- []message.Message{{Topic: "a", Payload: []byte("1"), At: time.Now().Add(years)}}
		pass(2 * history.FlushEvery)
		count("50 years on", 101)
		again()
		pass(2 * history.FlushEvery)
		count("after a restart", 101)
		wrong.Store(0)
		again()
		s.say("a", 10)
		pass(2 * history.FlushEvery)
		count("set right, what was said then is gone", 110)
		pass(25 * time.Hour)
		count("a day later", 0)
		if n := len(s.Series()); n != 0 {
			t.Errorf("%d series are left", n)
		}
		s.end()
	})
}

func TestWhatIsANumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{Series: 10})
		for _, payload := range []string{
			"21.5", " -3e2\n", "true", "false", // the topic's own series
			`{"c": 21, "open": true, "name": "x", "deep": {"c": 1}, "": 5, "n": null}`, // two more
			"", "x", "NaN", "Infinity", "0x10", "1_000", "1e999", "01", "+1", "[1]", `"1"`, "{", `{"a": }`, "-", "tru", strings.Repeat("1", 65),
			strings.Repeat("[", 1<<20), "{" + strings.Repeat(" ", 1<<15) + "}", `{"a\u0000b": 1}`,
		} {
			s.bus <- []message.Message{{Topic: "t", Payload: []byte(payload), At: time.Now()}}
		}
		synctest.Wait()
		var names []string
		for _, info := range s.Series() {
			names = append(names, info.Name)
		}
		if !slices.Equal(names, []string{"t", "t#c", "t#open"}) {
			t.Errorf("got %q", names)
		}
		if got := s.points(history.Query{Series: "t"}); len(got) != 4 || got[0].Value != 21.5 || got[1].Value != -300 || got[2].Value != 1 || got[3].Value != 0 {
			t.Errorf("got %v", got)
		}
		for i := range 20 {
			s.bus <- []message.Message{{Topic: fmt.Sprint("more/", i), Payload: []byte("1"), At: time.Now()}}
		}
		synctest.Wait()
		if st := s.Stats(); st.Series != 10 || st.Unkept != 13 {
			t.Errorf("got %+v", st)
		}
		s.end()
	})
}

func TestSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{})
		s.say("a", 200) // 0, 0.5, 1, ...
		got, err := s.Summaries(t.Context(), history.Query{Series: "a"}, time.Minute)
		if err != nil || len(got) != 4 {
			t.Fatalf("got %v, %v", got, err)
		}
		if g := got[1]; g.Count != 60 || g.Min != 30 || g.Max != 59.5 || math.Abs(g.Mean-44.75) > 1e-9 || g.At.Second() != 0 {
			t.Errorf("got %+v", g)
		}
		if got, err := s.Summaries(t.Context(), history.Query{Series: "a", Limit: 2}, time.Minute); err != nil || len(got) != 2 {
			t.Errorf("got %v, %v", got, err)
		}
		if _, err := s.Summaries(t.Context(), history.Query{Series: "a"}, time.Millisecond); err == nil {
			t.Error("a step of a millisecond is taken")
		}
		if _, err := s.Points(t.Context(), history.Query{Series: "a", Limit: history.MaxPoints + 1}); err == nil {
			t.Error("a limit beyond all limits is taken")
		}
		s.end()
	})
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]history.Options{
		"no store":        {},
		"a broken filter": {Store: mem.New(), Topics: []string{"a#"}},
		"an age":          {Store: mem.New(), Age: time.Minute},
		"a size":          {Store: mem.New(), Bytes: 1},
		"a number":        {Store: mem.New(), Series: -1},
	} {
		if _, err := history.New(o); err == nil || !strings.HasPrefix(err.Error(), "cannot keep history: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDamagedChunksArePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := &watched{Store: mem.New()}
		s := begin(t, held, history.Options{})
		want := s.say("a", 180)
		s.end()
		records, err := held.Records(t.Context(), store.Range{Bucket: "history", Limit: 10})
		if err != nil || len(records) != 3 {
			t.Fatalf("got %d chunks, %v", len(records), err)
		}
		changes := []store.Change{
			{Op: store.Put, Bucket: "history", Key: records[1].Key, Value: records[1].Value[:20]},
			{Op: store.Put, Bucket: "history", Key: "of a later version", Value: []byte("x")},
		}
		if err := held.Store.Apply(changes).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = begin(t, held, history.Options{})
		got := s.points(history.Query{Series: "a"})
		if st := s.Stats(); st.Damaged != 1 || len(got) < 120 || len(got) >= 180 {
			t.Errorf("%d points of %d, %+v", len(got), len(want), st)
		}
		s.end()
	})
}

// A full store lets the old go, so that there is room for the new.
func TestAFullStoreIsRelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, &watched{Store: mem.New()}, history.Options{Age: time.Hour})
		s.say("a", 1300)
		s.store.broken.Store(true)
		pass(3 * time.Hour)
		s.say("b", 1300) // has the history look again
		left, err := s.store.Records(t.Context(), store.Range{Bucket: "history", Limit: 1000, NoValues: true})
		if err != nil || len(left) != 0 {
			t.Errorf("%d chunks of two hours ago are left, %v", len(left), err)
		}
		s.end()
	})
}
