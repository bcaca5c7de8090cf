// Package jsonschema checks JSON values against a JSON Schema of the drafts 4, 6, 7,
// 2019-09 and 2020-12, formats included.
//
// A schema is compiled once, with all that it refers to, which a [Loader] gives: nothing
// is fetched. What is compiled is never written, so that many may check with it at once.
// A regular expression is one of Go, and takes time in proportion to the text. Neither a
// schema nor a value can make a check run for long: see [ErrWork].
//
//	schema, err := jsonschema.Compile("rules:///a.yaml", doc, load)
//	...
//	err = schema.Validate(value) // a *Fault: at '/c': got string, want number
//
// The package computes nothing when the program starts: a library that compiles the
// schemas of schemas for all drafts then took a fifth of the time to the first rule.
package jsonschema
