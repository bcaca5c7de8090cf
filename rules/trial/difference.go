package trial

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Difference is an action that only one side took.
type Difference struct {
	Action
	New bool // the new side
}

// Side does what rules do, as [Replay]: it tells did each action in the order of time, and
// returns did's error.
type Side func(ctx context.Context, did func(Action) error) error

// ahead is how many actions one side may be ahead of the other.
const ahead = 256

// Compare runs two sides at the same time and tells what only one of them did, in the
// order of time, as soon as both are beyond it: no more is held than what happens at one
// instant. It returns when both have ended, with tell's error or that of the side that
// failed; the other one's context has ended then.
func Compare(ctx context.Context, old, new Side, tell func(Difference) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		streams [2]stream
		errs    [2]error
		wait    sync.WaitGroup
	)
	for i, side := range []Side{old, new} {
		actions := make(chan Action, ahead)
		streams[i].actions, streams[i].err = actions, &errs[i]
		wait.Go(func() {
			defer close(actions)
			errs[i] = side(ctx, func(a Action) error {
				select {
				case actions <- a:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if errs[i] != nil {
				cancel()
			}
		})
	}
	told := merge(&streams[0], &streams[1], tell)
	if told != nil {
		cancel()
	}
	for i := range streams { // what is on its way
		for range streams[i].actions {
			continue
		}
	}
	wait.Wait()
	if told != nil {
		return told
	}
	for i, err := range errs {
		if err != nil && (!errors.Is(err, context.Canceled) || errs[1-i] == nil) {
			return err
		}
	}
	return errs[0]
}

// merge tells what only one of two streams has, until both have ended.
func merge(old, new *stream, tell func(Difference) error) error {
	for {
		now, more := earlier(old.peek(), new.peek())
		if !more {
			return nil
		}
		was, is := old.at(now), new.at(now)
		if old.failed() || new.failed() { // what the other did has nothing to be compared with
			return nil
		}
		balance := make(map[string]int)
		for _, text := range was {
			balance[text]++
		}
		for _, text := range is {
			balance[text]--
		}
		take := func(texts []string, sign int) error {
			for _, text := range texts {
				if balance[text]*sign <= 0 {
					continue
				}
				balance[text] -= sign
				if err := tell(Difference{Action: Action{At: now, Text: text}, New: sign < 0}); err != nil {
					return err
				}
			}
			return nil
		}
		if err := errors.Join(take(was, 1), take(is, -1)); err != nil {
			return err
		}
	}
}

// earlier is the time of the earlier of two actions, of which there may be none.
func earlier(a, b *Action) (at time.Time, there bool) {
	switch {
	case a == nil && b == nil:
		return time.Time{}, false
	case b == nil || a != nil && a.At.Before(b.At):
		return a.At, true
	}
	return b.At, true
}

// stream is what one side does.
type stream struct {
	actions <-chan Action
	head    *Action // the next one, if it was looked at
	ended   bool
	err     *error // of the side, once it has ended
}

// failed reports whether the side has ended before its time.
func (s *stream) failed() bool { return s.ended && *s.err != nil }

// peek is the next action, nil after the last one.
func (s *stream) peek() *Action {
	if s.head == nil {
		a, more := <-s.actions
		if s.ended = !more; more {
			s.head = &a
		}
	}
	return s.head
}

// at takes what was done at one time, in its order.
func (s *stream) at(now time.Time) (texts []string) {
	for a := s.peek(); a != nil && a.At.Equal(now); a = s.peek() {
		texts, s.head = append(texts, a.Text), nil
	}
	return texts
}
