package broker

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// errLeft says that a client has ended an exchange by itself.
var errLeft = errors.New("the client left while it was authenticated")

// exchange authenticates a client whose CONNECT names a method (MQTT 5.0 §4.12). A
// method that is not there is refused with 0x8C ([MQTT-4.12.0-1]).
func (c *conn) exchange(ctx context.Context, p *packet.Connect, answer *packet.Connack) (principal string, err error) {
	c.method = p.Properties.AuthenticationMethod
	x, err := c.newExchange()
	if err != nil {
		return "", err
	}
	for data := p.Properties.AuthenticationData; ; {
		out, done, err := x.Step(ctx, data)
		if err != nil { // [MQTT-4.12.0-4]
			return "", err
		}
		if done { // [MQTT-4.12.0-5]
			answer.Properties.AuthenticationMethod, answer.Properties.AuthenticationData = c.method, out
			return x.Principal(), nil
		}
		c.sendAuth(packet.ContinueAuthentication, out)
		if data, err = c.readAuth(); err != nil {
			return "", err
		}
	}
}

func (c *conn) newExchange() (Exchange, error) {
	ex, ok := c.srv.authz.(Exchanger)
	if !ok {
		return nil, packet.BadAuthenticationMethod
	}
	return ex.Exchange(c.who, c.method)
}

// sendAuth sends an AUTH packet ([MQTT-4.12.0-2], [MQTT-4.12.0-5]).
func (c *conn) sendAuth(reason packet.Reason, data []byte) {
	c.batch.addTo(c, &packet.Auth{Reason: reason, AuthenticationMethod: c.method, AuthenticationData: data})
	c.batch.flush()
}

// readAuth reads the client's next AUTH packet before it is connected. It may send
// nothing else, but for a DISCONNECT ([MQTT-3.1.2-30], [MQTT-4.12.0-3]).
func (c *conn) readAuth() ([]byte, error) {
	p, err := c.readEarly(c.version)
	if err != nil {
		return nil, err
	}
	switch p := p.(type) {
	case *packet.Auth:
		if p.Reason != packet.ContinueAuthentication || p.AuthenticationMethod != c.method {
			return nil, packet.ProtocolError
		}
		return p.AuthenticationData, nil
	case *packet.Disconnect:
		return nil, errLeft
	default:
		return nil, packet.ProtocolError
	}
}

// reauthenticate takes an AUTH packet of a connected client (MQTT 5.0 §4.12.1); the
// client goes on meanwhile with the rights that it has. An error ends the connection
// ([MQTT-4.12.1-2]).
func (c *conn) reauthenticate(p *packet.Auth) (reason packet.Reason, more bool) {
	if c.method == "" || p.AuthenticationMethod != c.method { // [MQTT-4.12.0-7], [MQTT-4.12.1-1]
		return packet.ProtocolError, false
	}
	switch {
	case p.Reason == packet.ReAuthenticate && c.renewal == nil:
		x, err := c.newExchange()
		if err != nil {
			return farewellOf(err), false
		}
		c.renewal = x
	case p.Reason != packet.ContinueAuthentication || c.renewal == nil:
		return packet.ProtocolError, false
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.srv.ctx, c.srv.opts.Limits.ConnectTime)
	defer cancel()
	out, done, err := c.renewal.Step(ctx, p.AuthenticationData)
	switch {
	case err != nil:
		return farewellOf(err), false
	case !done:
		c.sendAuth(packet.ContinueAuthentication, out)
	case c.renewal.Principal() != c.who.Principal: // its session is another's
		return packet.NotAuthorized, false
	default:
		c.renewal = nil
		c.who.Since = began
		c.access = &access{who: c.who}
		c.session.access.Store(c.access)
		c.sendAuth(packet.Success, out)
	}
	return packet.Success, true
}

// farewellOf is the reason code of a DISCONNECT after an authentication that failed.
func farewellOf(err error) packet.Reason {
	if reason := reasonOf(err, packet.NotAuthorized); reason.ValidIn(packet.DISCONNECT) {
		return reason
	}
	return packet.NotAuthorized // 0x86 is for CONNACK alone
}
