package message

// Action is what an interceptor does with a message.
type Action uint8

// The actions. The zero value is [Pass].
const (
	// Pass lets the message go on as it is.
	Pass Action = iota
	// Replace goes on with Verdict.Message instead. A new topic is authorized again.
	Replace
	// Drop ends the message; its publisher is told that it succeeded.
	Drop
	// Reject ends the message with Verdict.Reason (MQTT 5.0 §2.4), a code of 0x80
	// or above; a 3.1.1 publisher is acknowledged and the rejection counted.
	Reject
)

// Verdict is an interceptor's decision on one message. The zero value passes it.
type Verdict struct {
	Action  Action
	Reason  byte     // for Reject; 0 means 0x83, implementation specific error
	Message *Message // for Replace, never nil then
	By      string   // the rule that decided, for counters and the log
}
