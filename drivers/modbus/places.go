package modbus

import (
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// clientPatience is how long a client must have been silent to give way to another
	// when all places are taken: who polls keeps his, who is half gone does not.
	clientPatience = 10 * time.Second
	// crowdedPeriod is how often it is told that all places are taken.
	crowdedPeriod = time.Minute
)

// places are the clients of a server, so many at most.
type places struct {
	most int
	log  *slog.Logger
	addr string // of the server

	mu       sync.Mutex // guards what follows
	taken    map[net.Conn]*seated
	stopping bool

	// Of who takes clients alone.
	gaveWay int // since told
	refused int
	told    time.Time
}

// seated is what is known of a client.
type seated struct {
	since time.Time // its last answer, or its connection; it counts while it is not busy
	busy  bool      // a request of it is answered
}

// take gives a client a place, if need be that of the one that is silent longest.
func (p *places) take(c net.Conn) bool {
	now := time.Now()
	displaced, full, ok := p.seat(c, now)
	if displaced != nil {
		_ = displaced.Close() // its goroutine ends with it
	}
	if full {
		p.crowded(now, ok)
	}
	return ok
}

// seat finds a place. Full is that all were taken.
func (p *places) seat(c net.Conn, now time.Time) (displaced net.Conn, full, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return nil, false, false
	}
	if full = len(p.taken) >= p.most; full {
		if displaced = p.silent(now); displaced == nil {
			return nil, true, false
		}
		delete(p.taken, displaced)
	}
	p.taken[c] = &seated{since: now}
	return displaced, full, true
}

// silent is who is silent longest, if that is long; mu is held.
func (p *places) silent(now time.Time) (longest net.Conn) {
	since := now.Add(-clientPatience)
	for c, client := range p.taken {
		if !client.busy && !client.since.After(since) {
			longest, since = c, client.since
		}
	}
	return longest
}

// crowded tells once a period that all places were taken. Who takes clients calls it.
func (p *places) crowded(now time.Time, gaveWay bool) {
	if gaveWay {
		p.gaveWay++
	} else {
		p.refused++
	}
	if !p.told.IsZero() && now.Sub(p.told) < crowdedPeriod {
		return
	}
	p.log.Warn("modbus server has too many clients", "address", p.addr, "clients", p.most, "refused", p.refused, "gave_way", p.gaveWay)
	p.told, p.refused, p.gaveWay = now, 0, 0
}

// busy says that a request of a client is answered from now on, or is no more.
func (p *places) busy(c net.Conn, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if client := p.taken[c]; client != nil {
		client.busy, client.since = busy, time.Now()
	}
}

func (p *places) leave(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, c)
}

// stop gives no more places and closes all clients; false is that it did before.
func (p *places) stop() bool {
	p.mu.Lock()
	again := p.stopping
	p.stopping = true
	all := slices.Collect(maps.Keys(p.taken))
	p.mu.Unlock()
	if again {
		return false
	}
	for _, c := range all {
		_ = c.Close() // nobody can act on an error here; over TLS it may take a while
	}
	return true
}
