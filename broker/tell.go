package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// tellEvery is how often refused clients are told at level Info, a reason.
const tellEvery = time.Minute

// refusals are the clients that got a CONNACK that says no, for the log: anybody who
// reaches a listener may be refused as often as he likes.
type refusals struct {
	mu       sync.Mutex
	byReason map[packet.Reason]*refusal
}

type refusal struct {
	told   time.Time
	untold int // refused since, this one among them
}

// note counts one, and returns how many it is told for; 0 is that it is not.
func (r *refusals) note(reason packet.Reason, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byReason == nil {
		r.byReason = make(map[packet.Reason]*refusal)
	}
	of := r.byReason[reason]
	if of == nil {
		of = new(refusal)
		r.byReason[reason] = of
	}
	of.untold++
	if now.Sub(of.told) < tellEvery {
		return 0
	}
	n := of.untold
	of.told, of.untold = now, 0
	return n
}

// tellRefused logs a client that is refused: the first of a minute and reason, and how
// many there were since the one before; the others for who debugs.
func (c *conn) tellRefused(reason packet.Reason) {
	n := c.srv.refusals.note(reason, time.Now())
	level := slog.LevelInfo
	if n == 0 {
		level, n = slog.LevelDebug, 1
	}
	c.srv.log.Log(context.Background(), level, "client refused", "client", c.who.ClientID, "remote", c.who.Remote, "reason", reason, "refusals", n)
}
