// Package exprlang is the rule language of YAML files: topic filters, conditions in
// expr, and templates.
//
//	rules:
//	  - name: light follows the door
//	    on: home/+/door                    # a topic filter, or a list
//	    if: payload.open && not prev.open  # true or false; without it the rule always fires
//	    do:
//	      - publish: home/${parts[1]}/light/set
//	        payload: {on: true, since: "${payload.at}"}
//	        qos: 1
//	filters:
//	  - name: sane temperatures only
//	    on: raw/+/temp
//	    drop: payload.c < -60 || payload.c > 150
//	    topic: clean/${parts[1]}/temp
//	    set: {f: payload.c * 1.8 + 32}
//	    on_error: pass                     # or reject
//
// if, drop and the values of set are expr. In the strings of topic, publish and
// payload, ${...} holds expr ("$${" is a plain "${"), and everything else is
// literal. A string that is one ${...} has the value's type, any other is text. A
// payload that is text is sent as it is, any other as JSON.
//
// The variables: payload (the JSON value of the payload; of a payload that is not
// JSON its text), prev (the same of the topic's previous message), text (the payload
// as text), topic, parts (the topic's levels, from 0), qos, retain, origin; vars (the
// file's own, from rules.Source.State), time and sun; and the functions now(),
// sunrise(), sunset(), between(from, to) and state(topic), the last payload on another
// topic. state() is heard by one Watch rule that a file has for all of them. plugin(name,
// ...) calls a function of rules.Source.Funcs and waits for it.
//
// A field that is absent is nil, and so is a field of what is not an object. In a
// condition nil counts as false. Calculating with nil, comparing it by order, or
// putting it into text makes the rule "not evaluated" (rules.ErrNotEvaluated): it
// does nothing, and that is counted. So does whatever else the expression cannot do
// with this message.
//
// Numbers of a payload that pass through a template keep the digits that they came
// with. Whole numbers are calculated with 64 bits, where the machine has them, any
// other as float64.
//
// What stands under do is a list of steps (steps.go, waitsteps.go), which become code
// (code.go) of which runs are at a place (run.go, act.go). A run that waits is a timer
// of the engine with its continuation as data (waits.go); for, debounce, throttle and
// silent are in timed.go, what is taken over from another process in books.go. A rule
// that only publishes at once has no run. docs/rules.md is the reference.
//
// The package is the only one that knows expr. Expressions have no clock to stop
// them, so those that could take long or much are refused when they are compiled;
// limits.go says which.
package exprlang
