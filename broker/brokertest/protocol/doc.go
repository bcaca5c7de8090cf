// Command protocol writes docs/protocol.md: every normative statement of MQTT 5.0
// and 3.1.1 that concerns a server, where the broker keeps it, and which test shows
// it.
//
// The statements are in statements-5.0.txt and statements-3.1.1.txt. A line of code
// that keeps one says so in a comment, by a tag: [MQTT-3.1.2-22] for MQTT 5.0,
// [MQTT3-3.1.2-24] for 3.1.1, whose numbers are others. So does the comment of a
// scenario, or of a test function, that shows it. The table names functions, because
// lines move.
//
// `make generate` runs it. A test fails when the document is out of date, when a
// statement has no place or no test, and when a tag names a statement that does not
// exist.
package main

//go:generate go run . ../../..
