package config

import (
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// History is what is kept of what sensors said.
type History struct {
	// Topics are the topic filters whose numbers are kept; default none.
	Topics []string `yaml:"topics"`
	// Age is how long, at least 1h; default 720h, which is 30 days.
	Age time.Duration `yaml:"age"`
	// Bytes is how much of the store they may take, at least 65536; default 67108864,
	// which is 64 MiB. The oldest go first.
	Bytes int64 `yaml:"bytes"`
	// Series is how many series there may be: a topic, or a field of its JSON
	// payloads; default 1000.
	Series int `yaml:"series"`
}

func defaultHistory() History { return History{Age: 720 * time.Hour, Bytes: 64 << 20, Series: 1000} }

func (h *History) check(fail func(key, format string, args ...any)) {
	for i, f := range h.Topics {
		if !topic.ValidFilter(f) {
			fail(fmt.Sprintf("topics[%d]", i), "%q is not a topic filter: + must be a whole level, # the whole last level", f)
		}
	}
	if h.Age < time.Hour {
		fail("age", "%v is less than 1h", h.Age)
	}
	if h.Bytes < 64<<10 {
		fail("bytes", "%d is less than 65536", h.Bytes)
	}
	if h.Series < 1 {
		fail("series", "%d is less than 1", h.Series)
	}
}
