package main

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// headerSize is what every payload begins with: publisher, sequence number, time.
const headerSize = 4 + 8 + 8

func stamp(payload []byte, publisher int, sequence uint64, at int64) {
	binary.BigEndian.PutUint32(payload, uint32(publisher))
	binary.BigEndian.PutUint64(payload[4:], sequence)
	binary.BigEndian.PutUint64(payload[12:], uint64(at))
}

func readStamp(payload []byte) (publisher int, sequence uint64, at int64, ok bool) {
	if len(payload) < headerSize {
		return 0, 0, 0, false
	}
	return int(binary.BigEndian.Uint32(payload)), binary.BigEndian.Uint64(payload[4:]),
		int64(binary.BigEndian.Uint64(payload[12:])), true
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

// gapLimit is how many sequence numbers a ledger may find missing at once; a
// number further ahead was never sent.
const gapLimit = 1 << 20

// ledger accounts for the messages of one publisher at one subscriber. As long as
// they come in order it is a counter.
type ledger struct {
	next    uint64              // one above the highest that came
	missing map[uint64]struct{} // what did not come below that
	faults
}

func (l *ledger) enter(sequence uint64) {
	switch {
	case sequence == l.next:
		l.next++
	case sequence > l.next+gapLimit:
		l.strange++
	case sequence > l.next:
		if l.missing == nil {
			l.missing = map[uint64]struct{}{}
		}
		for ; l.next < sequence; l.next++ {
			l.missing[l.next] = struct{}{}
		}
		l.next++
	default:
		if _, ok := l.missing[sequence]; !ok {
			l.twice++
			return
		}
		delete(l.missing, sequence)
		l.disordered++
	}
}

// close compares with what was sent.
func (l *ledger) close(sent uint64) faults {
	f := l.faults
	for s := range l.missing {
		if s < sent {
			f.lost++
		}
	}
	if l.next > sent {
		f.strange += l.next - sent
	} else {
		f.lost += sent - l.next
	}
	return f
}
