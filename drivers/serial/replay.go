package serial

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// replayWindow is how long after a request what comes is its answer, if the recording
	// does not say how long was waited.
	replayWindow = time.Second
	// replayPause is within how much of a piece of an answer the next one belongs to it.
	replayPause = 50 * time.Millisecond
	// replaySilence ends a request that is the beginning of a longer one, too, and forgets
	// what is none.
	replaySilence = 100 * time.Millisecond
	// maxReplayed is how many different requests a recording may have, and how many pieces
	// that nobody asked for.
	maxReplayed = 100_000
)

// Replay answers as a device did whose wire was recorded: the same request, byte by byte,
// gets what it got last, and what the device said by itself comes at its time, over and
// over. Its methods may be called by any goroutine.
type Replay struct {
	answers  map[string][]said // by request
	requests []string          // sorted
	longest  int               // request
	unasked  []said            // after the beginning
	period   time.Duration     // from one beginning to the next
}

// said is a piece of what a device says.
type said struct {
	after time.Duration
	data  []byte
}

// ReadReplay reads a recording of [drivers.ProtocolSerial]. An error says where something
// is wrong: name:line.
func ReadReplay(name string, r io.Reader) (*Replay, error) {
	p := &Replay{answers: map[string][]said{}}
	reader := replayReader{Replay: p, window: replayWindow}
	err := drivers.ReadRecording(name, r, func(h drivers.RecordingHead) (func(drivers.Traffic) error, error) {
		if h.Wire.Protocol != drivers.ProtocolSerial {
			return nil, fmt.Errorf("it is a recording of the protocol %q, not of a serial device", h.Wire.Protocol)
		}
		reader.begun = h.At
		if h.Wire.Timeout > 0 {
			reader.window = h.Wire.Timeout
		}
		return reader.take, nil
	})
	if err != nil {
		return nil, err
	}
	reader.settle()
	if len(p.answers)+len(p.unasked) == 0 {
		return nil, fmt.Errorf("%s:1: nothing was recorded", name)
	}
	for request := range p.answers {
		p.requests = append(p.requests, request)
		p.longest = max(p.longest, len(request))
	}
	slices.Sort(p.requests)
	p.period = max(p.period, time.Second)
	return p, nil
}

// replayReader tells answers from what was said without a request.
type replayReader struct {
	*Replay
	window time.Duration
	begun  time.Time

	request string // the last; empty is none
	askedAt time.Time
	answer  []said
	last    time.Time // when its last piece came
}

func (r *replayReader) take(p drivers.Traffic) error {
	r.period = max(r.period, p.At.Sub(r.begun))
	switch {
	case len(p.Data) == 0:
		r.settle()
	case p.Sent:
		r.settle()
		r.request, r.askedAt = string(p.Data), p.At
		if _, known := r.answers[r.request]; !known {
			r.answers[r.request] = nil
		}
	case r.request != "" && (p.At.Sub(r.askedAt) <= r.window || len(r.answer) > 0 && p.At.Sub(r.last) <= replayPause):
		r.answer, r.last = append(r.answer, said{p.At.Sub(r.askedAt), p.Data}), p.At
	default:
		r.settle()
		r.unasked = append(r.unasked, said{p.At.Sub(r.begun), p.Data})
	}
	if len(r.answers)+len(r.unasked)+len(r.answer) > maxReplayed {
		return fmt.Errorf("there are more than %d different requests and pieces that nobody asked for", maxReplayed)
	}
	return nil
}

// settle keeps the answer to the last request, if it got one.
func (r *replayReader) settle() {
	if len(r.answer) > 0 {
		r.answers[r.request] = r.answer
	}
	r.request, r.answer = "", nil
}

// ReplayPort is where a Replay speaks: a [Pseudo], a [Port], a connection.
type ReplayPort interface {
	// ReadWriter reads for as long as SetReadTimeout says; nothing then is (0, nil).
	io.ReadWriter
	SetReadTimeout(time.Duration) error
}

// Run speaks at a port until ctx ends, which is no error, or the port fails. With hasty,
// answers come at once and not in the time that they took.
func (p *Replay) Run(ctx context.Context, port ReplayPort, hasty bool) error {
	s := speaker{Replay: p, hasty: hasty, begun: time.Now()}
	buf := make([]byte, 1024)
	for ctx.Err() == nil {
		for _, b := range s.due(time.Now()) {
			if _, err := port.Write(b); err != nil {
				return err
			}
		}
		if err := port.SetReadTimeout(s.patience(time.Now())); err != nil {
			return err
		}
		n, err := port.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.hear(buf[:n], time.Now())
	}
	return nil
}

// speaker is a Replay at a port. It knows no time but what it is told.
type speaker struct {
	*Replay
	hasty   bool
	begun   time.Time // of this time through what was said unasked
	next    int       // in that
	heard   []byte
	heardAt time.Time
	queue   []said    // of the answer under way
	asked   time.Time // what it answers
}

// due takes what is to be said by now.
func (s *speaker) due(now time.Time) (all [][]byte) {
	for len(s.queue) > 0 && (s.hasty || now.Sub(s.asked) >= s.queue[0].after) {
		all, s.queue = append(all, s.queue[0].data), s.queue[1:]
	}
	for s.next < len(s.unasked) && now.Sub(s.begun) >= s.unasked[s.next].after {
		all, s.next = append(all, s.unasked[s.next].data), s.next+1
	}
	if s.next == len(s.unasked) && s.next > 0 && now.Sub(s.begun) >= s.period {
		s.begun, s.next = s.begun.Add(s.period), 0
		if now.Sub(s.begun) >= s.period { // the machine slept
			s.begun = now
		}
	}
	return all
}

// patience is until when nothing has to be said.
func (s *speaker) patience(now time.Time) time.Duration {
	wait := replaySilence
	if len(s.queue) > 0 {
		wait = min(wait, s.queue[0].after-now.Sub(s.asked))
	}
	if s.next < len(s.unasked) {
		wait = min(wait, s.unasked[s.next].after-now.Sub(s.begun))
	}
	return max(wait, time.Millisecond)
}

// hear takes what was written; nothing is a silence.
func (s *speaker) hear(b []byte, now time.Time) {
	silent := len(b) == 0 && now.Sub(s.heardAt) >= replaySilence
	if len(b) > 0 {
		s.heard, s.heardAt = append(s.heard, b...), now
	}
	for len(s.heard) > 0 {
		request, more := s.match()
		if more && !silent {
			return
		}
		if request == "" {
			s.heard = s.heard[1:] // it begins no request
			continue
		}
		s.heard = s.heard[len(request):]
		s.queue, s.asked = s.answers[request], now
	}
	s.heard = nil
}

// match is the longest request that what was heard begins with; more is that a longer one
// may come.
func (s *speaker) match() (request string, more bool) {
	heard := string(s.heard)
	at, _ := slices.BinarySearch(s.requests, heard)
	for ; at < len(s.requests) && !more && strings.HasPrefix(s.requests[at], heard); at++ {
		more = len(s.requests[at]) > len(heard)
	}
	for n := min(len(heard), s.longest); n > 0; n-- {
		if _, known := s.answers[heard[:n]]; known {
			return heard[:n], more
		}
	}
	return "", more
}
