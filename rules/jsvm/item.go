package jsvm

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// item is one thing that the worker is asked to do: a call, or a load.
type item struct {
	prog   *program
	call   *rules.Call // nil for a load
	reload bool        // a load that the link itself asked for, before a call
	fresh  bool        // a load whose top level is to count
	before bool        // a call of a Before rule: it goes first
	spared bool        // it was at work when a worker was killed from outside
	now    time.Time   // of a load; the zero time is the machine's
	resync bool        // the worker's copy of the state goes first
	until  time.Time   // nobody waits longer; the zero time is for ever
	peers  []uint32    // the scripts whose state it may read
	seq    uint64
	size   int // about what it takes in a frame

	// What call points to.
	own rules.Call
	msg message.Message

	status atomic.Int32
	wait   *waiter // nil for a reload

	outcome rules.Outcome     // once answered
	base    map[string][]byte // of a load: the state that it saw
	loaded  *loadedRecord     // of a load that went well
	err     error             // of a load that did not
}

// The life of an item: whoever moves it away from pending decides what came of it.
const (
	pending int32 = iota
	answered
	abandoned // nobody waits for it any more; its outcome must not count
)

// waiter is told when all items of a call to the link are answered.
type waiter struct {
	left atomic.Int32
	done chan struct{}
}

func newWaiter(n int) *waiter {
	w := &waiter{done: make(chan struct{})}
	w.left.Store(int32(n))
	return w
}

// hold takes a call over: it may be sent, and answered, when its caller has given it up and
// uses the memory again.
func (it *item) hold(call *rules.Call) {
	it.own = *call
	if call.Message != nil {
		it.msg = *call.Message
		it.own.Message = &it.msg
	}
	it.call = &it.own
}

// settle claims the item for an answer, which [item.tell] follows. It returns false
// if the item was abandoned: then the answer must not count.
func (it *item) settle() bool {
	return it.status.CompareAndSwap(pending, answered)
}

// abandon gives the item up. It returns false if it is being answered just now.
func (it *item) abandon() bool {
	if !it.status.CompareAndSwap(pending, abandoned) {
		return false
	}
	it.tell()
	return true
}

// tell counts the item off; its fields are not written after it.
func (it *item) tell() {
	if it.wait != nil && it.wait.left.Add(-1) == 0 {
		close(it.wait.done)
	}
}

// give answers the item without the worker.
func (it *item) give(out rules.Outcome) {
	if it.settle() {
		it.outcome = out
		it.tell()
	}
}

// fail answers the item with an error.
func (it *item) fail(err error) {
	if !it.settle() {
		return
	}
	if it.call == nil {
		it.err = err
	} else {
		it.outcome = it.prog.failed(it.call, err)
	}
	it.tell()
}

var errAbandoned = errors.New("the call was not made in time")

// append writes the item's records into a frame.
func (it *item) append(frame []byte) []byte {
	p := it.prog
	if it.call == nil {
		it.base = p.src.State.Snapshot()
		if it.now.IsZero() {
			it.now = time.Now()
		}
		rec := &loadRecord{
			Seq: it.seq, Script: p.id, Name: p.src.Name, Text: p.src.Text, Files: p.files,
			State: changes(it.base), Fresh: it.fresh, Expect: p.print, Now: it.now, Steady: p.milliseconds(it.now),
		}
		return p.kept.append(frame, rec, func(r *recall) { rec.Recall = r })
	}
	if it.resync {
		rec := &stateRecord{Script: p.id, Values: changes(p.src.State.Snapshot())}
		frame = p.kept.append(frame, rec, func(r *recall) { rec.Recall = r })
	}
	c := it.call
	rec := &callRecord{
		Seq: it.seq, Script: p.id, Trigger: c.Trigger, Rule: p.ruleIndex(c), Timer: c.Timer, Name: c.Name, Data: c.Data,
		Schedule: c.Schedule, Late: c.Late, Reply: c.Reply, Explain: c.Explain, Peers: it.peers, Now: c.Now, Steady: p.milliseconds(c.Now),
	}
	if it.call.Trigger == rules.OnMessage {
		if rec.Message = toWire(it.call); !p.watches(it.call) {
			rec.Message.Order = 0 // scripts do not see it
		}
	}
	return appendRecord(frame, rec)
}

// changes lists values in the order of their keys.
func changes(values map[string][]byte) []rules.StateChange {
	list := make([]rules.StateChange, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, rules.StateChange{Key: key, Value: values[key]})
	}
	return list
}
