// Package broker is the MQTT server: versions 3.1, 3.1.1 and 5.0 over anything
// that is a [net.Listener]. It asks nothing of clients that is not in these
// ([MQTT3-7.0.0-2]).
//
// The words. A connection is one client on one socket. A [Session] is what one
// client identifier keeps between connections: subscriptions, a queue of messages
// of QoS 1 and 2, what is in flight, and a will. A session whose expiry is 0 ends
// with its connection and lives in memory only; any other is kept in the
// [store.Store] of [Options]. An [Authorizer] decides who may connect, publish,
// subscribe and receive; an [Interceptor] sees accepted publishes before they are
// routed; [Events] hear of clients. Sessions that share a subscription are a group:
// each message goes to one of them, by the group's [Strategy], and what one leaves
// behind goes to another. Parts of the gateway that are not MQTT clients use the server as a
// [message.Bus].
//
// Who calls what in what order: New checks the options and starts nothing; Run
// loads the store and owns every goroutine; Serve accepts on one listener, as
// often as there are listeners; Publish and Subscribe wait until the store is
// loaded.
//
//	s, err := broker.New(broker.Options{Store: mem.New(), Authorizer: auth.Anonymous()})
//	...
//	go func() { stopped <- s.Run(ctx) }()
//	err = s.Serve(ctx, listener)
//
// The path of a publish: a loop reads the plain sockets that have something, one
// after the other; those under TLS or a WebSocket get a goroutine from it while they
// have; connections without a socket have one for good. What one read
// brings is collected into a batch; the interceptor sees them; each is retained and routed; what
// durable sessions must keep goes into one [store.Store] Apply; acknowledgements
// leave in order when that is safe. Output is appended to the buffer of the
// connection it is for and written once, when the input at hand is used up. There
// is no writer goroutine unless a socket is slow. What may take its time (CONNECT,
// SUBSCRIBE, a publish that the interceptor hears) leaves the loop for a goroutine
// of its own. A message's memory is that of what was read until the batch is done;
// whoever keeps it takes a copy (pub.keep).
//
// Locks, outermost first: Server.commitMu puts changes of durable state into one
// order, the order in which sessions make them and the store gets them; a
// session's mu guards its state machine; a connection's out.mu guards its output.
// The lock of the subscription tree is let go before a session's is taken.
package broker
