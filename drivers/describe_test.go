package drivers_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestDescribed(t *testing.T) {
	o := one(&fake{})
	o.Conventions = []string{"homie", "sparkplug"}
	a := device("topic: home/a\ndiscovery: [homie]\ntogether: true", `x: {unit: "°C"}`)
	b := device("discovery: []", "y: {writable: true}")
	c := device("", "z")
	inHouse(t, o, files("a.yaml", a, "b.yaml", b, "c.yaml", c, "d.yaml", "driver: not_there\n"), func(h *house) {
		all, changed := h.host.Described()
		driver := all[0].Driver
		want := []drivers.Description{
			{Name: "a", Driver: driver, Topic: "home/a", Together: true, Discovery: []string{"homie"}},
			{Name: "b", Driver: driver, Topic: "b", Discovery: []string{}},
			{Name: "c", Driver: driver, Topic: "c"},
		}
		points := []string{"x", "y", "z"}
		for i := range all {
			if all[i].Points[0].Name != points[i] || len(all[i].Points) != 1 {
				t.Errorf("want point %s, got %v", points[i], all[i].Points)
			}
			all[i].Points = nil
		}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Errorf("want those with a driver (-want +got):\n%s", diff)
		}
		select {
		case <-changed:
			t.Error("want no change told before there is one")
		default:
		}
		h.load(files("a.yaml", a))
		<-changed
		if all, _ := h.host.Described(); len(all) != 1 {
			t.Errorf("want one left, got %v", all)
		}
		err := h.tryLoad(files("a.yaml", strings.Replace(a, "[homie]", "[homie, knx]", 1)))
		if err == nil || !strings.Contains(err.Error(), `a.yaml:3:12: "knx" is not one of homie, sparkplug`) {
			t.Errorf("want the place of the unknown convention, got %v", err)
		}
	})
}

// A device that shows topics to foreign clients tells nothing of its own: who told others
// of its points would tell of topics that nobody publishes on.
func TestDescribedLeavesOutPointsThatShowTopics(t *testing.T) {
	o := drivers.Options{Drivers: map[string]drivers.Driver{"server": drivertest.NewServer()}}
	inHouse(t, o, files("panel.yaml", "driver: server\npoints: {lamp: {topic: hall/lamp, writable: true}}\n"), func(h *house) {
		all, _ := h.host.Described()
		if len(all) != 1 || len(all[0].Points) != 0 {
			t.Errorf("want a device without points, got %+v", all)
		}
	})
}
