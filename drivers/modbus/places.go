package modbus

import (
	"log/slog"
	"net"
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
	gaveWay  int // since told
	refused  int
	told     time.Time
}

// seated is what is known of a client.
type seated struct {
	since time.Time // its last answer, or its connection; it counts while it is not busy
	busy  bool      // a request of it is answered
}

// take gives a client a place, if need be that of the one that is silent longest.
func (p *places) take(c net.Conn) bool {
	displaced, ok := p.seat(c, time.Now())
	if displaced != nil {
		_ = displaced.Close() // its goroutine ends with it
	}
	return ok
}

func (p *places) seat(c net.Conn, now time.Time) (displaced net.Conn, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return nil, false
	}
	if len(p.taken) >= p.most {
		displaced = p.silent(now)
		p.crowded(now, displaced != nil)
		if displaced == nil {
			return nil, false
		}
		delete(p.taken, displaced)
	}
	p.taken[c] = &seated{since: now}
	return displaced, true
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

// crowded tells once a period that all places were taken; mu is held.
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
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.stopping = true
	for c := range p.taken {
		_ = c.Close() // nobody can act on an error here
	}
	return true
}
