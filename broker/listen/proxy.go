package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// proxySignature begins a header of version 2 (The PROXY protocol, §2.2).
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

const (
	proxyLocal = 0x20 // version 2, LOCAL: the proxy speaks for itself
	proxyProxy = 0x21 // version 2, PROXY
)

// The families and transports that a header may name.
const (
	proxyUnspecified = 0x00
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	proxyUnixStream  = 0x31
)

// readProxyHeader reads exactly one header off r and returns where it says that the
// client is; nil if the connection is the proxy's own, or came to it by a Unix socket.
// A client of whom the proxy does not know where it is gets 0.0.0.0, which is not this
// machine. No memory is taken by what the header announces.
func readProxyHeader(r io.Reader) (*net.TCPAddr, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("no PROXY header: %w", err)
	}
	if string(head[:12]) != proxySignature {
		return nil, errors.New("no PROXY header of version 2: the connection does not begin with its signature")
	}
	command, family, length := head[12], head[13], int(binary.BigEndian.Uint16(head[14:]))
	if command != proxyLocal && command != proxyProxy {
		return nil, fmt.Errorf("PROXY header: version and command 0x%02x are none of 0x20, 0x21", command)
	}
	var body [36]byte
	size := 0
	switch family {
	case proxyTCP4:
		size = 12
	case proxyTCP6:
		size = 36
	case proxyUnspecified, proxyUnixStream:
	default:
		if command == proxyProxy {
			return nil, fmt.Errorf("PROXY header: family and transport 0x%02x are none of a stream", family)
		}
	}
	if command == proxyLocal {
		size = 0 // whatever follows is skipped
	}
	if length < size {
		return nil, fmt.Errorf("PROXY header: %d bytes of addresses, %d are needed", length, size)
	}
	if _, err := io.ReadFull(r, body[:size]); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	// TLVs, and addresses that mean nothing to us.
	if _, err := io.CopyN(io.Discard, r, int64(length-size)); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	switch {
	case size == 12:
		return mapped(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:])), nil
	case size == 36:
		return mapped(netip.AddrFrom16([16]byte(body[:16])), binary.BigEndian.Uint16(body[32:])), nil
	case command == proxyProxy && family == proxyUnspecified:
		return mapped(netip.IPv4Unspecified(), 0), nil
	default:
		return nil, nil
	}
}
