// Package brokertest runs scenarios against a real broker over a real socket.
//
// A scenario is a txtar file. Its comment is the specification; its file "script"
// says what happens, one step a line:
//
//	a> connect v5 id=a clean           client a opens a socket and sends CONNECT
//	a< connack 0x00                    client a gets this packet next
//	a> sub 1 home/+:q1                 SUBSCRIBE, packet identifier 1
//	a< suback 1 0x01
//	b> pub home/hall hello q1 id=7     PUBLISH
//	a< pub home/hall hello q1
//	a< nothing                         nothing is on its way (a PINGREQ is answered next)
//	a< closed                          the server closes the socket
//	a> close                           client a closes its socket, without a word
//	a> raw v4 10 00                    bytes, of a client that speaks 3.1.1
//	* pub home/hall hello retain       the server's own Publish
//	* kick a 0x98                      Server.Disconnect
//	* restart                          the broker ends and starts on the same store
//	* stop                             the broker ends
//	* stats sessions=1 dropped-slow=0  the counters become these
//	* stats retained>=60               a counter becomes at least so much
//
// The first lines may set options: "* server in-flight=2". "no-why" in an
// expectation says that there is no reason string. Words are separated by
// spaces; one that begins with a quote is a Go string. An expectation names every
// property of the packet but those that the server chooses: identifiers, and the
// limits in CONNACK.
package brokertest
