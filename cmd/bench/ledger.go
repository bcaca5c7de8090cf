package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// headerSize is what every payload begins with: publisher, sequence number, time.
const headerSize = 4 + 8 + 8

func stamp(payload []byte, publisher int, sequence uint64, at time.Time) {
	binary.BigEndian.PutUint32(payload, uint32(publisher))
	binary.BigEndian.PutUint64(payload[4:], sequence)
	binary.BigEndian.PutUint64(payload[12:], uint64(at.UnixNano()))
}

func readStamp(payload []byte) (publisher int, sequence uint64, at time.Time, ok bool) {
	if len(payload) < headerSize {
		return 0, 0, time.Time{}, false
	}
	return int(binary.BigEndian.Uint32(payload)), binary.BigEndian.Uint64(payload[4:]),
		time.Unix(0, int64(binary.BigEndian.Uint64(payload[12:]))), true
}

// faults are messages that did not come as they should.
type faults struct {
	lost, twice, disordered, strange uint64
}

func (f *faults) add(g faults) {
	f.lost += g.lost
	f.twice += g.twice
	f.disordered += g.disordered
	f.strange += g.strange
}

func (f faults) String() string {
	var say []string
	for _, p := range []struct {
		n    uint64
		text string
	}{{f.lost, "LOST"}, {f.twice, "TWICE"}, {f.disordered, "OUT OF ORDER"}, {f.strange, "NOT OURS"}} {
		if p.n > 0 {
			say = append(say, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	return strings.Join(say, ", ")
}

// ledger accounts for the messages of one publisher at one subscriber. One
// goroutine uses it.
type ledger struct {
	seen  []uint64 // a bit for each sequence number
	next  uint64   // one above the highest seen
	count uint64   // of different messages
	faults
}

func (l *ledger) enter(sequence uint64) {
	word, bit := sequence/64, uint64(1)<<(sequence%64)
	if sequence > l.next+1<<24 { // would take memory without bound
		l.strange++
		return
	}
	for uint64(len(l.seen)) <= word {
		l.seen = append(l.seen, 0)
	}
	switch {
	case l.seen[word]&bit != 0:
		l.twice++
		return
	case sequence < l.next:
		l.disordered++
	default:
		l.next = sequence + 1
	}
	l.seen[word] |= bit
	l.count++
}

// close compares with what was sent.
func (l *ledger) close(sent uint64) faults {
	f := l.faults
	if l.next > sent {
		f.strange += l.next - sent
	}
	if l.count < sent {
		f.lost = sent - l.count
	}
	return f
}

// window is what a publisher may still have under way. One goroutine takes, any
// may give.
type window struct {
	free atomic.Int64
	want atomic.Int64 // what the taker waits for; 0 if it does not
	wake chan struct{}
}

func newWindow(size int) *window {
	w := &window{wake: make(chan struct{}, 1)}
	w.free.Store(int64(size))
	return w
}

// take waits until n are free, or until ctx ends.
func (w *window) take(ctx context.Context, n int64) bool {
	for w.free.Load() < n {
		w.want.Store(n)
		if w.free.Load() >= n { // given in between
			break
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return false
		}
	}
	w.want.Store(0)
	w.free.Add(-n)
	return true
}

func (w *window) give() {
	free := w.free.Add(1)
	if want := w.want.Load(); want > 0 && free >= want {
		select {
		case w.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}
