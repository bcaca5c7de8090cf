// Package packet turns MQTT control packets into bytes and back: all fifteen
// types, every property, versions 3.1, 3.1.1 and 5.0. It knows bytes and nothing
// of sessions.
//
// [Read] takes one packet off a reader, [Append] adds one to a buffer. What is
// malformed by the standard is refused with the reason code that a server answers
// it with: the error is a [Reason].
package packet
