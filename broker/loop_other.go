//go:build !linux

package broker

import (
	"errors"
	"net"
)

// loop exists on Linux only: elsewhere each connection has a goroutine of its own,
// and every write goes through another.
type loop struct{}

func newLoop(*Server) (*loop, error) { return nil, errors.ErrUnsupported }

func (*loop) add(*conn) bool { return false }
func (*loop) remove(*conn)   {}
func (*loop) run()           {}
func (*loop) close()         {}

func descriptor(net.Conn) int { return -1 }

func writeNow(int, []byte) (int, error) { return 0, nil }

func readNow(int, []byte) (n int, ready bool, err error) { return 0, true, nil }
