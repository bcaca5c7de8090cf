package modbus

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// errIdle says that nothing came for as long as a client may say nothing.
var errIdle = errors.New("nothing came")

// lineServer answers the requests on a line, as a unit does.
type lineServer struct {
	port    Port
	mode    mode
	silence time.Duration
	hunt    time.Duration // as of lineLink
	idle    time.Duration // how long nothing may come; 0 is for ever
	char    time.Duration // 0 for a stream, which has no echo
	lead    time.Duration // from a Write to its first character on the line
	echoes  bool          // the line repeats what is sent: found out, if it is not said
	answer  answerer

	heard []byte
	sent  []byte    // the last answer, while its echo may come
	over  time.Time // when that has gone over the line
}

// run answers until ctx ends or the port is lost.
func (l *lineServer) run(ctx context.Context) error {
	const longest = 2 * (2*maxPDU + 7)
	l.heard = make([]byte, 0, longest)
	last := time.Now()
	for ctx.Err() == nil {
		if len(l.heard) == cap(l.heard) {
			l.heard = l.heard[:0] // noise
		}
		wait := readSlice
		if len(l.heard) > 0 {
			wait = l.silence
		}
		if err := l.port.SetReadTimeout(wait); err != nil {
			return err
		}
		n, err := l.port.Read(l.heard[len(l.heard):cap(l.heard)])
		if err != nil {
			return err
		}
		now := time.Now()
		if n > 0 {
			l.heard, last = l.heard[:len(l.heard)+n], now
			l.skipEcho(now)
			continue
		}
		if l.idle > 0 && now.Sub(last) > l.idle {
			return errIdle
		}
		if len(l.heard) == 0 {
			continue
		}
		// Silence: what is a frame is complete, unless an adapter paused in it.
		unit, pdu := l.request()
		if pdu == nil {
			if now.Sub(last) > l.hunt {
				l.heard = l.heard[:0]
			}
			continue
		}
		l.heard = l.heard[:0]
		if err := l.reply(unit, pdu); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// request is the last frame of what was heard, if what was heard ends with one: what
// goes before are frames of others, or noise.
func (l *lineServer) request() (unit uint8, pdu []byte) {
	heard := l.heard
	if _, ascii := l.mode.(asciiMode); ascii {
		start := bytes.LastIndexByte(heard, ':')
		if start < 0 {
			return 0, nil
		}
		adu, n, ok := cutASCII(heard[start:])
		if !ok || n != len(heard)-start {
			return 0, nil
		}
		return adu[0], bytes.Clone(adu[1:])
	}
	for len(heard) > 0 {
		n := frameLen(heard)
		if n == 0 && sealed(heard, len(heard)) && len(heard) <= maxRTUFrame {
			n = len(heard)
		}
		if n == 0 {
			return 0, nil
		}
		if n == len(heard) {
			return heard[0], bytes.Clone(heard[1 : n-2])
		}
		heard = heard[n:]
	}
	return 0, nil
}

// reply answers a request, but not one to all.
func (l *lineServer) reply(unit uint8, pdu []byte) error {
	if pdu[0]&exceptionBit != 0 { // no request
		return nil
	}
	answer := l.answer(nil, unit, pdu)
	if len(answer) == 0 || unit == broadcast {
		return nil
	}
	l.sent = l.mode.append(l.sent[:0], unit, answer)
	l.over = time.Now().Add(l.lead + time.Duration(len(l.sent))*l.char)
	_, err := l.port.Write(l.sent)
	if now := time.Now(); now.After(l.over) { // a port that switches its sender waits for the line
		l.over = now
	}
	return err
}

// skipEcho forgets what was heard if it is the last answer, repeated by the line. Nobody
// else may speak before the answer has gone over the line and silence has followed; on
// a line that is known to repeat the echo may come later.
func (l *lineServer) skipEcho(now time.Time) {
	if len(l.sent) == 0 || l.char == 0 {
		return
	}
	inTime := !now.After(l.over.Add(l.silence)) || l.echoes
	n := len(l.sent)
	switch {
	case inTime && len(l.heard) < n && bytes.HasPrefix(l.sent, l.heard):
	case inTime && bytes.HasPrefix(l.heard, l.sent):
		l.echoes = true
		l.heard = l.heard[:copy(l.heard, l.heard[n:])]
		l.sent = l.sent[:0]
	default:
		l.sent = l.sent[:0]
	}
}
