package broker_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// courtStore decides on changes, in their order, when the test has it, as a disk does
// group by group; until the court sits all is taken at once.
type courtStore struct {
	*mem.Store
	mu    sync.Mutex
	sits  bool
	cases []courtCase
}

type courtCase struct {
	changes []store.Change
	after   []store.Ticket
	ticket  *slowTicket
}

func (s *courtStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sits {
		return s.Store.Apply(changes, after...)
	}
	t := &slowTicket{done: make(chan struct{})}
	s.cases = append(s.cases, courtCase{slices.Clone(changes), after, t})
	return t
}

func (s *courtStore) sit(sits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sits = sits
}

// decide decides on the oldest case. What only frees is taken though there is no room.
func (s *courtStore) decide(room bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cases) == 0 {
		return false
	}
	c := s.cases[0]
	s.cases = s.cases[1:]
	grows := slices.ContainsFunc(c.changes, func(c store.Change) bool { return c.Op == store.Enqueue })
	switch err := store.Failed(c.after); {
	case err != nil:
		c.ticket.err = err
	case grows && !room:
		c.ticket.err = store.ErrFull
	default:
		s.Store.Apply(c.changes)
	}
	close(c.ticket.done)
	return true
}

// repeater is a publisher that says messages again before it has an answer, and uses
// identifiers again as soon as it may.
type repeater struct {
	t        *testing.T
	qos      message.QoS
	version  packet.Version
	c        *bubbleClient
	seen     int               // packets of c
	open     map[uint16]string // by identifier, without answer
	received map[uint16]bool   // with a PUBREC
	said     []string          // in order
	verdicts map[string]bool   // whether it is acknowledged
	trace    []string
}

func (r *repeater) tell(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

// say publishes several messages in one write.
func (r *repeater) say(dup bool, ids ...uint16) {
	var all []byte
	for _, id := range ids {
		if !dup {
			r.open[id] = fmt.Sprint("m", len(r.said))
			r.said = append(r.said, r.open[id])
		}
		r.tell("says %s with %d, dup %v", r.open[id], id, dup)
		all = appendPacket(r.t, all, &packet.Publish{Topic: "x", QoS: r.qos, ID: id, Payload: []byte(r.open[id]), Dup: dup}, r.version)
	}
	r.write(all)
}

// write sends packets; the connection may have ended.
func (r *repeater) write(all []byte) {
	if err := r.c.Write(all); err != nil {
		r.tell("cannot: %v", err)
	}
	synctest.Wait()
}

func (r *repeater) release(id uint16) {
	r.tell("releases %d", id)
	r.write(appendPacket(r.t, nil, &packet.Ack{Kind: packet.PUBREL, ID: id}, r.version))
}

// listen takes what has come.
func (r *repeater) listen() {
	all := r.c.packets()
	for _, p := range all[r.seen:] {
		a, ok := p.(*packet.Ack)
		if !ok {
			r.tell("hears %v", p.Type())
			continue
		}
		r.tell("hears %v %d, %v", a.Kind, a.ID, a.Reason)
		payload, open := r.open[a.ID]
		switch {
		case a.Kind == packet.PUBCOMP:
			delete(r.received, a.ID)
		case !open:
		default:
			delete(r.open, a.ID)
			r.verdicts[payload] = !a.Reason.Failed()
			if a.Kind == packet.PUBREC && !a.Reason.Failed() {
				r.received[a.ID] = true
			}
		}
	}
	r.seen = len(all)
}

// free lists identifiers that may be used.
func (r *repeater) free() (ids []uint16) {
	for id := uint16(1); id < 5; id++ {
		if _, open := r.open[id]; !open && !r.received[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (r *repeater) waiting() (ids []uint16) {
	for id := uint16(1); id < 5; id++ {
		if _, open := r.open[id]; open {
			ids = append(ids, id)
		}
	}
	return ids
}

// What a publisher is told of its messages is so, and they keep their order, though it
// says them again while it waits, and uses their identifiers for others once it is told.
func TestAnswersOfWhatIsSaidAgain(t *testing.T) {
	rounds := uint64(150)
	if testing.Short() {
		rounds = 30
	}
	for _, version := range []packet.Version{packet.V311, packet.V5} {
		for qos := message.QoS(1); qos <= 2; qos++ {
			t.Run(fmt.Sprint(version, ", QoS ", qos), func(t *testing.T) {
				for seed := range rounds {
					repeatAtRandom(t, version, qos, seed)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

func repeatAtRandom(t *testing.T, version packet.Version, qos message.QoS, seed uint64) {
	random := rand.New(rand.NewPCG(seed, uint64(qos)))
	court := &courtStore{Store: mem.New()}
	o := options()
	o.Store = court
	inBubbleWith(t, o, func(t *testing.T, _ *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		subscribeAndLeave(t, dial)
		hello := v5("pub", 100)
		if version != packet.V5 {
			hello = &packet.Connect{Version: version, ClientID: "pub"}
		}
		r := &repeater{
			t: t, qos: qos, version: version, c: dial(hello), open: make(map[uint16]string), received: make(map[uint16]bool), verdicts: make(map[string]bool),
		}
		synctest.Wait()
		court.sit(true)
		for range 30 {
			switch n := random.IntN(10); {
			case n < 4:
				if ids := r.free(); len(ids) > 0 {
					r.say(false, ids[:1+random.IntN(len(ids))]...)
				}
			case n < 6:
				if ids := r.waiting(); len(ids) > 0 {
					r.say(true, ids[random.IntN(len(ids))])
				}
			case n < 7:
				if ids := slices.Sorted(maps.Keys(r.received)); len(ids) > 0 {
					r.release(ids[0])
				}
			default:
				room := random.IntN(2) == 0
				r.tell("there is room: %v", room)
				court.decide(room)
				synctest.Wait()
			}
			r.listen()
		}
		for court.decide(true) {
			synctest.Wait()
		}
		court.sit(false)
		r.listen()
		if len(r.open) > 0 && version == packet.V5 {
			t.Errorf("seed %d: %v are not answered", seed, r.open)
		}
		if version != packet.V5 { // it may have been cut off
			_ = r.c.Close()
			synctest.Wait()
			r.c, r.seen = dial(hello), 0
			for _, payload := range r.said {
				for id, open := range r.open {
					if open == payload {
						r.say(true, id)
					}
				}
			}
			r.listen()
		}
		r.check(court, seed)
	})
}

// check compares what the publisher was told with what the store has.
func (r *repeater) check(court *courtStore, seed uint64) {
	r.t.Helper()
	queued, err := court.Fetch(r.t.Context(), "away", 0, 10000)
	if err != nil {
		r.t.Fatal(err)
	}
	count := make(map[string]int)
	var order, want []string // of those that are acknowledged
	for _, q := range queued {
		payload := string(q.Message.Payload)
		if count[payload]++; count[payload] == 1 && r.verdicts[payload] {
			order = append(order, payload)
		}
	}
	for _, payload := range r.said {
		told, ok := r.verdicts[payload]
		switch n := count[payload]; {
		case told && n == 0:
			r.t.Errorf("%s is acknowledged, and was not taken", payload)
		case r.qos == 2 && n > 1:
			r.t.Errorf("%s comes %d times", payload, n)
		case r.qos == 2 && n > 0 && ok && !told:
			r.t.Errorf("%s is refused, and was taken", payload)
		}
		if told {
			want = append(want, payload)
		}
	}
	if !slices.Equal(order, want) {
		r.t.Errorf("they come as %s, and were said as %s", order, want)
	}
	snap, err := court.Load(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range snap.Sessions {
		for _, id := range snap.Sessions[i].HeldIDs {
			if !r.received[id] {
				r.t.Errorf("the store holds %d for nobody", id)
			}
		}
	}
	if r.t.Failed() {
		r.t.Logf("seed %d:\n%s", seed, strings.Join(r.trace, "\n"))
	}
}

// A client says a message again while it is on its way to it that the message was refused,
// and uses the identifier for another: that one is taken, or refused, by itself.
func TestIdentifierOfWhatWasRefusedIsUsedForAnother(t *testing.T) {
	for _, room := range []bool{false, true} {
		t.Run(fmt.Sprint("there is room: ", room), func(t *testing.T) {
			court := &courtStore{Store: mem.New()}
			o := options()
			o.Store = court
			inBubbleWith(t, o, func(t *testing.T, _ *broker.Server, dial func(*packet.Connect) *bubbleClient) {
				subscribeAndLeave(t, dial)
				r := &repeater{
					t: t, qos: 2, version: packet.V5, c: dial(v5("pub", 100)),
					open: make(map[uint16]string), received: make(map[uint16]bool), verdicts: make(map[string]bool),
				}
				synctest.Wait()
				court.sit(true)
				decide := func(room bool) {
					if !court.decide(room) {
						t.Error("there is nothing to decide")
					}
					synctest.Wait()
				}
				r.say(false, 1)
				decide(false)
				r.say(true, 1)
				r.listen()
				r.say(false, 1)
				decide(true)
				r.listen()
				if len(r.open) != 1 {
					t.Errorf("it is answered before it is taken: %v", r.verdicts)
				}
				court.decide(room)
				synctest.Wait()
				court.sit(false)
				for court.decide(true) {
					synctest.Wait()
				}
				r.listen()
				if told, ok := r.verdicts["m1"]; !ok || told != room {
					t.Errorf("of the second message it hears %v, %v", told, ok)
				}
				queued, err := court.Fetch(t.Context(), "away", 0, 10)
				if err != nil {
					t.Fatal(err)
				}
				if n := slices.IndexFunc(queued, func(q store.Queued) bool { return string(q.Message.Payload) == "m1" }); n >= 0 != room {
					t.Errorf("the second message is among those that were taken: %v", n >= 0)
				}
				snap, err := court.Load(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i := range snap.Sessions {
					if held := snap.Sessions[i].HeldIDs; len(held) > 0 != (room && snap.Sessions[i].ClientID == "pub") {
						t.Errorf("the store holds %v for %q", held, snap.Sessions[i].ClientID)
					}
				}
			})
		})
	}
}
