package brokertest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// split cuts a line into words; a word that begins with a quote is a Go string.
func split(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if line[0] != '"' && line[0] != '`' {
			end := strings.IndexAny(line, " \t")
			if end < 0 {
				end = len(line)
			}
			words, line = append(words, line[:end]), line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", line, err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), line[len(quoted):]
	}
}

// reader takes words apart into positions, flags and key=value pairs, and
// remembers what was not asked for.
type reader struct {
	words   []string
	version packet.Version // of a CONNECT that does not say
	err     error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// next is the next positional word.
func (r *reader) next() string {
	if len(r.words) == 0 {
		r.fail("a word is missing")
		return ""
	}
	w := r.words[0]
	r.words = r.words[1:]
	return w
}

func (r *reader) flag(name string) bool {
	for i, w := range r.words {
		if w == name {
			r.words = append(r.words[:i:i], r.words[i+1:]...)
			return true
		}
	}
	return false
}

func (r *reader) text(key string) (string, bool) {
	for i, w := range r.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			r.words = append(r.words[:i:i], r.words[i+1:]...)
			return v, true
		}
	}
	return "", false
}

func (r *reader) number(key string, bits int) (uint64, bool) {
	v, ok := r.text(key)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 0, bits)
	if err != nil {
		r.fail("%s=%s: %w", key, v, err)
	}
	return n, true
}

func (r *reader) positional(bits int) uint64 {
	w := r.next()
	n, err := strconv.ParseUint(w, 0, bits)
	if err != nil {
		r.fail("%q: %w", w, err)
	}
	return n
}

func (r *reader) qos() message.QoS {
	for q, name := range []string{"q0", "q1", "q2"} {
		if r.flag(name) {
			return message.QoS(q)
		}
	}
	return 0
}

// done complains about words that nobody asked for.
func (r *reader) done() error {
	if r.err == nil && len(r.words) > 0 {
		return fmt.Errorf("cannot make sense of %q", r.words)
	}
	return r.err
}

// parse makes the packet that a line says is sent; version is that of a CONNECT
// that does not say.
func parse(words []string, version packet.Version) (packet.Packet, error) {
	r := &reader{words: words, version: version}
	var p packet.Packet
	switch kind := r.next(); kind {
	case "connect":
		p = r.connect()
	case "pub":
		p = r.publish()
	case "puback", "pubrec", "pubrel", "pubcomp":
		p = r.ack(kind)
	case "sub":
		p = r.subscribe()
	case "unsub":
		u := &packet.Unsubscribe{ID: uint16(r.positional(16)), Filters: r.words}
		r.words, p = nil, u
	case "ping":
		p = &packet.Pingreq{}
	case "disconnect":
		p = r.disconnect()
	case "auth":
		p = r.auth()
	case "connack":
		p = &packet.Connack{}
	default:
		return nil, fmt.Errorf("cannot send %q", kind)
	}
	return p, r.done()
}

func (r *reader) connect() *packet.Connect {
	p := &packet.Connect{Version: r.version, Clean: r.flag("clean")}
	for name, version := range versionNames {
		if r.flag(name) {
			p.Version = version
		}
	}
	p.ClientID, _ = r.text("id")
	p.Username, p.HasUsername = r.text("user")
	pass, has := r.text("pass")
	p.Password, p.HasPassword = []byte(pass), has
	ka, _ := r.number("keep-alive", 16)
	p.KeepAlive = uint16(ka)
	expiry, _ := r.number("expiry", 32)
	p.Properties.SessionExpiryInterval = uint32(expiry)
	rm, _ := r.number("receive-max", 16)
	p.Properties.ReceiveMaximum = uint16(rm)
	mp, _ := r.number("max-packet", 32)
	p.Properties.MaximumPacketSize = uint32(mp)
	am, _ := r.number("alias-max", 16)
	p.Properties.TopicAliasMaximum = uint16(am)
	p.Properties.RequestResponseInfo = r.flag("wants-response-info")
	p.Properties.NoProblemInfo = r.flag("no-problem-info")
	p.Properties.AuthenticationMethod, p.Properties.AuthenticationData = r.method()
	p.Properties.UserProperties = r.users("property") // user is the user name
	p.Will = r.will()
	return p
}

// method reads "[method=NAME [data=TEXT]]" of enhanced authentication.
func (r *reader) method() (name string, data []byte) {
	name, _ = r.text("method")
	if text, ok := r.text("data"); ok {
		data = []byte(text)
	}
	return name, data
}

// auth reads "auth [REASON] method=NAME [data=TEXT]"; the reason is 0x19 if it is left
// out.
func (r *reader) auth() *packet.Auth {
	a := &packet.Auth{Reason: packet.ReAuthenticate}
	a.AuthenticationMethod, a.AuthenticationData = r.method()
	if len(r.words) > 0 {
		a.Reason = packet.Reason(r.positional(8))
	}
	return a
}

func (r *reader) will() *packet.Will {
	topic, ok := r.text("will")
	if !ok {
		return nil
	}
	w := &packet.Will{Topic: topic, Retain: r.flag("will-retain")}
	payload, _ := r.text("will-payload")
	w.Payload = []byte(payload)
	q, _ := r.number("will-qos", 8)
	w.QoS = message.QoS(q)
	delay, _ := r.number("will-delay", 32)
	w.Properties.DelayInterval = uint32(delay)
	if expiry, ok := r.number("will-expiry", 32); ok {
		e := uint32(expiry)
		w.Properties.MessageExpiryInterval = &e
	}
	w.Properties.UTF8 = r.flag("will-utf8")
	w.Properties.ContentType, _ = r.text("will-type")
	w.Properties.ResponseTopic, _ = r.text("will-response")
	w.Properties.UserProperties = r.users("will-user")
	return w
}

// users are all properties of a key, "key=NAME:VALUE", in order.
func (r *reader) users(key string) []message.Property {
	var all []message.Property
	for {
		user, ok := r.text(key)
		if !ok {
			return all
		}
		name, value, _ := strings.Cut(user, ":")
		all = append(all, message.Property{Key: name, Value: value})
	}
}

func (r *reader) publish() *packet.Publish {
	p := &packet.Publish{Topic: r.next(), Payload: []byte(r.next())}
	p.QoS, p.Dup, p.Retain = r.qos(), r.flag("dup"), r.flag("retain")
	id, _ := r.number("id", 16)
	p.ID = uint16(id)
	props := &p.Properties
	props.UTF8 = r.flag("utf8")
	if expiry, ok := r.number("expiry", 32); ok {
		e := uint32(expiry)
		props.MessageExpiryInterval = &e
	}
	alias, _ := r.number("alias", 16)
	props.TopicAlias = uint16(alias)
	if id, ok := r.number("sub", 32); ok {
		props.SubscriptionIDs = []uint32{uint32(id)}
	}
	props.ResponseTopic, _ = r.text("response")
	props.ContentType, _ = r.text("type")
	if data, ok := r.text("correlation"); ok {
		props.CorrelationData = []byte(data)
	}
	props.UserProperties = r.users("user")
	return p
}

func (r *reader) ack(kind string) *packet.Ack {
	kinds := map[string]packet.Type{
		"puback": packet.PUBACK, "pubrec": packet.PUBREC, "pubrel": packet.PUBREL, "pubcomp": packet.PUBCOMP,
	}
	a := &packet.Ack{Kind: kinds[kind], ID: uint16(r.positional(16))}
	if len(r.words) > 0 {
		a.Reason = packet.Reason(r.positional(8))
	}
	return a
}

// subscribe reads "sub ID [id=N] [user=NAME:VALUE] FILTER[:q1][:nl][:rap][:rh1] ...".
func (r *reader) subscribe() *packet.Subscribe {
	p := &packet.Subscribe{ID: uint16(r.positional(16))}
	id, _ := r.number("id", 32)
	p.SubscriptionID = uint32(id)
	p.UserProperties = r.users("user")
	for _, w := range r.words {
		parts := strings.Split(w, ":")
		f := packet.Filter{Filter: parts[0]}
		for _, option := range parts[1:] {
			switch option {
			case "q0", "q1", "q2":
				f.Options.QoS = message.QoS(option[1] - '0')
			case "nl":
				f.Options.NoLocal = true
			case "rap":
				f.Options.RetainAsPublished = true
			case "rh0", "rh1", "rh2":
				f.Options.RetainHandling = packet.RetainHandling(option[2] - '0')
			default:
				r.fail("no such option: %q", option)
			}
		}
		p.Filters = append(p.Filters, f)
	}
	r.words = nil
	return p
}

func (r *reader) disconnect() *packet.Disconnect {
	d := &packet.Disconnect{}
	if expiry, ok := r.number("expiry", 32); ok {
		e := uint32(expiry)
		d.SessionExpiryInterval = &e
	}
	if len(r.words) > 0 {
		d.Reason = packet.Reason(r.positional(8))
	}
	return d
}
