package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Ledger is what clients did and got. Its methods may be called by any goroutine.
type Ledger struct {
	mu       sync.Mutex
	messages []entry // of number i+1
	readers  map[string]*reader
	broken   []string
	clock    int // counts what orders acknowledgements and ends of subscriptions
}

// state is what the publisher knows of a message.
type state uint8

const (
	sent    state = iota // nobody knows whether the broker has it
	acked                // the broker has answered for it
	refused              // the broker has said that it does not
)

// entry is one message.
type entry struct {
	topic  string
	qos    message.QoS
	retain bool
	clear  bool // of no payload: it clears what is retained
	state  state
	at     int // on the clock, when that was known
}

// reader is what one session got.
type reader struct {
	spans []span
	got   map[int]int    // times, by number
	last  map[string]int // the highest number that came, by topic and QoS
}

// span is one subscription from its SUBACK to its end.
type span struct {
	filter string
	qos    message.QoS
	from   int // messages from this number on must come
	to     int // on the clock: those not acknowledged by then need not; 0 while it lasts
	ended  int // from this number on they must not; 0 while they may
}

// New makes an empty ledger.
func New() *Ledger { return &Ledger{readers: make(map[string]*reader)} }

// Clone is a copy that goes its own way.
func (l *Ledger) Clone() *Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Ledger{messages: slices.Clone(l.messages), readers: make(map[string]*reader), broken: slices.Clone(l.broken), clock: l.clock}
	for id, r := range l.readers {
		n := newReader()
		n.spans = slices.Clone(r.spans)
		for k, v := range r.got {
			n.got[k] = v
		}
		for k, v := range r.last {
			n.last[k] = v
		}
		c.readers[id] = n
	}
	return c
}

func newReader() *reader { return &reader{got: make(map[int]int), last: make(map[string]int)} }

// reader is that of a session.
func (l *Ledger) reader(id string) *reader {
	r := l.readers[id]
	if r == nil {
		r = newReader()
		l.readers[id] = r
	}
	return r
}

func (l *Ledger) breach(format string, args ...any) {
	l.broken = append(l.broken, fmt.Sprintf(format, args...))
}

// send notes a message that is about to be sent, and gives its number.
func (l *Ledger) send(e entry) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, e)
	return len(l.messages)
}

// settle notes what the broker said of a message.
func (l *Ledger) settle(number int, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.messages[number-1].state, l.messages[number-1].at = s, l.clock
}

// Acknowledged is how many messages the broker has answered for.
func (l *Ledger) Acknowledged() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.messages {
		if l.messages[i].state == acked {
			n++
		}
	}
	return n
}

// subscribed notes a SUBACK: what is sent from now on must come.
func (l *Ledger) subscribed(id, filter string, qos message.QoS) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.reader(id)
	l.leave(r, filter) // it is replaced
	r.spans = append(r.spans, span{filter: filter, qos: qos, from: len(l.messages) + 1})
}

// leaving notes that a session is about to give up a filter, or all if it is empty.
func (l *Ledger) leaving(id, filter string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave(l.reader(id), filter)
}

func (l *Ledger) leave(r *reader, filter string) {
	l.clock++
	for i := range r.spans {
		if s := &r.spans[i]; s.to == 0 && (filter == "" || s.filter == filter) {
			s.to = l.clock
		}
	}
}

// left notes that the broker has said so; what waited at a session that is gone with all
// its filters need not come either.
func (l *Ledger) left(id, filter string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.reader(id)
	if filter == "" {
		l.readers[id] = newReader()
		return
	}
	for i := range r.spans {
		if s := &r.spans[i]; s.to != 0 && s.ended == 0 && s.filter == filter {
			s.ended = len(l.messages) + 1
		}
	}
}

// due is the QoS at which a reader must get a message; ok is false if it need not, and
// never is true if it must not. What clears a retained message has no number to know it by.
func (r *reader) due(number int, e *entry) (qos message.QoS, ok, never bool) {
	if e.clear {
		return 0, false, false
	}
	never = true
	for _, s := range r.spans {
		if !topic.Match(s.filter, e.topic) {
			continue
		}
		if s.ended == 0 || number < s.ended {
			never = false
		}
		if number >= s.from && (s.to == 0 || e.at < s.to) {
			qos, ok = max(qos, min(s.qos, e.qos)), true
		}
	}
	return qos, ok, never
}

// received notes a message that came; again says that the protocol lets the client know
// that it is one that it has.
func (l *Ledger) received(id, name string, payload []byte, qos message.QoS, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := Number(payload)
	if number < 1 || number > len(l.messages) || l.messages[number-1].topic != name {
		l.breach("%q got %.40q on topic %q, which was never sent", id, payload, name)
		return
	}
	r, e := l.reader(id), &l.messages[number-1]
	if _, _, never := r.due(number, e); never {
		l.breach("%q got message %d of topic %q, which it does not subscribe to", id, number, name)
	}
	if again {
		return
	}
	r.got[number]++
	if r.got[number] > 1 {
		if qos == 2 || e.qos == 0 {
			l.breach("doubled: %q got message %d of topic %q, QoS %d, %d times", id, number, name, qos, r.got[number])
		}
		return
	}
	if e.state == refused { // it comes all the same, which nobody promised
		return
	}
	key := fmt.Sprint(name, " ", qos)
	if number < r.last[key] {
		l.breach("reordered: %q got message %d of topic %q, QoS %d, after message %d", id, number, name, qos, r.last[key])
	}
	r.last[key] = max(number, r.last[key])
}

// Broken lists the promises that were broken so far.
func (l *Ledger) Broken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.broken)
}

// Missing lists what was acknowledged and has not come to those who subscribed.
func (l *Ledger) Missing() (missing []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, r := range l.readers {
		for i := range l.messages {
			number, e := i+1, &l.messages[i]
			if qos, ok, _ := r.due(number, e); ok && qos > 0 && e.state == acked && r.got[number] == 0 {
				missing = append(missing, fmt.Sprintf("lost: %q did not get message %d of topic %q, QoS %d", id, number, e.topic, qos))
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// Retained judges what a new subscription finds retained: the number of the message by
// topic. Of topics to which nothing of QoS 1 or 2 was retained it asks little.
func (l *Ledger) Retained(found map[string]int) (broken []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	least := make(map[string]int) // the last that was acknowledged
	for i := range l.messages {
		if e := &l.messages[i]; e.retain && e.state == acked && e.qos > 0 {
			least[e.topic] = i + 1
		}
	}
	for name, number := range found {
		switch e := l.entry(number); {
		case e == nil || e.topic != name || !e.retain || e.clear:
			broken = append(broken, fmt.Sprintf("topic %q has message %d retained, which was never sent so", name, number))
		case number < least[name]:
			broken = append(broken, fmt.Sprintf("lost: topic %q has message %d retained, number %d was acknowledged", name, number, least[name]))
		}
	}
	for name, number := range least {
		if _, ok := found[name]; !ok && !l.clearedFrom(name, number) {
			broken = append(broken, fmt.Sprintf("lost: topic %q has nothing retained, number %d was acknowledged", name, number))
		}
	}
	slices.Sort(broken)
	return broken
}

func (l *Ledger) entry(number int) *entry {
	if number < 1 || number > len(l.messages) {
		return nil
	}
	return &l.messages[number-1]
}

// clearedFrom reports whether a message from number on may have cleared a topic.
func (l *Ledger) clearedFrom(name string, number int) bool {
	return slices.ContainsFunc(l.messages[number-1:], func(e entry) bool { return e.clear && e.topic == name })
}

// Number is the number that a payload begins with, 0 if it does not.
func Number(payload []byte) int {
	first, _, _ := strings.Cut(string(payload), " ")
	number, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return number
}

// payload is that of a message, of about so many bytes.
func payload(number, size int) []byte {
	text := strconv.Itoa(number)
	if size > len(text) {
		text += " " + strings.Repeat("x", size-len(text)-1)
	}
	return []byte(text)
}
