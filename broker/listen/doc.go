// Package listen turns addresses into listeners whose connections a broker serves:
// plain TCP, TLS, Unix sockets, and MQTT over WebSocket with and without TLS.
//
//	l, err := listen.Listen(ctx, listen.Options{Name: "local", Address: "127.0.0.1:1883", Protocol: "mqtt"})
//	...
//	err = server.Serve(ctx, l)
//
// What a broker, and an authorizer behind it, may ask of a connection besides what
// [net.Conn] says:
//
//   - Listener() string is the Name of its listener.
//   - PeerCertificates() []*x509.Certificate, on a TLS listener, is the verified
//     chain of the client's certificate, leaf first; nil without one.
//   - Locate() error, where a proxy may say where the client is, blocks until it has.
//   - Wait() error, where something comes before the first byte of MQTT or holds a
//     buffer, blocks until Read has something, and holds no memory meanwhile.
//   - Descriptor() int and ReadNow(p []byte) (n int, ready bool, err error), for the
//     same connections after that, have them wait by no goroutine: the descriptor is
//     readable when ReadNow may have more than nothing.
//   - Refused(why string) counts the connection as refused by whoever serves it.
//
// The words. A late connection is one on which something happens before its first
// byte: a PROXY header is read, a TLS handshake made, a WebSocket opened. All happen
// in the first Read or Wait, under the deadline that its caller has set, and never in
// Accept, so a client that says nothing holds up nobody. Until then
// RemoteAddr of a connection that comes through a proxy is a [PendingAddr].
//
// A listener counts what it takes and refuses ([Listener.Stats]); one with TLS
// reads its certificates again when told to ([Listener.Reload]), and keeps those
// that it has when the new ones are broken.
package listen
