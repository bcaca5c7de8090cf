package auth

import (
	"context"
	"strings"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// Anonymous lets everyone in who comes from this machine, by a loopback address or
// a Unix socket, without asking who it is, and nobody else: they are told 0x87, not
// authorized. Who is in may publish everything but what is below $SYS, and
// subscribe to everything.
func Anonymous() broker.Authorizer { return anonymous{} }

type anonymous struct{}

// Connect implements [broker.Authorizer].
func (anonymous) Connect(_ context.Context, who broker.Identity, _ []byte) (string, error) {
	if !who.Loopback {
		return "", packet.NotAuthorized
	}
	return "", nil
}

// Allow implements [broker.Authorizer].
func (anonymous) Allow(_ context.Context, _ broker.Identity, action broker.Action, topic string) error {
	if action == broker.ActPublish && isSystem(topic) {
		return packet.NotAuthorized
	}
	return nil
}

func isSystem(topic string) bool { return topic == "$SYS" || strings.HasPrefix(topic, "$SYS/") }

// AllowsAll spares the broker the questions whose answer is always yes; publishing
// below $SYS the broker refuses itself.
func (anonymous) AllowsAll(broker.Identity, broker.Action) bool { return true }
