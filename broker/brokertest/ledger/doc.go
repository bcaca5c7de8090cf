// Package ledger holds a broker to its word. Its clients keep what MQTT asks a client to
// keep, whatever happens to their connections and to the broker, and write into one
// [Ledger] what they sent, what was acknowledged and what came; the ledger tells which
// promise was broken:
//
//   - what was acknowledged comes: at QoS 1 at least once, at QoS 2 exactly once, to every
//     session that had subscribed, and retained to whoever subscribes;
//   - messages of one topic and QoS come in the order in which they were sent;
//   - a session whose CONNACK came is there again, one that was cleared is not;
//   - after UNSUBACK nothing comes.
//
// A message is known by its number, which its payload begins with.
//
//	l := ledger.New()
//	c := l.Client("pump", packet.V5)
//	err := c.Connect(nc)                    // again after each crash, with a new connection
//	err = c.Publish("a/b", 2, false, 100)
//	err = c.Settle()
//	...
//	broken := append(l.Broken(), l.Missing()...)
package ledger
