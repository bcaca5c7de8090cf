package auth

import (
	"bytes"
	"strings"
)

// SetUser returns the text of a users file in which the user's hash is this one: in
// place of the one it had, or on a line at the end. All other lines stay as they are.
func SetUser(text []byte, name, hash string) []byte {
	line := name + ":" + hash + "\n"
	out, found := editUser(text, name, line)
	if found {
		return out
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, line...)
}

// RemoveUser returns the text without the user's line, and whether there was one.
func RemoveUser(text []byte, name string) (out []byte, found bool) {
	return editUser(text, name, "")
}

func editUser(text []byte, name, line string) (out []byte, found bool) {
	for old := range bytes.Lines(text) {
		its, _, ok := strings.Cut(strings.TrimPrefix(string(old), byteOrderMark), ":")
		if !ok || strings.TrimSpace(its) != name {
			out = append(out, old...)
			continue
		}
		if !found {
			out = append(out, line...)
		}
		found = true
	}
	return out, found
}
