package listen

import (
	"bytes"
	"net"
	"unsafe"
)

// ReadProxyHeader is for the fuzzer.
var ReadProxyHeader = readProxyHeader

// Frames is for the fuzzer: a WebSocket that is open.
func Frames(nc net.Conn) net.Conn { return &frames{Conn: nc} }

// TLSKnown reports whether the buffers of crypto/tls are where they were.
func TLSKnown() bool { return tlsInner.known }

// TLSHeld is how many bytes of input a TLS connection has memory for.
func TLSHeld(nc net.Conn) int {
	c := nc.(*lateConn).tls
	at := func(offset uintptr) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(c), offset) }
	raw, hand, input := (*bytes.Buffer)(at(tlsInner.raw)), (*bytes.Buffer)(at(tlsInner.hand)), (*bytes.Reader)(at(tlsInner.input))
	return raw.Cap() + hand.Cap() + int(input.Size())
}
