package packet

// Scratch is memory that [Next] uses again: the [Publish] and the [Ack] that it
// returns are of the scratch, and hold until its next use. The zero value is
// ready.
type Scratch struct {
	publish Publish
	ack     Ack
}

// Forget lets go of what the last packet held.
func (s *Scratch) Forget() { s.publish = Publish{} }

// Next takes one packet off the front of b, the bytes of a stream as they came,
// and says how many bytes it took: 0, and no error, when the rest of the packet has
// not come. Version, limit and errors are as those of [Read]; the announced length
// is compared with limit as soon as it is there.
//
// The strings and slices of a [Publish] share the memory of b: they hold as long as
// b is not written. All other packets hold copies.
func Next(b []byte, version Version, limit int, s *Scratch) (p Packet, n int, err error) {
	h, whole, reason := headerOf(b)
	if reason == Success && !whole {
		return nil, 0, nil
	}
	if reason == Success {
		reason = h.check(version, limit)
	}
	if reason != Success {
		return nil, 0, reason
	}
	n = h.size + h.length
	if len(b) < n {
		return nil, 0, nil
	}
	p, err = decode(h, b[h.size:n:n], version, s)
	return p, n, err
}

// headerOf reads a fixed header if it is whole.
func headerOf(b []byte) (h header, whole bool, reason Reason) {
	if len(b) < 2 {
		return h, false, Success
	}
	h.kind, h.flags = Type(b[0]>>4), b[0]&0x0f
	for i, v := range b[1:min(5, len(b))] {
		h.length |= int(v&0x7f) << (7 * i)
		if v < 0x80 {
			h.size = 2 + i
			h.minimal = v != 0 || i == 0
			return h, true, Success
		}
		if i == 3 { // a fifth byte would follow
			return h, false, MalformedPacket
		}
	}
	return h, false, Success
}
