// Package rules is the rules engine: it compiles a folder of rules, judges
// publishes with them, and swaps the set between two messages.
//
// The words: a [Language] compiles a file ([Source]) into a [Program], which holds
// one or more rules ([Rule]). A rule hears topic filters, a timer or its start. It
// stands [Before] the routing of a message, where it may change, redirect, drop or
// reject it, or [After], where it may publish. What one run did is an [Outcome].
//
// Each language is a lane of its own: a subscription on the bus, named rules/NAME,
// with the filters of its After rules, that runs one batch, timer or start at a time in
// goroutines of its own, so a script that hangs delays no other language. What a batch
// made is published together, in the order of its messages and then of the rules
// (by file, and as they stand in it), with one hop more than the message had.
//
// Before rules judge in the goroutine of whoever publishes, all languages together,
// in the order of the files' names and then of their own. A message is judged with
// one set of rules from beginning to end; sets are swapped in between. What runs
// when is said at [Engine.Load], [Engine.Intercept] and [Engine.Run].
//
// What a file keeps: its [State] stays from version to version; its program, timers
// and counters stay as long as its content does; the previous message of each topic
// ([Rule].Prev) belongs to the lane, or to all Before rules together, and stays.
//
// How a file is stands retained on $SYS/gatehouse/rules/FILE, as JSON with file, ok,
// rules and, for a broken one, error, line and column.
//
// The order of calls: New, Load (as often as the folder changes), Intercept (from
// the broker, at any time), and Run with the bus, which blocks.
//
//	engine, err := rules.New(rules.Options{Languages: []rules.Language{exprlang.New()}})
//	err = engine.Load(ctx, os.DirFS("scripts"))
//	server, err := broker.New(broker.Options{Interceptor: engine})
//	err = engine.Run(ctx, server)
//
// The package knows neither expr nor JavaScript: rules/exprlang and rules/jsvm do.
package rules
