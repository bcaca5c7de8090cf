package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Strategy says which member of a group of shared subscriptions gets a message.
// Every strategy prefers members that are connected and may receive the topic.
type Strategy uint8

// The strategies.
const (
	// RoundRobin gives each member its turn.
	RoundRobin Strategy = iota
	// LeastInFlight takes the member with the fewest messages waiting and in flight,
	// among equals the one whose turn it is.
	LeastInFlight
	// Sticky stays with one member for as long as it is connected.
	Sticky
	// HashClient gives all messages of one publisher to one member. When a member
	// comes or goes, only what is its own moves.
	HashClient
	// HashTopic gives all messages of one topic to one member, as HashClient does.
	HashTopic
)

var strategyNames = [...]string{"round-robin", "least-in-flight", "sticky", "hash-client", "hash-topic"}

// String is the strategy's name, as [ParseStrategy] reads it.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("strategy %d", uint8(s))
}

// ParseStrategy reads the name of a strategy; an empty one is [RoundRobin].
func ParseStrategy(name string) (Strategy, error) {
	if name == "" {
		return RoundRobin, nil
	}
	for i, n := range strategyNames {
		if n == name {
			return Strategy(i), nil
		}
	}
	return 0, fmt.Errorf("no such strategy: %q; there are %s", name, strings.Join(strategyNames[:], ", "))
}

// Shared says how groups of shared subscriptions choose their members.
type Shared struct {
	// Strategy is that of groups that Groups does not name.
	Strategy Strategy
	// Groups has a strategy of its own for a share name: the NAME of
	// $share/NAME/FILTER. "$queue" is that of $queue/FILTER.
	Groups map[string]Strategy
}

func (s *Shared) check() error {
	if int(s.Strategy) >= len(strategyNames) {
		return errors.New("there is no such strategy")
	}
	for name, g := range s.Groups {
		if int(g) >= len(strategyNames) {
			return fmt.Errorf("group %q: there is no such strategy", name)
		}
	}
	return nil
}

func (s *Shared) of(name string) Strategy {
	if g, ok := s.Groups[name]; ok {
		return g
	}
	return s.Strategy
}

// The prefixes of shared subscriptions. The second is not of the standard: a group
// without a name of its own.
const (
	sharePrefix = "$share/"
	queuePrefix = "$queue/"
)

// isShared reports whether a topic filter asks for a shared subscription.
func isShared(full string) bool {
	return strings.HasPrefix(full, sharePrefix) || strings.HasPrefix(full, queuePrefix)
}

// splitShare takes "$share/NAME/FILTER" or "$queue/FILTER" apart. Ok is false if it
// is neither that nor a valid filter ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
func splitShare(full string) (filter, name string, ok bool) {
	if rest, queue := strings.CutPrefix(full, queuePrefix); queue {
		return rest, strings.TrimSuffix(queuePrefix, "/"), topic.ValidFilter(rest)
	}
	rest, shared := strings.CutPrefix(full, sharePrefix)
	if !shared {
		return full, "", topic.ValidFilter(full)
	}
	name, filter, more := strings.Cut(rest, "/")
	if !more || name == "" || strings.ContainsAny(name, "+#") {
		return "", "", false
	}
	return filter, name, topic.ValidFilter(filter)
}

// group is what shares one filter under one name (MQTT 5.0 §4.8.2). The tree's
// lock guards it, but for what those who hold it to read count and remember.
type group struct {
	filter   string
	strategy Strategy
	node     *subscription
	members  []*subscription
	turns    atomic.Uint32
	stuck    atomic.Pointer[subscription]
}

// pick chooses the member that gets a message, but not the session that is not to:
// one that is connected, or else one whose session queues, and then waits is true.
// It is nil if there is none. The caller holds the tree's lock to read.
func (g *group) pick(ctx context.Context, m *message.Message, not *Session) (chosen *subscription, waits bool) {
	turn, n := int(g.turns.Add(1)&0x3fffffff), len(g.members)
	if g.strategy == Sticky {
		if sub := g.stuck.Load(); sub != nil && sub.s != not && sub.s.listens() && sub.takes(ctx, m) {
			return sub, false
		}
	}
	key := g.key(m)
	var there, away, refused *subscription
	var thereRank, awayRank uint64
	for i := range n {
		sub := g.members[(turn+i)%n]
		listens := sub.s.listens()
		switch {
		case sub.s == not, !listens && !(sub.s.stored && sub.qos > 0):
			continue
		case !sub.takes(ctx, m):
			refused = sub
			continue
		}
		rank := g.rank(sub, key)
		switch {
		case listens && (there == nil || rank < thereRank):
			there, thereRank = sub, rank
		case !listens && (away == nil || rank < awayRank):
			away, awayRank = sub, rank
		}
		if listens && rank == 0 {
			break // nobody is better
		}
	}
	switch {
	case there != nil:
		if g.strategy == Sticky {
			g.stuck.Store(there)
		}
		return there, false
	case away != nil:
		return away, true
	default:
		return refused, false // whom the delivery is refused, and counted
	}
}

// takes reports whether a member may have a message.
func (sub *subscription) takes(ctx context.Context, m *message.Message) bool {
	return !(sub.noLocal && sub.s.origin == m.Origin) && sub.s.mayReceive(ctx, m.Topic)
}

// key is the hash of what decides.
func (g *group) key(m *message.Message) uint64 {
	switch g.strategy {
	case HashClient:
		return hashText(m.Origin)
	case HashTopic:
		return hashText(m.Topic)
	default:
		return 0
	}
}

// rank is how well a member suits; the lowest is the best. Of a hash it is another
// number for each member (rendezvous hashing), so that a member that comes or goes
// changes nobody's choice but its own.
func (g *group) rank(sub *subscription, key uint64) uint64 {
	switch g.strategy {
	case LeastInFlight:
		return uint64(max(0, sub.s.load.Load()))
	case HashClient, HashTopic:
		return mix(key^sub.hash) | 1
	default:
		return 0
	}
}

// hashText is the 64-bit FNV-1a hash, mixed. It is the same after a restart, so that
// members may keep what they know of their share.
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads every bit of h over all (the finalizer of SplitMix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func (g *group) forget(sub *subscription) { g.stuck.CompareAndSwap(sub, nil) }

// matchGroup chooses who of a group gets a publish. The caller holds the tree's
// lock to read.
func (b *batch) matchGroup(p *pub, g *group) {
	if sub, waits := g.pick(b.ctx, &p.msg, nil); sub != nil {
		b.targets = append(b.targets, groupTarget(sub, waits))
	}
}

func groupTarget(sub *subscription, waits bool) target {
	return target{s: sub.s, qos: sub.qos, asKept: sub.asKept, ids: sub.ids, share: sub.full, waits: waits}
}

// redeliver gives a message to another member of its group when the one that was
// chosen has left meanwhile. If there is none, it waits with that one.
func (b *batch) redeliver(p *pub, t *target, later bool) {
	for range inheritTries { // members that come and go are no reason to go on for ever
		sub, waits := b.srv.member(b.ctx, t.share, &p.msg, t.s)
		if sub == nil {
			break
		}
		if *t = groupTarget(sub, waits); b.deliverInOrder(p, t, later) {
			return
		}
	}
	t.waits = true
	b.deliverInOrder(p, t, later)
}

// deliverInOrder is deliver for a target that was not known when the batch decided
// whether it changes durable state.
func (b *batch) deliverInOrder(p *pub, t *target, later bool) (taken bool) {
	if b.ordered || !t.s.stored {
		return b.deliver(p, t, later)
	}
	b.srv.inOrder(b, func() {
		taken = b.deliver(p, t, later || p.msg.QoS == message.ExactlyOnce)
	})
	return taken
}

// member chooses one of a group, but not the session that is not to.
func (srv *Server) member(ctx context.Context, full string, m *message.Message, not *Session) (*subscription, bool) {
	srv.treeMu.RLock()
	defer srv.treeMu.RUnlock()
	g := srv.groups[full]
	if g == nil {
		return nil, false
	}
	return g.pick(ctx, m, not)
}
