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
	// Payload is what a reading is published as: [PayloadValue], the default, or
	// [PayloadObject].
	Payload string `yaml:"payload"`
	// Discovery are the conventions by which others are told of the device, out of
	// [Options].Conventions. Left out the device has those of all; an empty list is
	// none.
	Discovery []string `yaml:"discovery"`
	// Every is how often points are read that do not say so; left out it is 1 s. The
	// Host refuses one below [ShortestEvery].
	Every time.Duration `yaml:"every"`
}

// What [Common].Payload may be.
const (
	// PayloadValue is the good value as JSON; how far values can be trusted now is
	// told beside them.
	PayloadValue = "value"
	// PayloadObject is {"value":...,"quality":"good","at":"..."}, published when the
	// quality changes, too.
	PayloadObject = "object"
)

// DefaultEvery is how often a point is read when its file does not say.
const DefaultEvery = time.Second

func firstPositive(ds ...time.Duration) time.Duration {
	for _, d := range ds {
		if d > 0 {
			return d
		}
	}
	return 0
}
