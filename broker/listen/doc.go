// Package listen turns addresses into listeners whose connections a broker serves:
// plain TCP, Unix sockets and MQTT over WebSocket.
//
//	l, err := listen.Listen(ctx, listen.Options{Name: "local", Address: "127.0.0.1:1883", Protocol: "mqtt"})
//	...
//	err = server.Serve(ctx, l)
//
// A connection has the method Listener, which returns the Name of its listener; it
// and its addresses are what an authorizer learns of where a client came from.
package listen
