package auth_test

import (
	"errors"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/packet"
)

func TestAnonymous(t *testing.T) {
	a := auth.Anonymous()
	t.Run("lets loopback in", func(t *testing.T) {
		principal, err := a.Connect(t.Context(), broker.Identity{ClientID: "a", Loopback: true}, nil)
		if principal != "" || err != nil {
			t.Errorf("got %q, %v", principal, err)
		}
	})
	t.Run("keeps others out", func(t *testing.T) {
		_, err := a.Connect(t.Context(), broker.Identity{ClientID: "a", Username: "admin"}, []byte("admin"))
		if !errors.Is(err, packet.NotAuthorized) {
			t.Errorf("got %v", err)
		}
	})
	for _, c := range []struct {
		action broker.Action
		topic  string
		want   bool
	}{
		{broker.ActPublish, "home/door", true},
		{broker.ActPublish, "$SYSTEM", true},
		{broker.ActPublish, "$SYS", false},
		{broker.ActPublish, "$SYS/broker/uptime", false},
		{broker.ActSubscribe, "$SYS/#", true},
		{broker.ActReceive, "$SYS/broker/uptime", true},
	} {
		t.Run(c.action.String()+" "+c.topic, func(t *testing.T) {
			if err := a.Allow(t.Context(), broker.Identity{}, c.action, c.topic); (err == nil) != c.want {
				t.Errorf("got %v, allowed should be %v", err, c.want)
			}
		})
	}
}
