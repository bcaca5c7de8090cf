package broker

import (
	"cmp"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// naive is a queue as simply as can be: all there is, in no order.
type naive struct{ all []*item }

// next is the oldest of the highest class.
func (n *naive) next() *item {
	if len(n.all) == 0 {
		return nil
	}
	return slices.MinFunc(n.all, func(a, b *item) int { return cmp.Or(cmp.Compare(b.class, a.class), cmp.Compare(a.pos, b.pos)) })
}

// least is the one of the lowest class that is dropped.
func (n *naive) least(newest bool) *item {
	counted := slices.DeleteFunc(slices.Clone(n.all), func(it *item) bool { return it.asked })
	if len(counted) == 0 {
		return nil
	}
	return slices.MinFunc(counted, func(a, b *item) int {
		if newest {
			a.pos, b.pos = b.pos, a.pos
			defer func() { a.pos, b.pos = b.pos, a.pos }()
		}
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.pos, b.pos))
	})
}

func (n *naive) remove(pos uint64) {
	n.all = slices.DeleteFunc(n.all, func(it *item) bool { return it.pos == pos })
}

// TestQueueAgainstANaiveOne makes random changes to a queue, of which a part is in
// memory and a part only in the store, and compares.
func TestQueueAgainstANaiveOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := Limits{Window: 300, AllWindows: 4000}
		limits.setDefaults()
		all := &totals{}
		q, n := &queue{all: all}, &naive{}
		push := func(rt *rapid.T) {
			q.next += rapid.Uint64Range(0, 70).Draw(rt, "gap")
			it := &item{
				pos: q.position(), class: rapid.Uint8Range(0, MaxClass).Draw(rt, "class"), asked: rapid.IntRange(0, 4).Draw(rt, "asked") == 0,
				qos: message.QoS(rapid.IntRange(0, 2).Draw(rt, "qos")), msg: &message.Message{Payload: make([]byte, rapid.IntRange(0, 60).Draw(rt, "size"))},
			}
			q.push(it, it.qos == 0 || q.mayHold(it.class, &limits))
			n.all = append(n.all, it)
		}
		for range rapid.IntRange(0, 30).Draw(rt, "before") {
			push(rt)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"push": push, "push more": push, "push on": push,
			"pop": func(rt *rapid.T) {
				if it := n.next(); it != nil {
					if held := q.front(); held != nil && held.pos != it.pos {
						rt.Fatalf("%d is next, want %d", held.pos, it.pos)
					}
					if gone := q.pop(); gone.pos != it.pos {
						rt.Fatalf("popped %d, want %d", gone.pos, it.pos)
					}
					n.remove(it.pos)
				}
			},
			"drop": func(rt *rapid.T) {
				newest := rapid.Bool().Draw(rt, "newest")
				gone, ok := q.drop(newest)
				if it := n.least(newest); ok != (it != nil) || ok && gone.pos != it.pos {
					rt.Fatalf("dropped %+v %v, want %+v", gone, ok, it)
				}
				n.remove(gone.pos)
			},
			"take": func(rt *rapid.T) {
				positions := rapid.SliceOfNDistinct(rapid.Uint64Range(1, q.next+1), 0, 9, rapid.ID).Draw(rt, "positions")
				slices.Sort(positions)
				for _, gone := range q.take(positions) {
					n.remove(gone.pos)
					if rapid.Bool().Draw(rt, "restore") && !gone.zero {
						q.restore(gone)
						it := &item{pos: gone.pos, class: gone.class, asked: gone.asked, qos: 1, msg: &message.Message{Payload: make([]byte, 7)}}
						n.all = append(n.all, it)
					}
				}
				for _, it := range n.all {
					if _, found := slices.BinarySearch(positions, it.pos); found && q.len() < len(n.all) {
						rt.Fatalf("%d is lost", it.pos)
					}
				}
			},
			"spill": func(*rapid.T) {
				q.spill()
				n.all = slices.DeleteFunc(n.all, func(it *item) bool { return it.qos == 0 })
			},
			"fill": func(rt *rapid.T) { refillAgainst(rt, q, n, &limits) },
			"":     func(rt *rapid.T) { agrees(rt, q, n, all) },
		})
	})
}

// refillAgainst fetches as the server does from a store that has lost some.
func refillAgainst(rt *rapid.T, q *queue, n *naive, limits *Limits) {
	from, limit := q.wanted(limits)
	if limit == 0 {
		return
	}
	stored := slices.DeleteFunc(slices.Clone(n.all), func(it *item) bool { return it.qos == 0 || it.pos < from })
	slices.SortFunc(stored, func(a, b *item) int { return cmp.Compare(a.pos, b.pos) })
	lost := -1
	if len(stored) > 0 && rapid.IntRange(0, 9).Draw(rt, "lost") == 0 {
		lost = rapid.IntRange(0, len(stored)-1).Draw(rt, "which")
	}
	var fetched []store.Queued
	for i, it := range stored {
		if i != lost && len(fetched) < limit {
			fetched = append(fetched, store.Queued{Position: it.pos, Message: it.msg, Delivery: store.Delivery{QoS: it.qos}})
		}
	}
	end := q.next + 1
	if len(fetched) == limit {
		end = fetched[limit-1].Position + 1
	}
	before := q.len()
	if gone := q.fill(from, end, fetched, limits); before-q.len() != gone || gone > 1 || gone == 1 && lost < 0 {
		rt.Fatalf("%d are lost, and the queue has %d less", gone, before-q.len())
	} else if gone == 1 {
		n.remove(stored[lost].pos)
	}
	if it := q.front(); it == nil && q.len() > 0 && lost < 0 {
		rt.Fatal("what is next was not fetched")
	}
}

func agrees(rt *rapid.T, q *queue, n *naive, all *totals) {
	asked, zero := 0, 0
	for _, it := range n.all {
		if it.asked {
			asked++
		}
		if it.qos == 0 {
			zero++
		}
	}
	var held, memory, back int64
	q.each(func(it *item) { held, memory = held+1, memory+int64(it.size) })
	for l := range q.lanes {
		for i := range l.back.blocks.len() {
			b := l.back.blocks.at(i)
			if back += b.bytes.sum(); b.has == 0 || b.bytes[0] < 0 || b.bytes[1] < 0 {
				rt.Fatalf("block %+v", b)
			}
		}
	}
	if q.len() != len(n.all) || q.asked != asked || q.zero != zero {
		rt.Fatalf("%d messages, %d asked, %d of QoS 0; want %d, %d, %d", q.len(), q.asked, q.zero, len(n.all), asked, zero)
	}
	if int64(q.held) != held || q.memory != memory || q.bytes.sum() != memory+back {
		rt.Fatalf("it counts %d held, %d bytes, %d in memory; there are %d, %d, %d", q.held, q.bytes.sum(), q.memory, held, memory+back, memory)
	}
	if all.messages.Load() != int64(q.n) || all.bytes.Load() != q.bytes[0] || all.memory.Load() != q.memory {
		rt.Fatalf("the totals are %d, %d, %d", all.messages.Load(), all.bytes.Load(), all.memory.Load())
	}
	if q.len() == 0 && q.bytes.sum() != 0 {
		rt.Fatalf("an empty queue has %d bytes", q.bytes.sum())
	}
}

// TestQueueCostsLessThanAByteAMessage adds up what a long queue holds in memory.
func TestQueueCostsLessThanAByteAMessage(t *testing.T) {
	const n = 1_000_000
	q := &queue{}
	for range n {
		q.restore(spot{pos: q.position(), size: 256})
	}
	if held := cap(q.plain.back.blocks.buf) * int(unsafe.Sizeof(block{})); held > n || q.bytes[0] != 256*n {
		t.Errorf("%d bytes for %d messages of %d bytes", held, n, q.bytes[0])
	}
}
