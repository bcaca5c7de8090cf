package console

import "time"

// Store is the durable state.
type Store struct {
	Kind       string    `json:"kind" enum:"disk,memory"`
	Durability string    `json:"durability,omitempty" doc:"commit, interval DURATION or off"`
	Readings   string    `json:"readings,omitempty" doc:"The same of what devices retain on their topics"`
	Relaxed    []Relaxed `json:"relaxed,omitempty" doc:"Topics that ask for less"`

	Segments       int        `json:"segments" doc:"Files in use"`
	SegmentBytes   int64      `json:"segment_bytes" doc:"Size of each"`
	LiveBytes      int64      `json:"live_bytes" doc:"Of records that count"`
	DeadBytes      int64      `json:"dead_bytes" doc:"Of those that do not count any more"`
	Sessions       int        `json:"sessions"`
	Messages       int        `json:"messages" doc:"In the queues of all sessions"`
	Groups         int64      `json:"groups" doc:"Of changes written together, since the start"`
	Syncs          int64      `json:"syncs" doc:"Flushes of the disk, since the start"`
	WrittenBytes   int64      `json:"written_bytes" doc:"Since the start"`
	RewrittenBytes int64      `json:"rewritten_bytes" doc:"Of them, to give back the room of what is gone"`
	Damaged        int64      `json:"damaged" doc:"Damaged places found since the start; see the files damaged-* of the folder"`
	Unreadable     int64      `json:"unreadable" doc:"Those of them that the medium refused to read, twice"`
	AsideBytes     int64      `json:"aside_bytes" doc:"Of the files damaged-*, also of earlier runs"`
	Full           bool       `json:"full" doc:"The disk is: messages of QoS 1 and 2 are refused"`
	Refused        int64      `json:"refused" doc:"Changes refused for that"`
	Failed         string     `json:"failed,omitempty" doc:"Why nothing can be written"`
	Failures       int64      `json:"failures" doc:"Groups that could not be written"`
	Lost           int64      `json:"lost" doc:"Relaxed changes that could not be written"`
	Unsynced       *time.Time `json:"unsynced,omitempty" doc:"Since when there is something that a power cut would cost"`
	ClockPlausible bool       `json:"clock_plausible" doc:"The wall clock goes on from where it was"`
}

// Relaxed is a durability of some topics.
type Relaxed struct {
	Filter     string `json:"filter"`
	Durability string `json:"durability"`
}
