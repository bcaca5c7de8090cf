package disk

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	maxReady   = 4 // files kept ready to be segments
	retryFirst = time.Second
	retryLast  = 15 * time.Second
)

// keeper keeps files ready and gives back the room of what is gone.
type keeper struct {
	*Store
	retry  time.Duration // after a failure
	failed bool          // the last step
}

// keep is the keeper's goroutine.
func (s *Store) keep() {
	k := &keeper{Store: s}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := k.step()
		select {
		case <-s.closing:
			return
		default:
		}
		if wait == 0 {
			continue
		}
		timer.Reset(wait)
		tend := s.tend
		if k.failed { // whoever pokes may have failed because of the same
			tend = nil
		}
		select {
		case <-tend:
		case <-timer.C:
		case <-s.closing:
			return
		}
	}
}

// step does one thing, and says how long there is nothing to do, 0 if there may be
// more at once.
func (k *keeper) step() time.Duration {
	k.tending <- struct{}{}
	did, err := k.work()
	<-k.tending
	k.failed = err != nil
	switch {
	case err != nil && !errors.Is(err, errClosed):
		k.opts.Log.Warn("store: cannot tidy up, trying again", "err", err)
		k.retry = min(max(2*k.retry, retryFirst), retryLast)
		return k.retry
	case did:
		k.retry = 0
		return 0
	case k.full.Load() || k.opts.Ballast > 0 && !k.ballast.Load():
		k.retry = min(max(2*k.retry, retryFirst), retryLast)
		return k.retry
	default:
		return time.Hour
	}
}

func (k *keeper) work() (did bool, err error) {
	if err := k.removeStale(); err != nil {
		return false, err
	}
	if g := k.deadSegment(); g != nil {
		return true, k.clean(g)
	}
	made, failed := k.supply()
	if made {
		return true, nil
	}
	if g := k.victim(); g != nil {
		return true, k.clean(g)
	}
	if k.broken.Load() != nil && !k.full.Load() { // perhaps it is well, and nobody else has written since
		return true, k.submit(apply{try: true, need: needSync}).Wait(context.Background())
	}
	return false, failed
}

// supply makes the ballast, or the first file that is ready, if there is none. What keeps
// it from that keeps nobody from cleaning; a full disk is for the writer to see.
func (k *keeper) supply() (made bool, err error) {
	k.making <- struct{}{}
	defer func() { <-k.making }()
	ready := k.filesReady(k.opts.SegmentSize)
	switch {
	case k.opts.Ballast > 0 && !k.ballast.Load():
		err = k.makeBallast()
	case ready == 0:
		err = k.addReady(k.opts.SegmentSize)
	default:
		k.heal()
		return false, nil
	}
	if ready > 2 {
		k.heal()
	}
	if isFull(err) {
		return false, nil
	}
	return err == nil, err
}

// order lists the segments by identifier.
func (s *Store) order() []*segment {
	segs := make([]*segment, 0, len(s.x.segs))
	for _, g := range s.x.segs {
		segs = append(segs, g)
	}
	slices.SortFunc(segs, func(a, b *segment) int { return int(int64(a.id) - int64(b.id)) })
	return segs
}

// exists reports whether there is a segment from low up to below high, but for except.
func exists(segs []*segment, low, high, except uint32) bool {
	i, _ := slices.BinarySearchFunc(segs, low, func(g *segment, low uint32) int { return int(int64(g.id) - int64(low)) })
	for ; i < len(segs) && segs[i].id < high; i++ {
		if segs[i].id != except {
			return true
		}
	}
	return false
}

// needed is how many bytes of a segment delete what may be in others.
func (g *segment) needed(segs []*segment) (n int64) {
	for low, bytes := range g.deletes {
		if exists(segs, low, g.id, g.id) {
			n += bytes
		}
	}
	return n
}

// pinned reports whether a segment must stay because it says where the log in
// another one ended.
func (s *Store) pinned(g *segment) bool {
	before := s.x.segs[g.lastSeg]
	return before != nil && !before.hinted
}

// deadSegment finds a segment that nothing needs.
func (k *keeper) deadSegment() *segment {
	k.ix.Lock()
	defer k.ix.Unlock()
	segs := k.order()
	segs = segs[:max(len(segs)-1, 0)] // the last one says where the log ends
	suspect := slices.ContainsFunc(segs, func(g *segment) bool { return g.suspect && g.sealed && !g.stuck && !k.pinned(g) })
	for _, g := range segs {
		if g.sealed && g.file == nil && g.live == 0 && !k.pinned(g) && (g.suspect || !suspect) && g.needed(segs) == 0 {
			return g
		}
	}
	return nil
}
