package auth

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// How an address is slowed down: nothing happens for the first failures, then each
// doubles what the next attempt has to wait. It is forgiven when nothing has failed
// for a while.
const (
	freeFailures  = 3
	firstDelay    = 100 * time.Millisecond
	mostDelay     = 30 * time.Second
	forgivenAfter = 10 * time.Minute
	mostAddresses = 4096
	tellEvery     = time.Minute
	// answerTime is left of a client's time when its turn comes, to verify and answer.
	answerTime = time.Second
)

// throttle makes guessing slow: attempts from one address have turns, which are
// further and further apart. Other addresses do not notice.
type throttle struct {
	log *slog.Logger

	mu     sync.Mutex
	from   map[netip.Prefix]*attempts
	told   time.Time
	failed int // since it was told
}

// attempts are those of one address.
type attempts struct {
	failures int
	last     time.Time // of the failures
	next     time.Time // when the next one has its turn
}

func newThrottle(log *slog.Logger) *throttle {
	return &throttle{log: log, from: make(map[netip.Prefix]*attempts)}
}

// addressOf is what counts as one address: all of IPv4, the network half of IPv6. Ok
// is false for what is not slowed down: this machine.
func addressOf(who *broker.Identity) (netip.Prefix, bool) {
	tcp, ok := who.Remote.(*net.TCPAddr)
	if !ok || who.Loopback {
		return netip.Prefix{}, false
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// delayOf is how far apart attempts are after so many failures.
func delayOf(failures int) time.Duration {
	if failures < freeFailures {
		return 0
	}
	return min(mostDelay, firstDelay<<min(failures-freeFailures, 16))
}

// wait waits for the turn of an attempt. One whose turn would come too late for its
// client is refused with 0x9F, connection rate exceeded. It returns how often the
// address has failed.
func (t *throttle) wait(ctx context.Context, who *broker.Identity) (failures int, err error) {
	from, slowed := addressOf(who)
	if !slowed {
		return 0, nil
	}
	now := time.Now()
	latest, ok := ctx.Deadline()
	if !ok {
		latest = now.Add(mostDelay)
	}
	turn, failures := t.turn(from, now, latest.Add(-answerTime))
	if turn.IsZero() {
		t.fail(who, false)
		return failures, packet.ConnectionRateExceeded
	}
	if !turn.After(now) {
		return failures, nil
	}
	timer := time.NewTimer(turn.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return failures, nil
	case <-ctx.Done():
		return failures, packet.ServerBusy
	}
}

// turn takes the next turn of an address; it is zero if that is after latest.
func (t *throttle) turn(from netip.Prefix, now, latest time.Time) (turn time.Time, failures int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.from[from]
	if a == nil {
		return now, 0
	}
	if now.Sub(a.last) > forgivenAfter {
		delete(t.from, from)
		return now, 0
	}
	turn = now
	if a.next.After(now) {
		turn = a.next
	}
	if turn.After(latest) && turn.After(now) {
		return time.Time{}, a.failures
	}
	a.next = turn.Add(delayOf(a.failures))
	return turn, a.failures
}

// since reports whether the address has failed so often meanwhile that an attempt
// which had its turn has to take another.
func (t *throttle) since(who *broker.Identity, failures int) bool {
	from, slowed := addressOf(who)
	if !slowed {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.from[from]
	return a != nil && a.failures > failures && a.failures >= freeFailures
}

// fail notes an attempt that was refused; guessed says that a password was wrong, and
// not only that its turn did not come. Every tellEvery the log is told.
func (t *throttle) fail(who *broker.Identity, guessed bool) {
	now := time.Now()
	from, slowed := addressOf(who)
	t.mu.Lock()
	if guessed && slowed {
		a := t.entry(from, now)
		a.failures++
		a.last = now
		if next := now.Add(delayOf(a.failures)); next.After(a.next) {
			a.next = next
		}
	}
	t.failed++
	failed, addresses := t.failed, len(t.from)
	tell := t.told.IsZero() || now.Sub(t.told) >= tellEvery
	if tell {
		t.told, t.failed = now, 0
	}
	t.mu.Unlock()
	if tell {
		t.log.Warn("clients failed to authenticate", "attempts", failed, "last_from", who.Remote, "last_client", who.ClientID, "addresses_slowed", addresses)
	}
}

// entry finds or makes the attempts of an address. The table is bounded: a new one
// takes the place of one that is forgiven, or else of the one of several whose turn
// comes first.
func (t *throttle) entry(from netip.Prefix, now time.Time) *attempts {
	a := t.from[from]
	if a != nil {
		if now.Sub(a.last) > forgivenAfter {
			*a = attempts{}
		}
		return a
	}
	if len(t.from) >= mostAddresses {
		t.evict(now)
	}
	a = &attempts{}
	t.from[from] = a
	return a
}

func (t *throttle) evict(now time.Time) {
	const candidates = 16
	var first netip.Prefix
	n := 0
	for p, a := range t.from { // in no order
		if now.Sub(a.last) > forgivenAfter {
			first = p
			break
		}
		if n == 0 || a.next.Before(t.from[first].next) {
			first = p
		}
		if n++; n == candidates {
			break
		}
	}
	delete(t.from, first)
}
