package modbus

import (
	"context"
	"fmt"
	"strings"
)

// meiIdentification is the MEI type of the device identification (§6.21).
const meiIdentification = 14

// The categories of the device identification, as a request names them.
const (
	basicObjects    = 1
	regularObjects  = 2
	extendedObjects = 3
)

// maxIdentityAnswers bounds a device that always has more to say.
const maxIdentityAnswers = 64

// Identity is what a device says of itself by function 43/14 (Modbus Application
// Protocol V1.1b3 §6.21); text that it does not give is empty.
type Identity struct {
	VendorName, ProductCode, Revision           string // basic: objects 0 to 2
	VendorURL, ProductName, ModelName, UserName string // regular: objects 3 to 6
	// Objects are all that it gave, by object identifier; from 128 they are the
	// maker's own.
	Objects map[uint8]string
}

// String gives the vendor, the product and the revision.
func (i Identity) String() string {
	var words []string
	for _, w := range []string{i.VendorName, i.ProductName, i.ModelName, i.ProductCode, i.Revision} {
		if w != "" && (len(words) == 0 || words[len(words)-1] != w) {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// identificationLen is how long the PDU is that answers function 43/14 and begins so;
// 0 is that it is not told yet, or no such answer.
func identificationLen(pdu []byte) int {
	const head = 7
	if len(pdu) < head || Function(pdu[0]) != EncapsulatedInterface || pdu[1] != meiIdentification {
		return 0
	}
	n := head
	for range pdu[head-1] {
		if len(pdu) < n+2 {
			return 0
		}
		n += 2 + int(pdu[n+1])
	}
	if n > maxPDU {
		return 0
	}
	return n
}

// Identify asks for all that the unit says of itself. The error is an [Exception]
// (code 1) from a unit that does not know the function.
func (c *Client) Identify(ctx context.Context, unit uint8) (Identity, error) {
	id := Identity{Objects: map[uint8]string{}}
	for category := uint8(basicObjects); category <= extendedObjects; category++ {
		conformity, err := c.identify(ctx, unit, category, id.Objects)
		if err != nil && (category == basicObjects || !isRefusal(err)) {
			return id, err
		}
		if err != nil || conformity&0x7F <= category {
			break
		}
	}
	for object, to := range []*string{
		&id.VendorName, &id.ProductCode, &id.Revision, &id.VendorURL, &id.ProductName, &id.ModelName, &id.UserName,
	} {
		*to = id.Objects[uint8(object)]
	}
	return id, nil
}

// identify asks for one category, as often as the unit has more, and says which
// categories it knows.
func (c *Client) identify(ctx context.Context, unit, category uint8, objects map[uint8]string) (conformity uint8, err error) {
	next := uint8(0)
	for range maxIdentityAnswers {
		r := request{unit: unit, fn: EncapsulatedInterface, data: []byte{meiIdentification, category, next}}
		got, err := c.ask(ctx, r)
		if err != nil {
			return conformity, err
		}
		pdu := got.data
		conformity = pdu[3]
		for at := 7; at < len(pdu); at += 2 + int(pdu[at+1]) {
			objects[pdu[at]] = strings.ToValidUTF8(strings.TrimRight(string(pdu[at+2:at+2+int(pdu[at+1])]), "\x00 "), "\uFFFD")
		}
		if pdu[4] == 0 {
			return conformity, nil
		}
		if pdu[5] <= next {
			return conformity, fmt.Errorf("%w: it has more, and wants to begin again at object %d", errGarbled, pdu[5])
		}
		next = pdu[5]
	}
	return conformity, fmt.Errorf("%w: it has no end", errGarbled)
}
