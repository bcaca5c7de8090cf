package drivers

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// ConfirmWithin is how long the token of a command stands that has to be confirmed.
const ConfirmWithin = 30 * time.Second

// maxUnconfirmed is how many commands of a device wait for their confirmation; the
// oldest goes first.
const maxUnconfirmed = 16

// confirmKey is the user property, and the member of the payload, that carries a token.
const confirmKey = "confirm"

// unconfirmed is a command that was asked back.
type unconfirmed struct {
	token  string
	origin string // who may confirm it
	what   string // its topic and values
	until  time.Time
}

// confirmations are the commands of one session that were asked back.
type confirmations []unconfirmed

// ask gives a command a token.
func (c *confirmations) ask(m *message.Message, writes []pointWrite, now time.Time) unconfirmed {
	u := unconfirmed{token: rand.Text(), origin: m.Origin, what: what(m, writes), until: now.Add(ConfirmWithin)}
	if len(*c) == maxUnconfirmed {
		*c = slices.Delete(*c, 0, 1)
	}
	*c = append(*c, u)
	return u
}

// take uses a token up. It must come with the command that it was given to, from who
// had sent that.
func (c *confirmations) take(token string, m *message.Message, writes []pointWrite, now time.Time) error {
	i := slices.IndexFunc(*c, func(u unconfirmed) bool { return u.token == token && u.origin == m.Origin })
	if i < 0 || !now.Before((*c)[i].until) {
		return errors.New("the confirmation is not known, or has expired: send the command without one to get another")
	}
	u := (*c)[i]
	*c = slices.Delete(*c, i, i+1)
	if u.what != what(m, writes) {
		return errors.New("the confirmation was given to another command: send this one without one to get another")
	}
	return nil
}

func what(m *message.Message, writes []pointWrite) string {
	b := []byte(m.Topic)
	for _, w := range writes {
		b = w.value.AppendJSON(append(append(b, '\n'), w.point+"="...))
	}
	return string(b)
}

// confirmed says whether a command may be written as far as confirmation goes. If it
// is to be asked back, the result to answer with is not empty.
func (x *session) confirmed(m *message.Message, writes []pointWrite, token string) (back result, err error) {
	i := slices.IndexFunc(writes, func(w pointWrite) bool { return x.entry.points[x.entry.index[w.point]].Confirm })
	if i < 0 {
		return result{}, nil
	}
	now := time.Now()
	if token != "" {
		return result{}, x.unconfirmed.take(token, m, writes, now)
	}
	u := x.unconfirmed.ask(m, writes, now)
	return result{
		err:     fmt.Sprintf("point %q needs a confirmation: send the command again with the token, within %v", writes[i].point, ConfirmWithin),
		confirm: u.token, expires: u.until,
	}, nil
}

// tokenOf is the token that a message carries as a user property; empty is none.
func tokenOf(m *message.Message) string {
	for _, p := range m.UserProperties {
		if p.Key == confirmKey {
			return p.Value
		}
	}
	return ""
}

// unwrap takes a payload {"value":...,"confirm":"TOKEN"} apart; any other stays.
func unwrap(payload []byte) (value []byte, token string) {
	var object map[string]json.RawMessage
	if !bytes.HasPrefix(bytes.TrimSpace(payload), []byte("{")) || json.Unmarshal(payload, &object) != nil || len(object) != 2 {
		return payload, ""
	}
	raw := object["value"]
	if raw == nil || json.Unmarshal(object[confirmKey], &token) != nil || token == "" {
		return payload, ""
	}
	return raw, token
}
