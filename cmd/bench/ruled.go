package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Publisher i of a row with rules publishes to bench/in/i, and what the rules make of
// it comes on bench/out/i.
const (
	ruleTopic  = "bench/in/%d"
	ruleAnswer = "bench/out/%d"
	ruleFilter = "bench/in/+"
	ruleHeard  = "bench/out/+"
)

// ruled is how messages look that rules understand: JSON with the stamp in it. value
// goes from 20 to 29 and begins again, so that the mean of ten is known.
type ruled struct {
	straight bool // the subscribers hear what is published, and no rule
	// check judges what a rule has made of a message; nil takes everything.
	check func(publisher int, sequence uint64, payload []byte) bool
	// quiet is how long nothing comes before what is missing is taken for lost; 0 is
	// quietRules.
	quiet time.Duration
}

const (
	ruleBegin  = `{"open":true,"id":100,"value":20,"stamp":"`
	ruleMiddle = `","pad":"`
	ruleEnd    = `"}`
	idAt       = len(`{"open":true,"id":`)
	digitAt    = len(`{"open":true,"id":100,"value":2`)
	stampAt    = len(ruleBegin)
	stampSize  = 2 * headerSize
)

// ruleID is the number by which a message of publisher i is known.
func ruleID(i int) int { return 100 + i }

// rulePayload is a payload of that size, or as small as it can be.
func rulePayload(i, size int) []byte {
	b := []byte(ruleBegin)
	b = append(b, bytes.Repeat([]byte{'0'}, stampSize)...)
	b = append(b, ruleMiddle...)
	for len(b)+len(ruleEnd) < size {
		b = append(b, 'x')
	}
	b = append(b, ruleEnd...)
	digits(b[idAt:][:3], ruleID(i))
	return b
}

// publisher fills the template of a publisher, and says where its messages go.
func (r *ruled) publisher(p *publisher, size int) {
	copy(p.bytes[p.payload:], rulePayload(p.index, size))
	if !r.straight {
		p.name = fmt.Sprintf(ruleAnswer, p.index)
	}
}

func (r *ruled) stamp(payload []byte, publisher int, sequence uint64, at int64) {
	var raw [headerSize]byte
	stamp(raw[:], publisher, sequence, at)
	hex.Encode(payload[stampAt:], raw[:])
	payload[digitAt] = '0' + byte(sequence%10)
}

// read finds the stamp in what was published, or in what a rule made of it: the
// stamp alone, or an object that has it.
func (r *ruled) read(payload []byte) (publisher int, sequence uint64, at int64, ok bool) {
	text := payload
	if begin := bytes.Index(payload, []byte(`"stamp":"`)); begin >= 0 {
		text = payload[begin+len(`"stamp":"`):]
	}
	var raw [headerSize]byte
	if len(text) < stampSize {
		return 0, 0, 0, false
	}
	if _, err := hex.Decode(raw[:], text[:stampSize]); err != nil {
		return 0, 0, 0, false
	}
	publisher, sequence, at, ok = readStamp(raw[:])
	if ok && r.check != nil {
		ok = r.check(publisher, sequence, payload)
	}
	return publisher, sequence, at, ok
}

// numberOf is a number of an object without spaces.
func numberOf(payload []byte, key string) (float64, bool) {
	_, after, ok := bytes.Cut(payload, []byte(`"`+key+`":`))
	if !ok {
		return 0, false
	}
	end := bytes.IndexAny(after, ",}")
	if end < 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(after[:end]), 64)
	return v, err == nil
}

// rightMean reports whether value is the mean of the last ten values of the publisher.
func rightMean(_ int, sequence uint64, payload []byte) bool {
	v, ok := numberOf(payload, "value")
	return ok && v == 20+float64(min(sequence, 9))/2
}

// rightCount reports whether value is how many messages the publisher has sent.
func rightCount(_ int, sequence uint64, payload []byte) bool {
	v, ok := numberOf(payload, "value")
	return ok && v == float64(sequence+1)
}
