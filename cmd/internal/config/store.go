package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// Store is the durable state, in the folder "store" of the data folder. Without a data
// folder it is in memory, and ends with the program.
type Store struct {
	// Durability says when what is of QoS 1 or 2 is acknowledged: commit (it is on the
	// disk, default), "interval DURATION" (it will be within that time, at least 1ms: a
	// power cut costs as much, kill -9 the last milliseconds) or off (it will be when the
	// operating system likes).
	Durability string `yaml:"durability"`
	// Readings is the durability of what devices retain on their topics, which is read
	// again after a restart; default "interval 10s".
	Readings string `yaml:"readings"`
	// Relaxed asks for less for messages of some topics; default none. Of several that
	// match a topic the first counts.
	Relaxed []Relaxed `yaml:"relaxed"`
	// Memory keeps nothing on the disk though there is a data folder; default false.
	Memory bool `yaml:"memory"`
	// Ballast is how many bytes are kept free for when the disk is full, so that what
	// was received can still be acknowledged; 0 is none; default 8388608.
	Ballast int64 `yaml:"ballast"`
	// RewriteRate is how many bytes a second are written at most to give back the room
	// of what is gone, at least 4096; default 1048576.
	RewriteRate int64 `yaml:"rewrite_rate"`
}

// Relaxed is a durability of some topics.
type Relaxed struct {
	// Filter is a topic filter.
	Filter string `yaml:"filter"`
	// Durability is "interval DURATION" or off.
	Durability string `yaml:"durability"`
}

func defaultStore() Store {
	return Store{Durability: "commit", Readings: "interval 10s", Ballast: 8 << 20, RewriteRate: 1 << 20}
}

func (s *Store) check(fail func(key, format string, args ...any)) {
	if _, _, err := ParseDurability(s.Durability); err != nil {
		fail("durability", "%v", err)
	}
	if _, _, err := ParseDurability(s.Readings); err != nil {
		fail("readings", "%v", err)
	}
	for i, r := range s.Relaxed {
		key := fmt.Sprintf("relaxed[%d]", i)
		if !topic.ValidFilter(r.Filter) {
			fail(key+".filter", "%q is not a topic filter: + must be a whole level, # the whole last level", r.Filter)
		}
		if mode, _, err := ParseDurability(r.Durability); err != nil {
			fail(key+".durability", "%v", err)
		} else if mode == "commit" {
			fail(key+".durability", "commit relaxes nothing: give interval DURATION or off")
		}
	}
	if s.Ballast < 0 {
		fail("ballast", "%d is less than 0", s.Ballast)
	}
	if s.RewriteRate < 4096 {
		fail("rewrite_rate", "%d is less than 4096", s.RewriteRate)
	}
}

// ParseDurability takes a durability apart: the mode is commit, interval or off, and
// every is of an interval.
func ParseDurability(s string) (mode string, every time.Duration, err error) {
	if oneOf(s, "commit", "off") {
		return s, 0, nil
	}
	if d, ok := strings.CutPrefix(s, "interval "); ok {
		if every, err := time.ParseDuration(d); err == nil && every >= time.Millisecond {
			return "interval", every, nil
		}
	}
	return "", 0, fmt.Errorf("%q is not one of commit, interval DURATION (such as interval 1s, at least 1ms), off", s)
}
