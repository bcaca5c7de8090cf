package message

import "fmt"

// RefusedError is what [Bus.Publish] returns when a message of its batch was
// refused: those before Index were accepted, those after it were not tried.
type RefusedError struct {
	Index int    // of the message in the batch, from 0
	Topic string // its topic
	Err   error  // why
}

// Error names the topic and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("cannot publish to %q: %v", e.Topic, e.Err)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }
