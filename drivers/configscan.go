package drivers

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of the shape of a device file: the YAML library recurses, and takes time
// and memory by the square of what stands in one line.
const (
	maxDepth     = 256
	maxLineMarks = 1_000 // brackets, "- ", "? ", ": ", "!" and "&" in one line
)

// scan refuses what must not reach the YAML library. Marks in texts and comments
// count, too: it need not be exact, only safe.
func (c Config) scan() error {
	if len(c.Text) > MaxFileBytes {
		return c.at(nil, fmt.Sprintf("the file is over %d bytes", MaxFileBytes))
	}
	if !utf8.Valid(c.Text) {
		return c.at(nil, "the file is not UTF-8 text")
	}
	var indents []int
	brackets, number := 0, 0
	for line := range strings.Lines(string(c.Text)) {
		number++
		rest := strings.TrimLeft(line, " ")
		if marks(rest) > maxLineMarks {
			return c.atLine(number, "the line is too complex")
		}
		opened := strings.Count(rest, "[") + strings.Count(rest, "{")
		brackets = max(0, brackets+opened-strings.Count(rest, "]")-strings.Count(rest, "}"))
		if strings.TrimSpace(rest) == "" {
			continue
		}
		indent := len(line) - len(rest)
		for len(indents) > 0 && indents[len(indents)-1] >= indent {
			indents = indents[:len(indents)-1]
		}
		indents = append(indents, indent)
		if len(indents) > maxDepth || brackets > maxDepth {
			return c.atLine(number, fmt.Sprintf("the file is nested deeper than %d levels", maxDepth))
		}
	}
	return nil
}

func marks(line string) int {
	n := 0
	for _, mark := range []string{"- ", "? ", ": ", "!", "&", "[", "{", "-\t", ":\t", "?\t"} {
		n += strings.Count(line, mark)
	}
	return n
}

// atLine returns a *ConfigError at the beginning of a line.
func (c Config) atLine(line int, msg string) *ConfigError {
	e := c.at(nil, msg)
	e.Line = line
	return e
}
