package message

import "fmt"

// RefusedError is what [Bus.Publish] returns when a message of its batch was
// refused. Those before Index were accepted; those from Tried on were not tried and
// may be published again.
type RefusedError struct {
	Index int    // of the first message that was refused, from 0
	Tried int    // how many messages of the batch were tried: above Index
	Topic string // of the message that was refused
	Err   error  // why
}

// Error names the topic and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("cannot publish to %q: %v", e.Topic, e.Err)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }
