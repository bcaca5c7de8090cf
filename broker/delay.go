package broker

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// delayPrefix begins the topic name of a message that is to be delivered later:
// $delayed/SECONDS/TOPIC is delivered to TOPIC. Whoever publishes needs the right to
// publish to TOPIC, when it is sent and when it is due; interceptors see it when it
// is due. Its Message Expiry Interval counts from then, as that of a will does.
const delayPrefix = "$delayed/"

// delayBucket holds them in the store, those of QoS 0 too: at most once is no reason
// to forget in an hour what was to be done in a month.
const delayBucket = "broker/delayed"

// MaxDelay is the longest delay that a topic can say.
const MaxDelay = (1<<32 - 1) * time.Second

// splitDelay takes "$delayed/SECONDS/TOPIC" apart.
func splitDelay(name string) (wait time.Duration, target string, ok bool) {
	seconds, target, more := strings.Cut(strings.TrimPrefix(name, delayPrefix), "/")
	n, err := strconv.ParseUint(seconds, 10, 32)
	if !more || err != nil || !topic.ValidName(target) || strings.HasPrefix(target, delayPrefix) {
		return 0, "", false
	}
	return time.Duration(n) * time.Second, target, true
}

// postpone takes the delay out of a publish's topic, if it has one.
func (p *pub) postpone(l *DelayLimits) {
	if p.reason.Failed() || !strings.HasPrefix(p.msg.Topic, delayPrefix) {
		return
	}
	wait, target, ok := splitDelay(p.msg.Topic)
	if !ok || wait > l.Longest {
		p.reason = packet.TopicNameInvalid
		return
	}
	p.delay, p.msg.Topic = wait, target
	if !p.msg.Expires.IsZero() {
		p.msg.Expires = p.msg.Expires.Add(wait)
	}
}

// delays reports whether a publish concerns messages that wait, and what the store
// has of them.
func (p *pub) delays() bool { return p.delay > 0 || p.record != "" }

// delayed is one message that waits.
type delayed struct {
	number uint64 // in the order in which they came
	due    time.Time
	msg    *message.Message
	by     *access // who publishes; nil from inside
	loaded bool    // from an earlier run, before the clock is set: the time in between does not count yet
	// will is whose will it is, that the store did not take: its record still has it. At
	// QoS 1 those have heard it whom no store keeps it for.
	will *Session
}

// key is its key in the store.
func (d *delayed) key() string { return fmt.Sprintf("%016x", d.number) }

// delays are the messages that wait, the one that is due next first.
type delays struct {
	wake chan struct{} // capacity 1: another one is next

	mu      sync.Mutex
	waiting dueHeap
	loaded  dueHeap
	clock   store.Clock
	bytes   int64
	number  uint64
}

type dueHeap []*delayed

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].number < h[j].number
	}
	return h[i].due.Before(h[j].due)
}

func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *dueHeap) Push(d any) { *h = append(*h, d.(*delayed)) }

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return d
}

// add takes a message in, and gives it its number if it has none. It is false if
// that would be more than the limits allow.
func (q *delays) add(d *delayed, l *DelayLimits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := int64(d.msg.Size())
	if len(q.waiting)+len(q.loaded) >= l.Messages || q.bytes+size > l.Bytes {
		return false
	}
	if d.number == 0 {
		q.number++
		d.number = q.number
	}
	q.number = max(q.number, d.number)
	q.bytes += size
	of := q.heap(d)
	heap.Push(of, d)
	if (*of)[0] == d {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// heap is where a message waits.
func (q *delays) heap(d *delayed) *dueHeap {
	if d.loaded {
		return &q.loaded
	}
	return &q.waiting
}

// lookAgain is when the wall clock is looked at again if it was not plausible: it may have
// been set meanwhile, and says how long the gateway was off.
const lookAgain = time.Minute

// settle has the time count that the gateway was off. The caller holds mu.
func (q *delays) settle(away time.Duration) {
	for _, d := range q.loaded {
		d.due, d.loaded = d.due.Add(-away), false
		if m := d.msg; !m.Expires.IsZero() {
			m.Expires = m.Expires.Add(-away)
		}
		heap.Push(&q.waiting, d)
	}
	q.loaded = nil
}

// next takes out a message that is due, or says in what time to ask again; below 0
// there is none.
func (q *delays) next(now time.Time) (*delayed, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := time.Duration(-1)
	if len(q.loaded) > 0 {
		if away, known := q.clock.Owed(now); known {
			q.settle(away)
		}
	}
	for _, of := range []*dueHeap{&q.loaded, &q.waiting} {
		if len(*of) == 0 {
			continue
		}
		left := (*of)[0].due.Sub(now)
		if left <= 0 {
			d := heap.Pop(of).(*delayed)
			q.bytes -= int64(d.msg.Size())
			return d, 0
		}
		if of == &q.loaded {
			left = min(left, lookAgain)
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

// held is how many wait, and the sum of their sizes.
func (q *delays) held() (n int, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) + len(q.loaded), q.bytes
}

// wait keeps a publish until it is due. The caller holds commitMu.
func (b *batch) wait(p *pub) packet.Reason {
	d := &delayed{due: b.now.Add(p.delay), msg: p.keep(), by: p.by}
	value, err := d.encode(b.srv.delays.clock)
	if err != nil { // what came in can go out; only an interceptor's message cannot
		b.srv.stats.drop(dropInvalid)
		b.srv.log.Warn("message cannot be encoded", "topic", d.msg.Topic, "err", err)
		return packet.ImplementationSpecificError
	}
	if !b.srv.delays.add(d, &b.srv.opts.Limits.Delayed) {
		b.srv.stats.drop(dropDelayed)
		return packet.QuotaExceeded
	}
	b.change(store.Change{Op: store.Put, Bucket: delayBucket, Key: d.key(), Value: value})
	if d.msg.QoS > 0 {
		b.later = append(b.later, emit{delayed: d})
	}
	return packet.Success
}

// forgo takes out a message whose publisher is told that it was not taken.
func (q *delays) forgo(d *delayed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.heap(d)
	if i := slices.Index(*of, d); i >= 0 {
		heap.Remove(of, i)
		q.bytes -= int64(d.msg.Size())
	}
}

// retryDelayed is when a message that was due is tried again, because the store did not
// take what it becomes.
const retryDelayed = 10 * time.Second

// putBack has a message that was due wait once more. It was acknowledged: no limit holds.
func (q *delays) putBack(d *delayed, due time.Time) {
	d.due, d.loaded = due, false
	q.add(d, &DelayLimits{Messages: 1 << 30, Bytes: 1 << 60})
}

// deliverDelayed publishes messages as they are due, until the server stops.
func (srv *Server) deliverDelayed() {
	for {
		d, wait := srv.delays.next(time.Now())
		if d != nil {
			if !srv.enter() {
				return
			}
			srv.publishDelayed(d)
			continue
		}
		if wait < 0 {
			wait = time.Hour // for nothing
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-srv.delays.wake:
		case <-srv.stopping.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// publishDelayed publishes a message that is due; its removal from the store and
// what it is to subscribers are one. Of QoS 1 and 2 nobody gets it before the store has
// taken that, and if it does not, the message waits on: its publisher has been told that
// it is kept.
func (srv *Server) publishDelayed(d *delayed) {
	defer srv.leave()
	defer srv.recovered("a delayed message", nil)
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	if d.will != nil {
		release, ok := b.withoutWill(d.will)
		if !ok { // the client comes or goes
			srv.delays.putBack(d, b.now.Add(retryDelayed))
			return
		}
		defer release()
	}
	p := pub{msg: *d.msg, by: d.by, record: d.key(), missed: d.will != nil && d.msg.QoS == message.AtLeastOnce}
	p.msg.At = b.now
	if d.by != nil {
		if err := srv.mayPublish(srv.ctx, d.by, p.msg.Topic); err != nil {
			p.reason = reasonOf(err, packet.NotAuthorized)
			srv.stats.drop(dropNotAuthorized)
		}
	}
	if p.tried = p.msg.QoS > 0; p.tried {
		b.later = append(b.later, emit{delayed: d, due: true})
	}
	b.add(p)
	b.whole = p.tried
	defer func() { b.whole = false }() // after a panic too
	b.work()
	b.flush()
	if srv.journal.inside.Load() >= maxPending && b.last != nil {
		_ = b.last.Wait(srv.ctx) // the journal tells of its error
	}
}

// delayedHead is what the store has of a message that waits beside its PUBLISH; Due and
// Expires are by its clock.
type delayedHead struct {
	Due, At, Expires time.Time
	Origin           string
	Hops             uint8
	By               *delayedBy `json:",omitempty"`
}

type delayedBy struct{ ClientID, Username, Principal, Listener string }

// encode writes a message that waits as the store keeps it: the length of a head,
// the head as JSON, and a PUBLISH of 5.0.
func (d *delayed) encode(clock store.Clock) ([]byte, error) {
	m := d.msg
	head := delayedHead{Due: clock.Keep(d.due), At: m.At, Expires: clock.Keep(m.Expires), Origin: m.Origin, Hops: m.Hops}
	if d.by != nil {
		who := &d.by.who
		head.By = &delayedBy{ClientID: who.ClientID, Username: who.Username, Principal: who.Principal, Listener: who.Listener}
	}
	text, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	return packet.AppendPublish(b, &packet.Publish{
		QoS: m.QoS, Retain: m.Retain, Topic: m.Topic, Payload: m.Payload, ID: uint16(min(m.QoS, 1)),
		Properties: packet.PublishProperties{
			UTF8: m.UTF8, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
			UserProperties: m.UserProperties, ContentType: m.ContentType,
		},
	}, packet.V5)
}

// decodeDelayed reads what encode has written.
func decodeDelayed(key string, b []byte, clock store.Clock) (*delayed, error) {
	number, err := strconv.ParseUint(key, 16, 64)
	if err != nil || len(b) < 4 {
		return nil, errors.New("it is not whole")
	}
	size := int64(binary.BigEndian.Uint32(b))
	if b = b[4:]; size > int64(len(b)) {
		return nil, errors.New("it is not whole")
	}
	var head delayedHead
	if err := json.Unmarshal(b[:size], &head); err != nil {
		return nil, err
	}
	read, err := packet.Read(bufio.NewReader(bytes.NewReader(b[size:])), packet.V5, 0)
	if err != nil {
		return nil, err
	}
	p, ok := read.(*packet.Publish)
	if !ok || !topic.ValidName(p.Topic) {
		return nil, errors.New("it is not a message")
	}
	m := &message.Message{
		Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Origin: head.Origin, Hops: head.Hops, At: head.At,
	}
	setProperties(m, &p.Properties, head.At)
	m.Expires = clock.Kept(head.Expires)
	d := &delayed{number: number, due: clock.Kept(head.Due), msg: m, loaded: !clock.Plausible()}
	if by := head.By; by != nil {
		d.by = &access{who: Identity{ClientID: by.ClientID, Username: by.Username, Principal: by.Principal, Listener: by.Listener}}
	}
	return d, nil
}

// loadDelayed takes over the messages that wait. Those beyond the limits are taken
// too: they were acknowledged.
func (srv *Server) loadDelayed(ctx context.Context) error {
	for r := (store.Range{Bucket: delayBucket, Limit: 256}); ; {
		records, err := srv.opts.Store.Records(ctx, r)
		if err != nil || len(records) == 0 {
			return err
		}
		for i := range records {
			d, err := decodeDelayed(records[i].Key, records[i].Value, srv.delays.clock)
			if err != nil {
				srv.stats.drop(dropStore)
				srv.log.Warn("delayed message of the store cannot be read", "key", records[i].Key, "err", err)
				continue
			}
			srv.delays.add(d, &DelayLimits{Messages: 1 << 30, Bytes: 1 << 60})
		}
		r.After = records[len(records)-1].Key
	}
}
