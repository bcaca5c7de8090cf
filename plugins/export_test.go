package plugins

import "time"

// Backoff gives tests the pauses of a plugin that fails.
func Backoff(first, most, healthy time.Duration) func(ran time.Duration, refused bool) (time.Duration, bool) {
	b := &backoff{first: first, most: most, healthy: healthy}
	return b.next
}
