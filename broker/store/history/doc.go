// Package history keeps what sensors have said: the numbers in the payloads of some
// topics, for as long and in as much room as is allowed.
//
// A series is the numbers of one topic, "home/hall/temp", or of one field of its JSON
// payloads, "home/hall/weather#wind". Sixty points of a series are a chunk, about
// seven bytes a point; a chunk is one keyed record of a [store.Store]. To spare an SD
// card, chunks are written together, at most [FlushEvery] after they were heard: that
// is what a power cut costs.
//
//	h, err := history.New(history.Options{Store: s, Topics: []string{"home/+/temp"}})
//	...
//	go h.Run(ctx, bus) // blocks until ctx ends
//	...
//	points, err := h.Points(ctx, history.Query{Series: "home/hall/temp", From: yesterday, Limit: 1000})
package history
