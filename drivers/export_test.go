package drivers

import (
	"context"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Taker returns what a device's readings go through: noted, judged, published.
func Taker(bus message.Bus, points []Point) (func(context.Context, []Reading), error) {
	h, err := NewHost(Options{})
	if err != nil {
		return nil, err
	}
	e := &entry{name: "d", topic: "d", points: points, cfg: Config{File: "d.yaml"}}
	if err := e.claim(); err != nil {
		return nil, err
	}
	s := newSlot(h, bus, "d")
	s.begin(e)
	return func(ctx context.Context, r []Reading) { s.take(ctx, e, r, origin{}) }, nil
}

// ParseObject is how the payload of a command for several points is read.
func ParseObject(payload []byte) (points []string, err error) {
	writes, err := parseObject(payload)
	for _, w := range writes {
		points = append(points, w.point)
	}
	return points, err
}

// Poller returns one poll of all points of a device.
func Poller(bus message.Bus, points []Point, together bool, dev Device) (func(context.Context) error, error) {
	h, err := NewHost(Options{})
	if err != nil {
		return nil, err
	}
	e := &entry{name: "d", topic: "d", points: points, together: together, cfg: Config{File: "d.yaml"}}
	if err := e.claim(); err != nil {
		return nil, err
	}
	s := newSlot(h, bus, "d")
	s.begin(e)
	x := &session{slot: s, entry: e, dev: dev, schedule: newSchedule(e.points, time.Now())}
	return func(ctx context.Context) error {
		x.schedule.restart(time.Now())
		return x.poll(ctx)
	}, nil
}
