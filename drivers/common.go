package drivers

import "time"

// Common are the keys of a device file that the [Host] reads. Every driver's own
// struct embeds it inline, so that a strict decode knows them.
type Common struct {
	// Driver names the driver: "modbus".
	Driver string `yaml:"driver"`
	// Topic is where the device's points go; empty means the device's name.
	Topic string `yaml:"topic"`
	// Together publishes the device's good values as one JSON object on Topic
	// itself, instead of a topic a point.
	Together bool `yaml:"together"`
	// Every is how often points are read that do not say so; left out it is 1 s. The
	// Host refuses one below [ShortestEvery].
	Every time.Duration `yaml:"every"`
}

// PointCommon are the keys of a point that mean the same for every driver.
type PointCommon struct {
	// Unit is for people: "°C".
	Unit string `yaml:"unit"`
	// Writable gives the point a control topic.
	Writable bool `yaml:"writable"`
	// Every is how often the point is read; left out it is the device's Every. The
	// Host refuses one below [ShortestEvery].
	Every time.Duration `yaml:"every"`
	// Deadband is the change of a number that is too small to publish; 0 means
	// that each change is published.
	Deadband float64 `yaml:"deadband"`
	// Longest is after how long an unchanged value is published again; 0 means
	// never.
	Longest time.Duration `yaml:"longest"`
}

// DefaultEvery is how often a point is read when its file does not say.
const DefaultEvery = time.Second

// Polled returns the point of a driver that is read every so often.
func (p PointCommon) Polled(name string, c Common) Point {
	pt := p.Pushed(name)
	pt.Every = firstPositive(p.Every, c.Every, DefaultEvery)
	return pt
}

// Pushed returns the point of a driver that speaks by itself.
func (p PointCommon) Pushed(name string) Point {
	return Point{Name: name, Unit: p.Unit, Writable: p.Writable, Deadband: p.Deadband, Longest: p.Longest}
}

func firstPositive(ds ...time.Duration) time.Duration {
	for _, d := range ds {
		if d > 0 {
			return d
		}
	}
	return 0
}
