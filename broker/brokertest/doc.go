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
// expectation says that there is no reason string, and "expiry~999" that an interval
// is 999, or less by what time has gone by since the script began. Words are separated by
// spaces; one that begins with a quote is a Go string. A first line "* versions v4 v5"
// runs the script once with each, and a line that begins with "v4: " is of that
// version alone. An expectation names every
// property of the packet but those that the server chooses: identifiers, and the
// limits in CONNACK.
//
// Instead of a script there may be a file "packets", a table of bytes that clients
// send, each row on a connection of its own:
//
//	v4 v5 | PINGREQ with flags | c1 00 | 0x81
//	first v4 | CONNECT | 10 ~ 0004 'MQTT' 04 02 0000 0001 'i' | connack 0x00
//
// The parts are the versions (after "first", the bytes are all that is sent), a name,
// the bytes (hexadecimal or 'text', each "*N" times; "~" is the length of what
// follows, "( ... )" a part behind its length, ";" begins another packet), and what
// comes of it: a reason code, with which the connection ends, or steps that are
// expected, of which "ok" is nothing, "closed" the end, and "waits" that the server
// waits for more. Another client, which hears all topics, must live on, and must get
// nothing of what was refused.
package brokertest
