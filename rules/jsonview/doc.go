// Package jsonview looks into JSON text (RFC 8259) without making a tree of it: most of
// what a rule is shown it never asks for.
//
//	v, ok := jsonview.Parse(payload, 300)
//	if !ok { ... }                            // not JSON, or nested too deeply
//	open := v.Member("open").Kind() == jsonview.True
//
// [Parse] goes over the text once and checks all of it. A [Value] is a piece of that
// text; to go down into it costs the length of what is passed over, and no memory.
//
// What is not UTF-8 is no JSON; [Misencoded] tells it from other text. Of two members with the same key the last one counts.
package jsonview
