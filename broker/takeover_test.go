package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// rounds is how often a test does what it does: few times, or, when the variable
// SOAK says so (as `make soak` has it), many times.
func rounds(few, many int) int {
	switch {
	case os.Getenv("SOAK") != "":
		return many
	case testing.Short():
		return max(1, few/10)
	default:
		return few
	}
}

// rivals are connections that want to be the same client.
type rivals struct {
	t      *testing.T
	server *brokertest.Server
	unix   string
	pipes  *pipes

	mu       sync.Mutex
	heard    map[int]bool // numbers of QoS 1
	zero     map[int]bool // numbers of QoS 0
	got      chan int     // capacity 1: a number was heard for the first time
	survivor *rival
}

type rival struct {
	client *brokertest.Client
	nc     net.Conn
	began  time.Time
	ended  chan struct{}
}

// Eight connections take one client identifier from each other, over and over, while
// messages come. At each moment one at most is the client: no message of QoS 0 is
// heard twice, and the server never counts two. The session is never lost: each
// connection but the first finds it, its subscription stands without being made
// again, and each message of QoS 1 is heard. All but one end; a 5.0 client that is not
// told 0x8E is logged.
func TestTakeoverRounds(t *testing.T) {
	v := newRivals(t)
	first := v.connect(0, packet.V5)
	if err := first.client.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: "n/#", Options: packet.SubscribeOptions{QoS: 1}},
	}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has subscribed", func() bool { return v.server.Stats().Subscriptions == 1 })
	v.survivor = first
	watched, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(50 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			if n := v.server.Stats().Clients; n > 1 {
				t.Errorf("there are %d connections at once", n)
				return
			}
		}
	}()
	begin := time.Now()
	n := rounds(1_000, 10_000)
	for round := range n {
		v.round(round)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds took %v", n, time.Since(begin))
	close(stop)
	<-watched
	_ = v.survivor.nc.Close()
	eventually(t, "all connections have ended", func() bool {
		stats := v.server.Stats()
		return stats.Connections == 0 && stats.Clients == 0
	})
	if stats := v.server.Stats(); stats.Sessions != 1 || stats.Subscriptions != 1 {
		t.Errorf("left: %+v", stats)
	}
	// goleak looks for goroutines when all tests are over.
}

func newRivals(t *testing.T) *rivals {
	o := options()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})) // a panic, say
	v := &rivals{
		t: t, server: brokertest.Start(t, o), pipes: newPipes(), unix: filepath.Join(t.TempDir(), "s"),
		heard: make(map[int]bool), zero: make(map[int]bool), got: make(chan int, 1),
	}
	l, err := net.Listen("unix", v.unix)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = v.server.Serve(ctx, l) })
	serving.Go(func() { _ = v.server.Serve(ctx, v.pipes) })
	t.Cleanup(func() { cancel(); serving.Wait() })
	return v
}

// connect opens a connection; those of loops and those with goroutines of their own
// take over from each other.
func (v *rivals) connect(i int, version packet.Version) *rival {
	began := time.Now()
	nc, err := net.Conn(nil), error(nil)
	if i%4 == 3 {
		nc, err = v.pipes.dial(v.t.Context())
	} else {
		nc, err = net.Dial("unix", v.unix)
	}
	if err != nil {
		v.t.Error(err)
		return nil
	}
	r := &rival{client: brokertest.NewClient(nc), nc: nc, began: began, ended: make(chan struct{})}
	p := &packet.Connect{Version: version, ClientID: "the one"}
	if version == packet.V5 {
		p.Properties.SessionExpiryInterval = 1000
	}
	ack, err := r.client.Connect(p)
	switch {
	case err != nil:
		v.t.Errorf("connection %d has no answer: %v", i, err)
	case ack.Reason.Failed():
		v.t.Errorf("connection %d is refused: %v", i, ack.Reason)
	case !ack.SessionPresent && v.survivor != nil:
		v.t.Errorf("connection %d does not find the session", i)
	}
	go v.read(r, version)
	return r
}

// read takes what one connection hears until it ends.
func (v *rivals) read(r *rival, version packet.Version) {
	defer close(r.ended)
	told := packet.Reason(0)
	for {
		p, err := r.client.ReadPatiently()
		if err != nil {
			// The server gives the last bytes a second, which a busy machine may take.
			prompt := time.Since(r.began) < time.Second
			if prompt && version == packet.V5 && told != packet.SessionTakenOver && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				v.t.Errorf("it ended with %v, and was told %v", err, told)
			}
			return
		}
		switch p := p.(type) {
		case *packet.Publish:
			v.hear(p)
			if p.QoS > 0 {
				_ = r.client.Send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID}) // taken over, perhaps
			}
		case *packet.Disconnect:
			told = p.Reason
		}
	}
}

func (v *rivals) hear(p *packet.Publish) {
	number, err := strconv.Atoi(string(p.Payload))
	if err != nil {
		v.t.Error(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if p.QoS == 0 {
		if v.zero[number] {
			v.t.Errorf("number %d of QoS 0 is heard twice", number)
		}
		v.zero[number] = true
		return
	}
	if !v.heard[number] {
		v.heard[number] = true
		v.got <- number
	}
}

func (v *rivals) round(round int) {
	const n = 8
	all := make([]*rival, n, n+1)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i] = v.connect(i, []packet.Version{packet.V5, packet.V311}[(i+round)%2]) })
	}
	publish(v.t, v.server,
		message.Message{Topic: "n/0", Payload: fmt.Append(nil, round)},
		message.Message{Topic: "n/1", Payload: fmt.Append(nil, round), QoS: 1})
	wg.Wait()
	all = append(all, v.survivor)
	expect(v.t, v.got, round)
	if v.t.Failed() {
		return
	}
	living := func() (left []*rival) {
		for _, r := range all {
			select {
			case <-r.ended:
			default:
				left = append(left, r)
			}
		}
		return left
	}
	eventually(v.t, "one connection is left", func() bool { return len(living()) == 1 })
	v.survivor = living()[0]
	for _, r := range all {
		if r != v.survivor {
			_ = r.nc.Close() // closed by the server already
		}
	}
	info := v.server.Clients()
	if len(info) != 1 || !info[0].Connected || info[0].Subscriptions != 1 {
		v.t.Errorf("after round %d: %+v", round, info)
	}
}
