package codec

import (
	"context"
	"errors"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// Bounds of what an error may carry.
const (
	maxMessage = 16 << 10 // bytes; the rest is cut off
	maxPlaces  = 64
)

// ErrorTo makes a message of err: its text, and of its causes those that a caller
// may act on (drivers.ErrLost, drivers.ErrConfig, drivers.ErrUncertain, each
// *drivers.ConfigError, and the errors of a context). nil stays nil.
func ErrorTo(err error) *wire.Error {
	if err == nil {
		return nil
	}
	m := &wire.Error{
		Message:  clean(err.Error()),
		Lost:     errors.Is(err, drivers.ErrLost),
		Config:   errors.Is(err, drivers.ErrConfig),
		Deadline: errors.Is(err, context.DeadlineExceeded),
		Canceled: errors.Is(err, context.Canceled),

		Uncertain: errors.Is(err, drivers.ErrUncertain),
	}
	m.Places = appendPlaces(nil, err)
	return m
}

// appendPlaces walks the tree of err, since errors.As finds the first place only.
func appendPlaces(places []*wire.ConfigError, err error) []*wire.ConfigError {
	if len(places) == maxPlaces {
		return places
	}
	//nolint:errorlint // this is the walk itself
	switch e := err.(type) {
	case *drivers.ConfigError:
		if e == nil {
			return places
		}
		return append(places, &wire.ConfigError{
			File:    clean(e.File),
			Line:    int32(e.Line),
			Column:  int32(e.Column),
			Msg:     clean(e.Msg),
			Snippet: clean(e.Snippet),
		})
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			places = appendPlaces(places, cause)
		}
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			return appendPlaces(places, cause)
		}
	}
	return places
}

// ErrorFrom reads an error. One that was a *drivers.ConfigError and nothing more is
// one again; any other has the same text and answers errors.Is and errors.As for
// the causes that were carried. nil stays nil.
func ErrorFrom(m *wire.Error) error {
	if m == nil {
		return nil
	}
	e := &remoteError{msg: m.GetMessage()}
	for _, p := range m.GetPlaces() {
		place := &drivers.ConfigError{
			File:    p.GetFile(),
			Line:    int(p.GetLine()),
			Column:  int(p.GetColumn()),
			Msg:     p.GetMsg(),
			Snippet: p.GetSnippet(),
		}
		if len(m.GetPlaces()) == 1 && place.Error() == e.msg {
			return place
		}
		e.causes = append(e.causes, place)
	}
	for _, c := range []struct {
		is    bool
		cause error
	}{
		{m.GetLost(), drivers.ErrLost},
		{m.GetConfig() && len(e.causes) == 0, drivers.ErrConfig},
		{m.GetDeadline(), context.DeadlineExceeded},
		{m.GetCanceled(), context.Canceled},
		{m.GetUncertain(), drivers.ErrUncertain},
	} {
		if c.is {
			e.causes = append(e.causes, c.cause)
		}
	}
	return e
}

// remoteError is an error that happened in a plugin.
type remoteError struct {
	msg    string
	causes []error
}

func (e *remoteError) Error() string   { return e.msg }
func (e *remoteError) Unwrap() []error { return e.causes }

// clean makes text fit to be sent: UTF-8, of a bounded length.
func clean(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
