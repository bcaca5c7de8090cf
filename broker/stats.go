package broker

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// Stats are a server's counters since it was made, and what it holds now.
type Stats struct {
	Uptime        time.Duration
	Connections   int   // open sockets, connected clients among them
	Clients       int   // connected MQTT clients
	Sessions      int   // of clients and in-process subscribers, connected or not
	Subscriptions int   // topic filters of all sessions
	Retained      int   // retained messages
	RetainedBytes int64 // their sizes, as [Limits].RetainedBytes counts them
	Shared        int   // shared ones among the subscriptions
	Delayed       int   // messages that wait to be delivered later
	DelayedBytes  int64 // their sizes
	Accepted      int64 // sockets accepted
	Connects      int64 // clients connected
	Refused       int64 // connections refused, by limit or by CONNACK
	Subscribers   int   // in-process ones among the sessions
	MostClients   int   // the most clients that were connected at once
	Expired       int64 // sessions whose expiry interval has passed
	// Queued and QueuedBytes are what waits in the queues of all sessions, and was not
	// sent yet. Retained messages that a SUBSCRIBE asked for are among the messages,
	// but not in the bytes, which are those of RetainedBytes.
	Queued      int64
	QueuedBytes int64
	// QueuedInMemory is how many bytes of what is queued are in memory: the windows of
	// queues that the store has, and what it does not have; see [Limits].AllWindows.
	QueuedInMemory int64
	// InFlight is what was sent to clients with QoS 1 and 2 and not acknowledged yet,
	// or is to be sent again when they are back.
	InFlight int64
	// PacketsReceived and PacketsSent count control packets of all types, and the
	// other two the bytes of sockets, all of them since the server was made.
	PacketsReceived, PacketsSent int64
	SocketReceived, SocketSent   int64
	// Received and Sent count PUBLISH packets by QoS; the bytes are those of their
	// payloads and topics.
	Received, Sent           [3]int64
	ReceivedBytes, SentBytes [3]int64
	// Paused counts how often the reader of a client paused, because it published
	// more than [Limits].PublishRate.
	Paused int64
	// Published counts messages that came from inside the gateway.
	Published int64
	// Dropped counts messages that a subscriber or publisher lost, by reason:
	// "slow" (QoS 0, the client's socket was full), "queue" (queue full), "expired",
	// "too-large" (beyond the client's Maximum Packet Size), "not-authorized",
	// "hops" (too many rules), "handler" (an in-process subscriber failed),
	// "store" (the store did not take it), "invalid" (a topic no one may use),
	// "retained" (there are too many retained messages, or bytes of them), "delayed"
	// (there are too many delayed messages, or bytes of them), "all-queues" (the queues
	// of all sessions together are full), "limits" (too many topic levels or user
	// properties), "shared" (of QoS 2, sent to a member of a shared subscription whose
	// session has ended: no other may have it).
	Dropped map[string]int64
	// InterceptDrops and InterceptRejects count verdicts of the interceptor.
	InterceptDrops, InterceptRejects int64
}

// ClientInfo is one session of an MQTT client, as it stands.
type ClientInfo struct {
	ClientID      string
	Principal     string
	Username      string
	Listener      string
	Remote        string // address, empty when not connected
	Version       packet.Version
	Connected     bool
	Since         time.Time // when it connected, or when its connection ended
	KeepAlive     time.Duration
	Expiry        time.Duration // of the session, store.Forever means never
	Subscriptions int
	Queued        int // messages waiting to be sent
	InFlight      int // messages sent and not acknowledged
}

// dropReason is an index into counters.dropped.
type dropReason uint8

const (
	dropSlow dropReason = iota
	dropQueue
	dropExpired
	dropTooLarge
	dropNotAuthorized
	dropHops
	dropHandler
	dropStore
	dropInvalid
	dropRetained
	dropDelayed
	dropAllQueues
	dropLimits
	dropShared
	dropReasons
)

var dropNames = [dropReasons]string{
	"slow", "queue", "expired", "too-large", "not-authorized", "hops", "handler", "store", "invalid",
	"retained", "delayed", "all-queues", "limits", "shared",
}

// counters are written by every connection.
type counters struct {
	accepted, connects, refused, published atomic.Int64
	paused                                 atomic.Int64
	clients, connections                   atomic.Int64
	received, sent                         [3]atomic.Int64
	receivedBytes, sentBytes               [3]atomic.Int64
	dropped                                [dropReasons]atomic.Int64
	interceptDrops, interceptRejects       atomic.Int64
	mostClients, expired, shared           atomic.Int64
}

// connect counts a client that is connected.
func (c *counters) connect() {
	now := c.clients.Add(1)
	for most := c.mostClients.Load(); now > most && !c.mostClients.CompareAndSwap(most, now); {
		most = c.mostClients.Load()
	}
}

func (c *counters) drop(why dropReason) { c.dropped[why].Add(1) }

func (c *counters) fill(s *Stats) {
	s.Accepted, s.Connects, s.Refused = c.accepted.Load(), c.connects.Load(), c.refused.Load()
	s.Published, s.Paused = c.published.Load(), c.paused.Load()
	s.Clients, s.Connections = int(c.clients.Load()), int(c.connections.Load())
	for q := range 3 {
		s.Received[q], s.Sent[q] = c.received[q].Load(), c.sent[q].Load()
		s.ReceivedBytes[q], s.SentBytes[q] = c.receivedBytes[q].Load(), c.sentBytes[q].Load()
	}
	s.Dropped = make(map[string]int64, len(dropNames))
	for i, name := range dropNames {
		s.Dropped[name] = c.dropped[i].Load()
	}
	s.MostClients, s.Expired, s.Shared = int(c.mostClients.Load()), c.expired.Load(), int(c.shared.Load())
	s.InterceptDrops, s.InterceptRejects = c.interceptDrops.Load(), c.interceptRejects.Load()
}

// countLocked adds up what the sessions hold; the caller holds the server's mu.
func (srv *Server) countLocked(s *Stats) {
	s.Sessions = len(srv.sessions)
	for _, session := range srv.sessions {
		if session.bus != nil {
			s.Subscribers++
		}
		s.InFlight += session.flights.Load()
	}
}
