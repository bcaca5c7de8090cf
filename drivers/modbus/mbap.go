package modbus

import (
	"encoding/binary"
	"fmt"
)

// The MBAP header (Modbus Messaging on TCP/IP V1.0b §3.1.3): transaction, protocol,
// length, unit.
const (
	mbapHeader = 7
	maxMBAP    = mbapHeader + maxPDU
)

// adu is one frame of Modbus TCP.
type adu struct {
	transaction uint16
	unit        uint8
	pdu         []byte // belongs to what it was read from
}

// append adds the frame to b.
func (a adu) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, a.transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(a.pdu)))
	b = append(b, a.unit)
	return append(b, a.pdu...)
}

// cutADU takes the frame that b begins with. N is 0 if it is not all there. An error
// means that the stream is out of step and can only be closed.
func cutADU(b []byte) (a adu, n int, err error) {
	if len(b) < 6 {
		return a, 0, nil
	}
	if protocol := binary.BigEndian.Uint16(b[2:]); protocol != 0 {
		return a, 0, fmt.Errorf("protocol identifier is %d, not 0", protocol)
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < 2 || length > 1+maxPDU {
		return a, 0, fmt.Errorf("length is %d, not 2 to %d", length, 1+maxPDU)
	}
	if len(b) < 6+length {
		return a, 0, nil
	}
	a = adu{transaction: binary.BigEndian.Uint16(b), unit: b[6], pdu: b[mbapHeader : 6+length]}
	return a, 6 + length, nil
}
