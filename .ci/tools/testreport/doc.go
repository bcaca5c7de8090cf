// Testreport reads what `go test -json` writes and prints what a person wants
// to read: the line of each package as the go command words it, and everything
// that a failed test wrote. It ends with a line of totals, and fails if a test
// or a package failed.
//
//	go test -json ./... | testreport -totals FILE
//
// With -totals it also appends "PASSED FAILED SKIPPED" to FILE, from which a
// caller of several runs makes its sum. Tests and subtests count alike.
package main
