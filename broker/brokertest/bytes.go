package brokertest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// bytesOf makes bytes of words: hexadecimal digits, or text in single quotes, each
// as often as a "*N" behind it says. "~" is the length of all that follows it in
// the packet, as a variable byte integer, "( ... )" is a part behind its length, and
// ";" begins another packet.
func bytesOf(words []string) ([]byte, error) {
	var all []byte
	for len(words) > 0 {
		end := 0
		for end < len(words) && words[end] != ";" {
			end++
		}
		b, err := packetOf(words[:end])
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
		words = words[min(end+1, len(words)):]
	}
	return all, nil
}

func packetOf(words []string) ([]byte, error) {
	var b []byte
	for i := 0; i < len(words); i++ {
		end := len(words)
		switch words[i] {
		case "(":
			if end = i + slices.Index(words[i:], ")"); end < i {
				return nil, errors.New("a part has no end")
			}
			fallthrough
		case "~":
			rest, err := packetOf(words[i+1 : end])
			if err != nil {
				return nil, err
			}
			b, i = append(appendLength(b, len(rest)), rest...), end
			continue
		}
		part, err := partOf(words[i])
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	return b, nil
}

func partOf(word string) ([]byte, error) {
	times := 1
	if at := strings.LastIndexByte(word, '*'); at > 0 {
		n, err := strconv.Atoi(word[at+1:])
		if err != nil {
			return nil, fmt.Errorf("cannot repeat %q: %w", word, err)
		}
		word, times = word[:at], n
	}
	if text, ok := strings.CutPrefix(word, "'"); ok {
		return []byte(strings.Repeat(strings.TrimSuffix(text, "'"), times)), nil
	}
	return hex.DecodeString(strings.Repeat(word, times))
}

func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
