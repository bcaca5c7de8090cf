package drivers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// Server is a Device that shows topics to foreign clients, as registers say, and
// takes what those write. Each of its points has a [Feed]; none is polled or
// published.
//
// The [Host] hears the topics of the feeds, keeps the latest value of each, and
// hands them to the device, by whose goroutine all methods are called as those of a
// Device. Read and Write are never called.
type Server interface {
	Device
	// Feed shows values: of all points once after Open, then of those that changed.
	// A reading is Good, Stale (its feed fell silent for MaxAge, or says so itself:
	// the last good value with it) or Bad (nothing was heard yet, or what was heard
	// is no value of the point; Err says why). It does not keep the slice. It does
	// not wait for foreign clients. A value that a point of this kind cannot show is
	// no error, but shown as a bad one is. After an error the device is opened again.
	Feed(ctx context.Context, readings []Reading) error
	// Asked delivers what foreign clients write. The channel is closed by Close; a
	// device that ends by itself closes it, too, and is opened again.
	Asked() <-chan Asked
}

// Fitter is a Server that can tell which values a point of it cannot show: they are bad,
// with the error as the reason.
type Fitter interface {
	Server
	Fits(point string, v Value) error
}

// Asked is what a foreign client wants to write: each value goes to the topic Set of its
// point's feed. All are judged before any is published.
type Asked struct {
	Writes []Written
	// Done is called once, by the Host's goroutine, when the messages are accepted
	// by the broker or with why they are not: a point that takes no writes, a value
	// outside of Min, Max and Step, a refused message. It must not wait.
	Done func(error)
}

// Written is a value for a point.
type Written struct {
	Point string
	Value Value
}

// Feed says which topic a point of a [Server] shows.
type Feed struct {
	// Topic is the topic name whose messages are the point's values: JSON, or
	// text; of an object with the members value, quality and at, as [Host] publishes
	// with [PayloadObject], these.
	Topic string
	// Field is the member of a JSON object that is the value, a path with dots
	// through objects in it; empty is the whole.
	Field string
	// MaxAge is after how long without a message the value is stale; 0 is never. How
	// old it is tells its user property "at" or, without one, when it was published.
	MaxAge time.Duration
	// Set is the topic where writes of foreign clients are published, for 30 s;
	// empty takes none. If it is Topic itself, they are retained, and shown at once.
	Set string
}

// FeedCommon are the keys of a point that mean the same for every [Server]; a driver
// embeds them beside [PointCommon].
type FeedCommon struct {
	// Topic is Feed.Topic; the driver says where it is missing.
	Topic string `yaml:"topic"`
	// Field is Feed.Field.
	Field string `yaml:"field"`
	// MaxAge is Feed.MaxAge.
	MaxAge time.Duration `yaml:"max_age"`
	// Set is Feed.Set. Left out, a point that is writable has Topic with "/set".
	Set string `yaml:"set"`
}

// checkFeed says what is wrong with a point's feed, and the key.
func (p *Point) checkFeed() (key string, err error) {
	f := p.Feed
	switch {
	case f == Feed{}:
		return "", nil
	case !topic.ValidName(f.Topic):
		return "topic", fmt.Errorf("%q cannot be a topic", f.Topic)
	case f.Set != "" && (!topic.ValidName(f.Set) || strings.HasPrefix(f.Set, "$")):
		return "set", fmt.Errorf("%q cannot be a topic to publish on", f.Set)
	case f.MaxAge < 0:
		return "max_age", errors.New("max_age must not be negative")
	case p.Every > 0:
		return "every", errors.New("a point that shows a topic is not read")
	}
	return "", nil
}

// Fed returns the point of a [Server].
func (f FeedCommon) Fed(name string, p PointCommon) Point {
	pt := p.Pushed(name)
	pt.Feed = Feed(f)
	if pt.Feed.Set == "" && pt.Writable {
		pt.Feed.Set = f.Topic + "/set"
	}
	pt.Writable = pt.Feed.Set != ""
	return pt
}
