package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// stands waits until a topic has a retained payload.
func (h *house) stands(topic, payload string) {
	h.t.Helper()
	late := time.Now().Add(20 * time.Second)
	for {
		got := h.g.broker.Retained(topic, 1)
		if len(got) == 1 && string(got[0].Payload) == payload {
			return
		}
		if time.Now().After(late) {
			h.t.Fatalf("%s is not %s: %v", topic, payload, got)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A command of a convention reaches its device while others come and go, which changes
// the subscriptions; and sessions are counted over a restart.
func TestDiscoveryWhileDevicesChange(t *testing.T) {
	h := newHouse(t, map[string]string{
		"users": "", "acl.yaml": "rules: []\n",
		"devices/hall.yaml": "driver: sim\ntopic: home/hall\ndiscovery: [homie, sparkplug]\npoints: {level: {initial: 20, writable: true}}\n",
	})
	h.stands("homie/5/gatehouse-hall/$state", "ready")
	h.stands("gatehouse/gateway/sparkplug", `{"bdSeq":0,"alive":true}`)
	heard, ready, ended := make(chan string, 1000), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- h.g.broker.Subscribe(ctx, message.Subscription{
			Name: "test", Filters: []string{"home/hall/level/set"}, Ready: func() { close(ready) },
		}, func(_ context.Context, batch []message.Message) error {
			for _, m := range batch {
				heard <- string(m.Payload)
			}
			return nil
		})
	}()
	<-ready
	attic := filepath.Join(h.dir, "devices", "attic.yaml")
	var want []string
	for i := range 40 {
		if i%2 == 0 {
			write(t, attic, "driver: sim\ndiscovery: [homeassistant, homie]\npoints: {x: {initial: 1}}\n")
		} else if err := os.Remove(attic); err != nil {
			t.Fatal(err)
		}
		next := *h.cfg
		if err := h.g.Reload(t.Context(), &next); err != nil {
			t.Fatal(err)
		}
		for j := range 5 {
			want = append(want, fmt.Sprint(10*i+j))
			m := message.Message{Topic: "homie/5/gatehouse-hall/points/level/set", Payload: []byte(want[len(want)-1]), QoS: 1, Origin: "client/test"}
			if err := h.g.broker.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.stands("home/hall/level", want[len(want)-1])
	late := time.After(20 * time.Second)
	for i := range want {
		select {
		case got := <-heard:
			if got != want[i] {
				t.Fatalf("want command %d to be %s, got %s", i, want[i], got)
			}
		case <-late:
			t.Fatalf("want %d commands, got %d", len(want), i)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.stop()
	h.start()
	h.stands("gatehouse/gateway/sparkplug", `{"bdSeq":1,"alive":true}`)
}
