package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// The conventions, as configurations call them.
const (
	HomeAssistant = "homeassistant"
	Sparkplug     = "sparkplug"
	Homie         = "homie"
)

// Conventions are all of them.
func Conventions() []string { return []string{HomeAssistant, Sparkplug, Homie} }

// SubscriptionName is the name under which a [Publisher] hears commands; that of devices'
// values is this with " values" behind it. It is not the origin of what it publishes,
// which is the gateway: else it would not hear what an earlier run has left.
const SubscriptionName = "discovery"

// Options are what a [Publisher] is made of. Devices and Retained are required.
type Options struct {
	// Devices tells which devices there are, and a channel that is closed when that
	// changes. It may be called at any time.
	Devices func() ([]drivers.Description, <-chan struct{})
	// Retained are the retained messages that a topic filter matches now. It is called
	// once the bus has taken a subscription to the filter: what an earlier run has left is
	// known for certain before anything is announced.
	Retained func(filter string) []message.Message
	// All are the conventions of the devices whose file does not name any.
	All []string
	// Node names this gateway among others in identifiers. Empty means "gatehouse".
	Node string
	// Version is the program's.
	Version string
	// Log gets what happens; nil discards it.
	Log *slog.Logger

	HomeAssistant HomeAssistantOptions
	Sparkplug     SparkplugOptions
	Homie         HomieOptions
}

// HomeAssistantOptions are those of Home Assistant MQTT discovery.
type HomeAssistantOptions struct {
	// Prefix is the discovery prefix. Empty means "homeassistant".
	Prefix string
	// Delay is the longest that is waited, at random, after Home Assistant's birth
	// message, so that not all gateways speak at once. 0 means 5 s.
	Delay time.Duration
}

// SparkplugOptions are those of a Sparkplug B edge node, whose name is Options.Node.
type SparkplugOptions struct {
	// Group is the group identifier. Empty means "Gatehouse".
	Group string
	// PrimaryHost is the host application without which nothing is published;
	// what happens meanwhile is sent as historical when it is back. Empty is none.
	PrimaryHost string
	// Backlog is how many readings are kept for the primary host. 0 means 10,000.
	Backlog int
}

// HomieOptions are those of Homie 5.
type HomieOptions struct {
	// Prefix is the first level of the topics. Empty means "homie".
	Prefix string
}

// Publisher publishes devices by conventions. [New] makes one; [Publisher.Run] runs it.
type Publisher struct{ opts Options }

// New checks the options and returns a Publisher. It starts nothing.
func New(o Options) (*Publisher, error) {
	if o.Devices == nil {
		return nil, errors.New("cannot publish devices: there is nobody to tell which there are")
	}
	if o.Retained == nil {
		return nil, errors.New("cannot publish devices: there is nobody to tell what is retained")
	}
	for _, name := range o.All {
		if !slices.Contains(Conventions(), name) {
			return nil, fmt.Errorf("cannot publish devices: %q is not one of %s", name, strings.Join(Conventions(), ", "))
		}
	}
	fill(&o.Node, "gatehouse")
	fill(&o.HomeAssistant.Prefix, "homeassistant")
	fill(&o.Sparkplug.Group, "Gatehouse")
	fill(&o.Homie.Prefix, "homie")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HomeAssistant.Delay == 0 {
		o.HomeAssistant.Delay = 5 * time.Second
	}
	if o.Sparkplug.Backlog == 0 {
		o.Sparkplug.Backlog = 10_000
	}
	switch {
	case wordID(o.Node) != o.Node:
		return nil, fmt.Errorf(`cannot publish devices: the node %q may have letters, digits, "_" and "-" only`, o.Node)
	case homieID(o.Node) == "":
		return nil, fmt.Errorf("cannot publish devices: the node %q needs a letter or digit", o.Node)
	case o.HomeAssistant.Delay < 0 || o.Sparkplug.Backlog < 0:
		return nil, errors.New("cannot publish devices: negative limit")
	}
	for _, level := range []string{o.Sparkplug.Group, o.Sparkplug.PrimaryHost, o.Homie.Prefix} {
		if levelID(level) != level {
			return nil, fmt.Errorf("cannot publish devices: %q is not one level of a topic", level)
		}
	}
	if strings.ContainsAny(o.HomeAssistant.Prefix, "+#\x00") {
		return nil, fmt.Errorf("cannot publish devices: %q is not a topic", o.HomeAssistant.Prefix)
	}
	return &Publisher{opts: o}, nil
}

func fill(s *string, otherwise string) {
	if *s == "" {
		*s = otherwise
	}
}

// Run publishes devices until ctx ends; then it says that they are gone, where a
// convention has words for that, and returns nil. It returns an error when the bus
// takes a subscription away.
func (p *Publisher) Run(ctx context.Context, bus message.Bus) error {
	r := newRun(&p.opts, bus)
	err := r.follow(ctx)
	r.end(context.WithoutCancel(ctx))
	return err
}

// convention is one way to publish devices. The loop alone calls it.
type convention interface {
	name() string
	// filters are what it hears, retained messages before anything is announced, while it
	// has these devices.
	filters(devices []*device) []string
	// announce tells of the devices that are new or described otherwise than before.
	announce(ctx context.Context, devices []*device)
	// forget tells that a device is the convention's no longer.
	forget(ctx context.Context, d *device)
	// status tells that a device has come online or gone offline.
	status(ctx context.Context, d *device)
	// values tells of points that have been announced.
	values(ctx context.Context, d *device, changed []*point)
	// hear takes a message that its filters heard.
	hear(ctx context.Context, m *message.Message)
	// end says goodbye.
	end(ctx context.Context)
}

// Pauses before devices are announced, in which the values of their points come to be
// known: the first time, and later.
const (
	firstPause = time.Second
	laterPause = 500 * time.Millisecond
)

// errEnded is what a subscription ended with that nobody ended.
var errEnded = errors.New("the subscription ended")
