//go:build !unix

package durable

import "os"

// likeBefore does nothing where files have no owners that a program could keep.
func likeBefore(*os.File, string, string) error { return nil }
