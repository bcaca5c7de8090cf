// Package packet turns MQTT control packets into bytes and back: all fifteen
// types, every property, versions 3.1, 3.1.1 and 5.0. It knows bytes and nothing
// of sessions.
//
// [Read] takes one packet off a reader, [Append] adds one to a buffer. What is
// malformed by the standard is refused with the reason code that a server answers
// it with: the error is a [Reason]. What takes a session to judge is left to the
// caller: whether a topic alias is known, a client identifier acceptable, a topic
// filter valid, a packet expected now and in this direction.
//
//	p, err := packet.Read(r, 0, 64<<10) // a CONNECT says its version itself
//	connect, ok := p.(*packet.Connect)
//	...
//	buf, err = packet.Append(buf[:0], &packet.Connack{}, connect.Version)
package packet
