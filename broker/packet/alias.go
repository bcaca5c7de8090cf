package packet

// AliasCost is how many bytes a topic alias takes in a PUBLISH, and AliasGrowth how
// much longer at most a PUBLISH gets that has both its topic name and an alias.
const (
	AliasCost   = 3
	AliasGrowth = AliasCost + 2 // the two lengths may each take a byte more
)

// PublishTopic is the topic name of a PUBLISH that Append has written, as a part of
// it; nil if it is another packet.
func PublishTopic(written []byte) []byte {
	if Type(written[0]>>4) != PUBLISH {
		return nil
	}
	at := lengthEnd(written, 1)
	n := int(written[at])<<8 + int(written[at+1])
	return written[at+2 : at+2+n]
}

// AppendAliased adds to b the PUBLISH of MQTT 5.0 that Append has written without a
// topic alias, with one: beside the topic name if keepName, else in its place. One
// encoding thus serves receivers with aliases of their own.
func AppendAliased(b, written []byte, alias uint16, keepName bool) []byte {
	at := lengthEnd(written, 1)
	name := 2 + int(written[at])<<8 + int(written[at+1])
	props := at + name
	if written[0]&0x06 != 0 {
		props += 2 // the packet identifier
	}
	values := lengthEnd(written, props)
	size, _ := varintAt(written, props)
	grown := size + AliasCost
	kept := name
	if !keepName {
		kept = 2
	}
	rest := len(written) - values
	remaining := kept + (props - at - name) + varintSize(grown) + AliasCost + rest
	b = append(b, written[0])
	b = appendVarint(b, uint32(remaining))
	if keepName {
		b = append(b, written[at:at+name]...)
	} else {
		b = append(b, 0, 0)
	}
	b = append(b, written[at+name:props]...)
	b = appendVarint(b, uint32(grown))
	b = append(b, propTopicAlias, byte(alias>>8), byte(alias))
	return append(b, written[values:]...)
}

// lengthEnd is where the variable byte integer at a place ends.
func lengthEnd(b []byte, at int) int {
	for b[at] >= 0x80 {
		at++
	}
	return at + 1
}

func varintAt(b []byte, at int) (v, size int) {
	for ; ; size++ {
		v |= int(b[at+size]&0x7f) << (7 * size)
		if b[at+size] < 0x80 {
			return v, size + 1
		}
	}
}

func varintSize(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
