// Package store is the broker's durable state as a snapshot and ordered changes.
//
// The parent defines, the children implement: [Store] is implemented by store/mem
// (nothing survives the process) and, later, by a log on disk. Both pass the suite
// in store/storetest.
//
// What is held: retained messages; sessions with their subscriptions and wills;
// each session's queue of outbound messages with what is in flight; the packet
// identifiers of received QoS 2 messages; and keyed records for whoever needs a
// little durable state (the rules engine).
//
// A caller loads the snapshot once, then applies changes. Changes applied together
// are kept all or none; a [Ticket] is done when they are safe, so that a connection
// goes on reading while its acknowledgements wait, and leave in order.
package store
