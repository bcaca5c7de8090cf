package discovery_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
)

// A command that comes while a device comes or goes is not lost with the subscription.
func TestCommandsWhileDevicesChange(t *testing.T) {
	in(t, discovery.Conventions(), func(t *testing.T, h *house) {
		attic := hall()
		attic.Name, attic.Topic = "attic", "attic"
		attic.Discovery = []string{discovery.HomeAssistant} // whose filters come and go
		hall := hall()
		hall.Discovery = []string{discovery.Homie, discovery.Sparkplug}
		h.have(hall)
		h.sayHall()
		h.start()
		temperature := encodePayloads(t, `{"timestamp":1,"seq":0,"metrics":[{"name":"setpoint","type":"Double","value":22.5}]}`)
		var want []string
		for i := range 40 {
			devices := []drivers.Description{hall}
			if i%2 == 0 {
				devices = append(devices, attic)
			}
			h.mu.Lock()
			h.devices = devices
			close(h.changed)
			h.changed = make(chan struct{})
			h.mu.Unlock()
			for _, m := range []message.Message{
				{Topic: homieHall + "points/label/set", Payload: fmt.Append(nil, i), Origin: "client/host"},
				{Topic: "spBv1.0/Gatehouse/DCMD/gatehouse/hall", Payload: temperature[0], Origin: "client/host"},
			} {
				if err := h.bus.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			want = append(want, fmt.Sprintf(`home/hall/label/set "%d"`, i), "home/hall/setpoint/set 22.5")
			synctest.Wait()
		}
		h.pass(2 * time.Second)
		var got []string
		for _, m := range h.bus.Messages("home/hall/+/set") {
			got = append(got, m.Topic+" "+string(m.Payload))
		}
		if !slices.Equal(got, want) {
			t.Errorf("want all %d commands in order, got %d: %q", len(want), len(got), got)
		}
	})
}

// A command that comes while a device is described otherwise, and has not been announced
// anew yet, goes where the device hears it now.
func TestCommandsOfADeviceThatMoves(t *testing.T) {
	in(t, []string{discovery.Homie, discovery.Sparkplug}, func(t *testing.T, h *house) {
		h.have(hall())
		h.sayHall()
		h.start()
		temperature := encodePayloads(t, `{"timestamp":1,"seq":0,"metrics":[{"name":"setpoint","type":"Double","value":22.5}]}`)
		moved := hall()
		moved.Topic, moved.Together = "upstairs/hall", true
		h.mu.Lock()
		h.devices = []drivers.Description{moved}
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
		synctest.Wait()
		h.order(homieHall+"points/label/set", "x")
		h.order("spBv1.0/Gatehouse/DCMD/gatehouse/hall", string(temperature[0]))
		if got := h.bus.Payloads("upstairs/hall/set"); !slices.Equal(got, []string{`{"label":"x"}`, `{"setpoint":22.5}`}) {
			t.Errorf("want two commands where the device is now, got %q", got)
		}
		if got := h.bus.Messages("home/hall/+/set"); len(got) > 0 {
			t.Errorf("want none where it was, got %v", got)
		}
	})
}

// lateBus delivers what is retained only after a while, as a broker that is busy.
type lateBus struct{ message.Bus }

func (b lateBus) Subscribe(ctx context.Context, s message.Subscription, h message.Handler) error {
	late := time.Now().Add(10 * time.Second)
	return b.Bus.Subscribe(ctx, s, func(ctx context.Context, batch []message.Message) error {
		if d := time.Until(late); d > 0 && s.Name == discovery.SubscriptionName {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		}
		return h(ctx, batch)
	})
}

// What an earlier run has left is known before anything is announced, however slow the
// subscription is.
func TestWhatStandsIsKnownInTime(t *testing.T) {
	in(t, discovery.Conventions(), func(t *testing.T, h *house) {
		h.have(pump())
		h.sayPump()
		h.start()
		h.stop()
		h.late = true
		h.start()
		h.pass(time.Minute)
		h.stop()
		deaths := h.bus.Retained("gatehouse/gateway/sparkplug")
		if !strings.Contains(deaths, `"bdSeq":2`) {
			t.Errorf("want the third session to be number 2, got %s", deaths)
		}
		if n := len(h.bus.Messages("homie/5/gatehouse-pump/$description")); n != 1 {
			t.Errorf("want the description of what is as it was once, got %d", n)
		}
		if n := len(h.bus.Messages("homeassistant/device/gatehouse_pump/config")); n != 1 {
			t.Errorf("want the configuration that stands once, got %d", n)
		}
	})
}
