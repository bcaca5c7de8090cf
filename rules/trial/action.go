package trial

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// action is what a step does. A *mismatch says that the rules do not do what the test
// says; any other error that the test could not go on.
type action interface {
	run(ctx context.Context, w *World) error
}

// mismatch is what came instead of what was expected.
type mismatch struct{ text string }

func (m *mismatch) Error() string { return m.text }

func mismatchf(format string, args ...any) error {
	return &mismatch{fmt.Sprintf(format, args...)}
}

// publish publishes as a client.
type publish struct {
	msg     message.Message
	becomes *message.Action // what filters make of it; nil does not matter
	reason  int             // -1 does not matter
}

func (p *publish) run(ctx context.Context, w *World) error {
	v, err := w.Publish(ctx, p.msg)
	if err != nil {
		return err
	}
	if p.becomes != nil && *p.becomes != v.Action {
		return mismatchf("the message is %s, not %s", became(v), became(message.Verdict{Action: *p.becomes}))
	}
	if got := reasonOf(v); p.reason >= 0 && p.reason != got {
		return mismatchf("the message is rejected with the reason 0x%02x, not 0x%02x", got, p.reason)
	}
	return nil
}

// reasonOf is the reason code of a rejection.
func reasonOf(v message.Verdict) int {
	const standard = 0x83 // see message.Verdict
	if v.Reason == 0 {
		return standard
	}
	return int(v.Reason)
}

// became says what a verdict makes of a message, and who says so.
func became(v message.Verdict) string {
	for word, action := range becomes {
		if action == v.Action {
			if v.By != "" {
				word += " by " + v.By
			}
			return word
		}
	}
	return fmt.Sprintf("judged %d", v.Action)
}

// expect wants messages that nobody has seen yet.
type expect struct {
	filter      string
	count       int
	payloads    []any // nil if they do not matter
	part        bool  // objects may have more keys
	qos         int   // -1 does not matter
	retain      bool
	retainGiven bool
	origin      string // "" does not matter
	properties  []property
}

func (e *expect) run(_ context.Context, w *World) error {
	msgs, take := w.Unseen(e.filter)
	if len(msgs) != e.count {
		return mismatchf("%s on %s came, not %d%s%s", messages(len(msgs)), e.filter, e.count, e.wanted(), came(w, msgs))
	}
	for i := range msgs {
		if why := e.differs(&msgs[i], i); why != "" {
			return mismatchf("%s%s%s", why, e.wanted(), came(w, msgs))
		}
	}
	take(len(msgs))
	return nil
}

// differs says what is not as it should be with the ith message.
func (e *expect) differs(m *message.Message, i int) string {
	switch {
	case e.payloads != nil && !equalPayload(m.Payload, e.payloads[i], e.part):
		return fmt.Sprintf("the payload on %s is another one", m.Topic)
	case e.qos >= 0 && int(m.QoS) != e.qos:
		return fmt.Sprintf("the message on %s has QoS %d, not %d", m.Topic, m.QoS, e.qos)
	case e.retainGiven && m.Retain != e.retain:
		return fmt.Sprintf("the message on %s has retain %v, not %v", m.Topic, m.Retain, e.retain)
	case e.origin != "" && m.Origin != e.origin:
		return fmt.Sprintf("the message on %s is from %q, not %q", m.Topic, m.Origin, e.origin)
	}
	for i := range e.properties {
		if why := e.properties[i].differs(m); why != "" {
			return why
		}
	}
	return ""
}

// wanted says what payloads were expected, a line each.
func (e *expect) wanted() string {
	var b strings.Builder
	for _, p := range e.payloads {
		what := "want"
		if e.part {
			what = "want, among others"
		}
		fmt.Fprintf(&b, "\n%s: %s", what, abridged(string(encode(p))))
	}
	return b.String()
}

// came says what came, a line each: of what is looked for or, if that is nothing, what
// else nobody has seen yet.
func came(w *World, msgs []message.Message) string {
	const most = 10
	head := "got"
	if len(msgs) == 0 {
		head = "came elsewhere"
		msgs, _ = w.Unseen("#")
	}
	var b strings.Builder
	for i := range msgs {
		if i == most {
			fmt.Fprintf(&b, "\n... and %d more", len(msgs)-most)
			break
		}
		m := &msgs[i]
		fmt.Fprintf(&b, "\n%s: %s %s %s", head, m.At.Format("15:04:05.000"), m.Topic, abridged(string(m.Payload)))
	}
	return b.String()
}

func messages(n int) string {
	switch n {
	case 0:
		return "no message"
	case 1:
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// abridged keeps what a failure shows short.
func abridged(text string) string {
	const longest = 1000
	text = strings.ToValidUTF8(text, "\uFFFD")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return text
}

// expectNone wants that there is no message that nobody has seen yet.
type expectNone struct{ filter string }

func (e *expectNone) run(_ context.Context, w *World) error {
	if msgs, _ := w.Unseen(e.filter); len(msgs) > 0 {
		return mismatchf("%s on %s came%s", messages(len(msgs)), e.filter, came(w, msgs))
	}
	return nil
}

// advance lets time go by.
type advance struct{ by time.Duration }

func (a *advance) run(ctx context.Context, w *World) error { return w.Advance(ctx, a.by) }

// setClock sets the wall clock.
type setClock struct{ to time.Time }

func (a *setClock) run(ctx context.Context, w *World) error { return w.Set(ctx, a.to) }

// restart cuts the power.
type restart struct {
	down  time.Duration
	clock time.Time // what the wall clock says then; zero is what it should
}

func (a *restart) run(ctx context.Context, w *World) error {
	return w.Restart(ctx, a.down, a.clock)
}

// hook calls a webhook.
type hook struct {
	name string
	msg  message.Message
}

func (a *hook) run(ctx context.Context, w *World) error { return w.Hook(ctx, a.name, a.msg) }

// reply says what requests get.
type reply struct{ answer }

func (a *reply) run(_ context.Context, w *World) error {
	answer := a.answer
	w.web.answer(&answer)
	return nil
}

// expectRequest wants requests that nobody has seen yet.
type expectRequest struct {
	url, method string // "" does not matter
	count       int
	body        any
	bodyGiven   bool
}

func (e *expectRequest) run(_ context.Context, w *World) error {
	got := w.web.unseen(e.url)
	text := ""
	for i := range got {
		text += "\ngot: " + got[i].String()
	}
	if len(got) != e.count {
		return mismatchf("%d requests were made, not %d%s", len(got), e.count, text)
	}
	for i := range got {
		switch {
		case e.method != "" && got[i].method != e.method:
			return mismatchf("the method is %s, not %s%s", got[i].method, e.method, text)
		case e.bodyGiven && !equalPayload(got[i].body, e.body, false):
			return mismatchf("the body is another one\nwant: %s%s", abridged(string(encode(e.body))), text)
		}
	}
	return nil
}
