package broker_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// judgeStore holds changes with retained messages until the test says what becomes of
// each, by its payload.
type judgeStore struct {
	*mem.Store
	mu      sync.Mutex
	tickets map[string]*slowTicket
}

func (s *judgeStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(changes, func(c store.Change) bool { return c.Op == store.Retain })
	if i < 0 || s.tickets == nil {
		return s.Store.Apply(changes, after...)
	}
	t := &slowTicket{done: make(chan struct{})}
	s.tickets[string(changes[i].Message.Payload)] = t
	return t
}

func (s *judgeStore) ask(begin bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begin {
		s.tickets = make(map[string]*slowTicket)
	}
	return len(s.tickets)
}

func (s *judgeStore) judge(payload string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tickets[payload].err = err
	close(s.tickets[payload].done)
}

// Nobody reads a retained message that was refused: what was there before is there
// again, unless something newer is.
func TestRefusedRetainedMessage(t *testing.T) {
	for _, tt := range []struct{ fates, want string }{
		{"-", "old"},
		{"--", "old"},
		{"---", "old"},
		{"+-", "1"},
		{"-+", "2"},
		{"+--", "1"},
		{"--+", "3"},
		{"-+-", "2"},
		{"+", "1"},
	} {
		t.Run(tt.fates, func(t *testing.T) {
			judges := &judgeStore{Store: mem.New()}
			o := options()
			o.Store = judges
			s := brokertest.Start(t, o)
			publish(t, s, message.Message{Topic: "x/y", QoS: 1, Retain: true, Payload: []byte("old")})
			judges.ask(true)
			var clients []*brokertest.Client // one goes on when it is answered
			for i := range tt.fates {
				c := brokertest.Dial(t, s, v5(fmt.Sprint("c", i), 0))
				send(t, c, &packet.Publish{Topic: "x/y", QoS: 1, ID: 1, Retain: true, Payload: fmt.Append(nil, i+1)})
				eventually(t, "it is on its way", func() bool { return judges.ask(false) == i+1 })
				clients = append(clients, c)
			}
			for i, fate := range tt.fates {
				err := error(nil)
				if fate == '-' {
					err = store.ErrFull
				}
				judges.judge(fmt.Sprint(i+1), err)
				if a, ok := read(t, clients[i]).(*packet.Ack); !ok || a.Reason.Failed() != (fate == '-') {
					t.Errorf("%d: got %+v", i, a)
				}
			}
			if kept := s.Retained("x/y", 1); len(kept) != 1 || string(kept[0].Payload) != tt.want {
				t.Errorf("got %+v, want %s", kept, tt.want)
			}
			if st := s.Stats(); st.Retained != 1 || int(st.RetainedBytes) != s.Retained("x/y", 1)[0].Size() {
				t.Errorf("%d are counted, of %d bytes", st.Retained, st.RetainedBytes)
			}
		})
	}
	t.Run("where there was none", func(t *testing.T) {
		s, full, _ := startFull(t, func(*broker.Limits) {})
		full.full.Store(true)
		c := brokertest.Dial(t, s, v5("c", 0))
		send(t, c, &packet.Publish{Topic: "x/y", QoS: 1, ID: 1, Retain: true, Payload: []byte("1")})
		if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != packet.QuotaExceeded {
			t.Errorf("got %+v", a)
		}
		if st := s.Stats(); st.Retained+int(st.RetainedBytes) != 0 {
			t.Errorf("%d are retained", st.Retained)
		}
	})
}

// A will that a full store does not take comes to those whom the store keeps it for when
// there is room, once, and then its session does not have it any more.
func TestRefusedWill(t *testing.T) {
	for _, expiry := range []uint32{0, 1000} {
		for qos := range message.QoS(3) {
			t.Run(fmt.Sprint("expiry ", expiry, ", QoS ", qos), func(t *testing.T) {
				full := &fullStore{Store: mem.New()}
				o := options()
				o.Store = full
				inBubbleWith(t, o, func(t *testing.T, s *broker.Server, dial func(*packet.Connect) *bubbleClient) {
					away, live := dial(v5("away", 1000)), dial(v5("live", 0))
					for _, c := range []*bubbleClient{away, live} {
						send(t, c.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 2}}}})
					}
					synctest.Wait()
					_ = away.Close()
					hello := v5("c", expiry)
					hello.Will = &packet.Will{Topic: "x", QoS: qos, Payload: []byte("gone")}
					c := dial(hello)
					synctest.Wait()
					full.full.Store(true)
					_ = c.Close()
					<-time.After(time.Minute)
					synctest.Wait() // it is tried at this very moment
					if n := queuedOf(s.Clients(), "away"); n != 0 {
						t.Errorf("%d wait, and the store has none", n)
					}
					if got := willsIn(t, full, "c"); qos > 0 && expiry > 0 && got != 1 {
						t.Errorf("the store has %d wills of it", got)
					}
					heard := func() (n int) {
						for _, p := range live.packets() {
							if m, ok := p.(*packet.Publish); ok && string(m.Payload) == "gone" {
								n++
							}
						}
						return n
					}
					if n := heard(); (n == 1) != (qos < 2) {
						t.Errorf("who is there heard it %d times", n)
					}
					full.full.Store(false)
					<-time.After(time.Minute)
					synctest.Wait() // it is tried at this very moment
					if n, want := queuedOf(s.Clients(), "away"), int(min(qos, 1)); n != want {
						t.Errorf("there is room, and %d wait", n)
					}
					if n := heard(); n != 1 {
						t.Errorf("there is room, and who is there heard it %d times", n)
					}
					if n := willsIn(t, full, "c"); n != 0 {
						t.Errorf("the store still has %d", n)
					}
				})
			})
		}
	}
}

func willsIn(t *testing.T, s store.Store, id string) (n int) {
	t.Helper()
	snap, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range snap.Sessions {
		if v := &snap.Sessions[i]; v.ClientID == id && v.Will != nil {
			n++
		}
	}
	return n
}
