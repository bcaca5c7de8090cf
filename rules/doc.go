// Package rules is the rules engine: it compiles a folder of rules, judges
// publishes with them, and swaps the set between two messages.
//
// The words: a [Language] compiles a file ([Source]) into a [Program], which holds
// one or more rules ([Rule]). A rule hears topic filters, a timer or its start. It
// stands [Before] the routing of a message, where it may change, redirect, drop or
// reject it, or [After], where it may publish. What one run did is an [Outcome].
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
