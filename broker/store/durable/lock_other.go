//go:build !unix

package durable

import "os"

// flock does nothing where there are no such locks.
func flock(*os.File) error { return nil }
