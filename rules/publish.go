package rules

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// messages are what the effects publish, and whose they are, in memory that is used
// again.
func (l *lane) messages() ([]message.Message, []*judge) {
	l.msgs, l.owners = l.msgs[:0], l.owners[:0]
	for i := range l.effects {
		f := &l.effects[i]
		if f.judge.Shadow {
			continue
		}
		for k := range f.out.Publish {
			m := &f.out.Publish[k]
			if f.hops >= message.MaxHops {
				l.engine.looped(f.judge, m.Topic)
				continue
			}
			if err := checkMessage(m); err != nil {
				l.engine.failedPublish(f.judge, err)
				continue
			}
			l.msgs, l.owners = append(l.msgs, *m), append(l.owners, f.judge)
			m = &l.msgs[len(l.msgs)-1]
			m.Origin, m.Hops = f.judge.origin, f.hops+1
		}
	}
	clear(l.effects)
	l.effects = l.effects[:0]
	return l.msgs, l.owners
}

// forgetMessages lets go of what messages gave, and of the memory of very many.
func (l *lane) forgetMessages() {
	const most = 1024
	clear(l.msgs)
	clear(l.owners)
	if cap(l.msgs) > most {
		l.msgs, l.owners = nil, nil
	}
}

// checkMessage refuses what a bus would.
func checkMessage(m *message.Message) error {
	if m.QoS > message.ExactlyOnce {
		return fmt.Errorf("there is no QoS %d", m.QoS)
	}
	return CheckTopic(m.Topic)
}

// looped notes a message that went through too many rules.
func (e *Engine) looped(j *judge, topic string) {
	now := e.clock.Now()
	j.count(func(c *Counters) { c.Looped++ })
	if j.round(&j.loops, mostLoops, now) {
		e.suspend(j, topic, now)
		return
	}
	e.complain(j, now, "loop", fmt.Errorf("its message to %q is dropped: it went through %d rules", abridged(topic), message.MaxHops))
}

// suspend tells that a rule is suspended, so that what it floods goes on.
func (e *Engine) suspend(j *judge, topic string, now time.Time) {
	j.failed(now, fmt.Sprintf("suspended for %v: messages go round through it and other rules, last on %q", suspension, abridged(topic)))
	e.log.Error("rule is suspended: messages go round through it", "file", j.unit.file, "rule", j.Name, "for", suspension, "topic", abridged(topic))
}

// publish publishes without keeping anything, past messages that are refused.
func (e *Engine) publish(ctx context.Context, msgs []message.Message, owners []*judge) {
	for len(msgs) > 0 {
		n := e.together(msgs)
		tried := e.publishSome(ctx, msgs[:n], owners[:n])
		msgs, owners = msgs[tried:], owners[tried:]
	}
}

// together is how many of the messages are published in one batch: a message that a
// filter may refuse goes alone, so that its refusal costs nobody else.
func (e *Engine) together(msgs []message.Message) int {
	before := &e.set.Load().before
	for i := range msgs {
		if before.hears(msgs[i].Topic) {
			return max(i, 1)
		}
	}
	return len(msgs)
}

// publishSome publishes the messages and counts what became of them. It returns how
// many were tried.
func (e *Engine) publishSome(ctx context.Context, msgs []message.Message, owners []*judge) int {
	err := e.currentBus().Publish(ctx, msgs...)
	var refused *message.RefusedError
	switch {
	case err == nil:
		countPublished(owners)
	case errors.As(err, &refused) && refused.Index >= 0 && refused.Index < refused.Tried && refused.Tried <= len(msgs):
		countPublished(owners[:refused.Index])
		e.failedPublish(owners[refused.Index], refused.Err)
		countPublished(owners[refused.Index+1 : refused.Tried])
		return refused.Tried
	default: // nobody knows what came through
		e.failedCommit(owners, err)
	}
	return len(msgs)
}

// failedCommit notes that messages may not have been accepted.
func (e *Engine) failedCommit(owners []*judge, err error) {
	if len(owners) > 1 {
		err = fmt.Errorf("one of those published together was refused: %w", err)
	}
	for _, j := range owners {
		e.failedPublish(j, err)
	}
}

func countPublished(owners []*judge) {
	for from, j := range owners {
		if from > 0 && owners[from-1] == j {
			continue // it is counted already
		}
		n := 1
		for from+n < len(owners) && owners[from+n] == j {
			n++
		}
		j.count(func(c *Counters) { c.Published += uint64(n) })
	}
}
