package listen

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"unsafe"
)

// inner are the places in a [tls.Conn] of what it reads into, and never gives back:
// as much as the longest record and handshake message that ever came. They are looked
// up by name and type, and left alone should crypto/tls no longer have them.
type inner struct {
	raw, hand, input uintptr
	known            bool
}

var tlsInner = findInner()

func findInner() inner {
	raw, r := place[bytes.Buffer]("rawInput")
	hand, h := place[bytes.Buffer]("hand")
	input, i := place[bytes.Reader]("input")
	return inner{raw: raw, hand: hand, input: input, known: r && h && i}
}

// place is that of a field of tls.Conn, if it has one of the type.
func place[T any](name string) (uintptr, bool) {
	field, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	return field.Offset, ok && field.Type == reflect.TypeFor[T]()
}

// rawBuffers are lent to the connections that read.
var rawBuffers sync.Pool

// keepRaw is the largest that is lent again: one record, and what a buffer grows by.
const keepRaw = 40 << 10

// lend gives a connection that holds none a buffer to read a record into. It is for
// the goroutine that reads, once the handshake is done, outside of Read.
func lend(c *tls.Conn) {
	if !tlsInner.known {
		return
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), tlsInner.raw))
	if raw.Cap() > 0 {
		return
	}
	if b, ok := rawBuffers.Get().(*bytes.Buffer); ok {
		*raw, *b = *b, bytes.Buffer{}
	}
}

// settle takes back from a connection what it holds for input, as far as nothing is in
// it. It is for the same moments as lend.
func settle(c *tls.Conn) {
	if !tlsInner.known {
		return
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), tlsInner.raw))
	hand := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), tlsInner.hand))
	input := (*bytes.Reader)(unsafe.Add(unsafe.Pointer(c), tlsInner.input))
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	if input.Len() > 0 || raw.Len() > 0 {
		return
	}
	*input = bytes.Reader{} // it is of raw's memory
	if raw.Cap() <= keepRaw && raw.Cap() > 0 {
		b := new(bytes.Buffer)
		*b = *raw
		b.Reset()
		rawBuffers.Put(b)
	}
	*raw = bytes.Buffer{}
}
