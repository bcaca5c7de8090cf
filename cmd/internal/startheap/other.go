//go:build !linux || (!amd64 && !arm64)

package startheap

// Grow does nothing: there are no huge pages.
func Grow() {}

// GiveBack does nothing.
func GiveBack() {}
