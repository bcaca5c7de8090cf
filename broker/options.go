package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Options say what a [Server] is made of. The zero value of a field is its
// documented default.
type Options struct {
	// Store keeps sessions and retained messages. It is required; its owner closes
	// it after Run has returned.
	Store store.Store
	// Authorizer decides who may do what. Nil denies every connection.
	Authorizer Authorizer
	// Interceptor sees publishes before they are routed. Nil passes them all.
	Interceptor Interceptor
	// Log is where the life of the server is told. Nil discards it.
	Log *slog.Logger
	// Limits bound what clients may use.
	Limits Limits
	// Offer says what of MQTT clients are offered; the zero value is all of it.
	Offer Offer
	// Shared says how groups of shared subscriptions choose their members.
	Shared Shared
	// Topics are settings by topic filter.
	Topics Topics
	// Events hears of clients that come, go and subscribe. Nil is nobody.
	Events Events
	// ClientEvents has the same published, as JSON, below $SYS/broker/clients.
	ClientEvents bool
	// Version is what $SYS/broker/version says. Empty means "gatehouse".
	Version string
	// StatusEvery is how often those of the $SYS/broker topics are published whose
	// values have changed. 0 means 10 s, below 0 never.
	StatusEvery time.Duration
}

// Topics are settings by topic filter.
type Topics struct {
	// Priorities give messages that wait a class. None means that all are equal.
	Priorities []Priority
	// RetainedExpiry limits the life of retained messages that came without a Message
	// Expiry Interval (MQTT 5.0 §3.3.2.3.3).
	RetainedExpiry []RetainedExpiry
}

// Authorizer decides who may connect, and what they may do on concrete topics. Its
// methods are called by many goroutines at once, Allow with locks held: it answers
// from memory, and does not call the server.
//
// An Authorizer may have two more methods. AllowsAll(Identity, Action) bool is asked
// once a connection, and again after each [Server.Reauthorize]; when it answers true,
// Allow is not asked for that action about topics that do not begin with "$".
// Stays(Identity) bool is asked about connected clients by Reauthorize; one about
// whom it answers false is disconnected with 0x87, not authorized. One that is an
// [Exchanger] too can authenticate by more than a password.
type Authorizer interface {
	// Connect returns the principal whom the client acts as. An error that is a
	// [packet.Reason] is what the client is told; any other is told as 0x87, not
	// authorized.
	Connect(ctx context.Context, who Identity, password []byte) (principal string, err error)
	// Allow returns nil if who may do what the action says with a topic: a concrete
	// topic name, except for [ActSubscribe], whose topic is a filter without its
	// $share prefix. Errors are as those of Connect. It does not keep the topic,
	// whose memory is used again.
	Allow(ctx context.Context, who Identity, action Action, topic string) error
}

// Identity is whom a connection belongs to.
type Identity struct {
	ClientID  string
	Username  string // as CONNECT says, empty if it does not
	Principal string // what Connect returned; empty while it is asked, and for anonymous clients
	Listener  string // the name of the listener, if it has one
	Remote    net.Addr
	// Certificate is the client's own, whose chain the listener has verified; nil
	// without TLS, or if the client showed none. It is not kept with a session whose
	// client has left, nor is Remote then; both are nil in one that the store kept.
	Certificate *x509.Certificate
	// Since is when the authentication began that has let the client in.
	Since time.Time
	// Loopback says that both ends of the connection are on this machine: loopback
	// addresses or a Unix socket.
	Loopback bool
}

// Exchanger is what an [Authorizer] is that authenticates by exchanges of AUTH
// packets too (MQTT 5.0 §4.12). Without, every method is refused with 0x8C, bad
// authentication method.
type Exchanger interface {
	// Exchange begins an exchange by the method that a CONNECT or AUTH packet names.
	// Errors are as those of [Authorizer].Connect; a method that is not known is
	// [packet.BadAuthenticationMethod].
	Exchange(who Identity, method string) (Exchange, error)
}

// Exchange is one authentication under way. It is used by one goroutine.
type Exchange interface {
	// Step takes the authentication data of the client's next packet, which it does
	// not keep, and returns what to answer with. Done says that the client is
	// authenticated: the answer then goes with CONNACK, or with AUTH of success. Any
	// error ends the exchange and the connection. The context ends with the time that
	// a client has to be connected.
	Step(ctx context.Context, data []byte) (answer []byte, done bool, err error)
	// Principal is whom the client acts as, once Step has said that it is done.
	Principal() string
}

// Action is what an [Authorizer] is asked about.
type Action uint8

// The actions.
const (
	// ActPublish is to publish to a topic name; wills and redirected messages too.
	ActPublish Action = iota + 1
	// ActSubscribe is to subscribe to a topic filter.
	ActSubscribe
	// ActReceive is to be sent a message of a topic name, live or retained; one that
	// waited for its client to come back is asked about again.
	ActReceive
)

// String names the action.
func (a Action) String() string {
	switch a {
	case ActPublish:
		return "publish"
	case ActSubscribe:
		return "subscribe"
	case ActReceive:
		return "receive"
	default:
		return fmt.Sprintf("action %d", uint8(a))
	}
}

// Interceptor sees accepted publishes before they are routed: from clients, wills
// and [Server.Publish], but not those below $SYS.
//
// An Interceptor may also have the method Hears(topic string) bool, which answers at
// once, whatever Intercept does: messages of topics that it does not hear pass
// without being shown, and their connections never wait for it. It does not keep
// the topic, whose memory is used again.
type Interceptor interface {
	// Intercept returns a verdict for each message of the batch, in order; nil
	// passes all. The batch holds the publishes of one read of one connection, and
	// is the callee's only until it returns. It is called by many connections at
	// once and must not block for long: the connection waits for it.
	Intercept(ctx context.Context, batch []message.Message) []message.Verdict
}

// denyAll is the authorizer of a server that was given none.
type denyAll struct{}

func (denyAll) Connect(context.Context, Identity, []byte) (string, error) {
	return "", packet.NotAuthorized
}

func (denyAll) Allow(context.Context, Identity, Action, string) error {
	return packet.NotAuthorized
}

// told is the code as a packet of type t may carry it: authorizers and interceptors
// may give others, and the client must be answered.
func told(r packet.Reason, t packet.Type) packet.Reason {
	if r.ValidIn(t) {
		return r
	}
	return packet.ImplementationSpecificError
}

// reasonOf is the reason code that err is, or otherwise.
func reasonOf(err error, otherwise packet.Reason) packet.Reason {
	var r packet.Reason
	if errors.As(err, &r) && r.Failed() {
		return r
	}
	return otherwise
}
