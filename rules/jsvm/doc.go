// Package jsvm runs JavaScript rules: it is the rules.Language "js".
//
// A script is a file *.js or *.ts. Its top level calls on, filter, every and the like;
// the functions that it hands over run later, an event at a time. It may require other
// files of the folder, which the gateway sends along. All scripts live in
// one separate process, the script worker: the gateway's own binary, started again
// to call [Worker]. No script can harm the gateway, because what a script can do to
// a process (take all memory, recurse in native code, hang in a regular expression)
// it does to the worker, which is bounded, watched and replaced.
//
//	lang, err := jsvm.New(jsvm.Options{Command: []string{"/proc/self/exe", "worker"}})
//	p, err := lang.Compile(ctx, rules.Source{Name: "door.js", Text: text, State: state})
//	outcomes := p.Run(ctx, calls)
//
// # Life
//
// New starts nothing. The first Compile starts the worker, before or after Run was
// called; without a script there is no worker. The end of Run, or Close, ends it and
// waits for it. When the gateway is killed the worker sees its pipe close and ends.
//
// # Events
//
// A call of a handler, a filter or a timer is an event, and so is the top level. An
// event has effects: publishes, timers, changes of state, a filter's verdict. They
// come into force together when it returns. An event that throws, is not back
// within Options.Deadline, or brings the worker down has none; its Outcome.Err is a
// *rules.Error with the place in the script where that is known, and only its log
// lines stay. Global variables of the script are not rolled back.
//
// When the worker dies, it is known from memory that both processes share which
// event it was at. That one fails, and its script is named. What else was on its
// way is run again in a new worker, where each script is compiled anew as it is
// needed, with its current state: since no answer had come, no effect is doubled.
// Such a restart runs the top level only to have its functions: what it publishes
// and sets is dropped. Timers of the top level keep their identifiers and go on;
// those that handlers had set are gone, which is logged. When one of these is due,
// the top level's timeouts are set again, once, so that a chain of timeouts starts
// over. A script that brings the worker down three times in a minute is not run for
// a minute: its calls fail at once, with an error that says until when, unless its
// file changes. If it does so again soon after, the pause is 2, 4 ... 60 minutes. A
// script that holds more than three eighths of Options.Memory between events is found
// and counts as one that did; so does one whose event leaves less than a quarter of it.
//
// An event that Run gave up, because its ctx ended, may still run; then the script's
// copy of the state is put right before its next event.
//
// A function of a plugin is asked for in the middle of an event, over the pipe of the
// answers, and told over a pipe of its own. The event waits, and no clock counts it.
//
// # Files
//
// The gateway's half: language, modules, program, item, link (the queue and the pipe),
// supervise (life and death), process. The worker's half: worker, script, transform, require, api,
// timers, pace and passing (debounce and throttle), args (what those wait with), jsmessage,
// json and encode (values), builtins (caps), fault, watch (the deadline), memory. Both: frame,
// codec, record, record_outcome, recall and pause (what is remembered beside the state),
// shared, limits.
package jsvm
