package broker

import (
	"encoding/json"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// Events hears of MQTT clients that come, go and subscribe. Its methods are called
// by many goroutines at once, with no lock held, each by that of the connection,
// which waits for it: they must not block for long. Of one connection they come in
// order.
type Events interface {
	// Connected is called when a client is connected.
	Connected(ClientEvent)
	// Disconnected is called when its connection has ended, before another of the
	// same client identifier is connected.
	Disconnected(ClientEvent)
	// Subscribed is called with the filters of a SUBSCRIBE that were granted.
	Subscribed(ClientEvent)
	// Unsubscribed is called with the filters of an UNSUBSCRIBE that were removed.
	Unsubscribed(ClientEvent)
}

// ClientEvent is what happened to one client. As JSON it is published on
// $SYS/broker/clients/ID/connected, /disconnected, /subscribed and /unsubscribed if
// [Options].ClientEvents is set, not retained; in the topic's ID what may not stand
// in a level of a topic name is written as "%" and two digits.
type ClientEvent struct {
	At        time.Time `json:"at"`
	ClientID  string    `json:"client_id"`
	Username  string    `json:"username,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Listener  string    `json:"listener,omitempty"`
	Remote    string    `json:"remote,omitempty"`  // its address
	Version   string    `json:"version,omitempty"` // of MQTT: 3.1, 3.1.1 or 5.0
	// Connected only.
	KeepAlive      int  `json:"keep_alive,omitempty"` // seconds
	SessionPresent bool `json:"session_present,omitempty"`
	// Disconnected only.
	Reason string `json:"reason,omitempty"` // see conn.parting
	Code   uint8  `json:"code,omitempty"`   // what the client was told, or told us
	// Subscribed and Unsubscribed only.
	Filters []ClientFilter `json:"filters,omitempty"`
}

// ClientFilter is one topic filter of an event.
type ClientFilter struct {
	Filter string `json:"filter"`
	QoS    uint8  `json:"qos"` // granted
}

// eventful reports whether anyone hears of events.
func (srv *Server) eventful() bool { return srv.opts.Events != nil || srv.opts.ClientEvents }

func (c *conn) event() ClientEvent {
	e := ClientEvent{
		At: time.Now(), ClientID: c.who.ClientID, Username: c.who.Username, Principal: c.who.Principal,
		Listener: c.who.Listener, Version: c.version.String(),
	}
	if c.who.Remote != nil {
		e.Remote = c.who.Remote.String()
	}
	return e
}

// connected tells of a client that has come.
func (srv *Server) connected(c *conn, present bool) {
	if !srv.eventful() {
		return
	}
	e := c.event()
	e.KeepAlive, e.SessionPresent = int(c.keepAlive/time.Second), present
	if srv.opts.Events != nil {
		srv.opts.Events.Connected(e)
	}
	srv.tell("connected", &e)
}

// parted tells of one that has gone.
func (srv *Server) parted(c *conn) {
	if !srv.eventful() {
		return
	}
	e := c.event()
	e.Reason, e.Code = c.parting()
	if srv.opts.Events != nil {
		srv.opts.Events.Disconnected(e)
	}
	srv.tell("disconnected", &e)
}

// parting says why a connection has ended: a reason code that one side gave, or
// that the socket was closed without one.
func (c *conn) parting() (reason string, code uint8) {
	switch cause := c.why(); {
	case cause != packet.Success:
		return cause.String(), uint8(cause)
	case c.farewell:
		return "Normal disconnection", 0
	case c.parted.Failed() || c.parted == packet.DisconnectWithWill:
		return c.parted.String(), uint8(c.parted)
	default:
		return "connection lost", 0
	}
}

// subscribed tells of the filters that were granted.
func (srv *Server) subscribed(c *conn, p *packet.Subscribe, answer *packet.Suback) {
	if !srv.eventful() {
		return
	}
	e := c.event()
	for i, r := range answer.Reasons {
		if !r.Failed() {
			e.Filters = append(e.Filters, ClientFilter{Filter: p.Filters[i].Filter, QoS: uint8(r)})
		}
	}
	if len(e.Filters) == 0 {
		return
	}
	if srv.opts.Events != nil {
		srv.opts.Events.Subscribed(e)
	}
	srv.tell("subscribed", &e)
}

// unsubscribed tells of the filters that were removed.
func (srv *Server) unsubscribed(c *conn, p *packet.Unsubscribe, answer *packet.Unsuback) {
	if !srv.eventful() {
		return
	}
	e := c.event()
	for i, r := range answer.Reasons {
		if r == packet.Success {
			e.Filters = append(e.Filters, ClientFilter{Filter: p.Filters[i]})
		}
	}
	if len(e.Filters) == 0 {
		return
	}
	if srv.opts.Events != nil {
		srv.opts.Events.Unsubscribed(e)
	}
	srv.tell("unsubscribed", &e)
}

// tell publishes an event.
func (srv *Server) tell(what string, e *ClientEvent) {
	if !srv.opts.ClientEvents {
		return
	}
	text, err := json.Marshal(e)
	if err != nil {
		srv.log.Warn("event cannot be written", "event", what, "client", e.ClientID, "err", err)
		return
	}
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	name := "$SYS/broker/clients/" + topicLevel(e.ClientID) + "/" + what
	b.add(pub{msg: message.Message{Topic: name, Payload: text, At: b.now}, private: true})
	b.run()
}
