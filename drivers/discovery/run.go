package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// run is one Run of a Publisher.
type run struct {
	opts        *Options
	bus         message.Bus
	log         *slog.Logger
	conventions []convention

	devices map[string]*device
	routes  map[string]*device           // by value topic
	states  map[string]*device           // by status topic
	details map[string]*device           // by the topic of the status in detail
	changed map[*device]bool             // to be announced
	ids     map[string]map[string]string // of devices, by convention and name
	timers  timers

	commands, values *hearing
	failed           chan error // why a subscription ended by itself

	refused   int // messages that were not published since that was last logged
	refusedAt time.Time
}

func newRun(o *Options, bus message.Bus) *run {
	r := &run{
		opts: o, bus: bus, log: o.Log,
		devices: make(map[string]*device), changed: make(map[*device]bool), failed: make(chan error, 2),
	}
	r.commands = &hearing{run: r, name: SubscriptionName, batches: make(chan []message.Message)}
	r.values = &hearing{run: r, name: SubscriptionName + " values", retained: true, batches: make(chan []message.Message)}
	r.conventions = []convention{newHomeAssistant(r), newEdgeNode(r), newHomie(r)}
	return r
}

// follow is the loop: devices that come, go and change, what they say, and what others
// say to them.
func (r *run) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		r.commands.wait()
		r.values.wait()
	}()
	described, moved := r.opts.Devices()
	r.adopt(ctx, described, firstPause)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.failed:
			return err
		case <-moved:
			described, moved = r.opts.Devices()
			r.adopt(ctx, described, laterPause)
		case batch := <-r.values.batches:
			r.take(ctx, batch)
		case batch := <-r.commands.batches:
			for i := range batch {
				r.hear(ctx, &batch[i])
			}
		case <-r.timers.next():
			r.timers.run(ctx)
		}
	}
}

// adopt takes the devices that there are now.
func (r *run) adopt(ctx context.Context, described []drivers.Description, pause time.Duration) {
	before := r.devices
	r.devices, r.routes = make(map[string]*device), make(map[string]*device)
	r.states, r.details = make(map[string]*device), make(map[string]*device)
	for _, d := range described {
		conventions := d.Discovery
		if conventions == nil {
			conventions = r.opts.All
		}
		if len(conventions) == 0 {
			continue
		}
		old := before[d.Name]
		n := old
		if old == nil || !reflect.DeepEqual(old.Description, d) {
			n = newDevice(d, conventions, old)
			r.announceLater(n, pause)
		}
		r.devices[d.Name], r.states[d.Topic+"/status"], r.details[d.Topic+"/status/detail"] = n, n, n
		for _, t := range n.topics() {
			r.routes[t] = n
		}
	}
	for name, old := range before {
		n := r.devices[name]
		if n != old {
			delete(r.changed, old)
		}
		for _, c := range r.conventions {
			if old.has(c.name()) && (n == nil || !n.has(c.name())) {
				c.forget(ctx, old)
			}
		}
	}
	r.identify(pause)
	r.hearFilters(ctx)
}

// identify gives the devices their identifiers. One that has another one than before, as
// a name has come that is like its own, is announced anew.
func (r *run) identify(pause time.Duration) {
	before := r.ids
	r.ids = make(map[string]map[string]string)
	for _, c := range r.conventions {
		devices := r.of(c)
		names := make([]string, len(devices))
		for i, d := range devices {
			names[i] = d.Name
		}
		clean := cleaners[c.name()]
		ids := identify(names, clean.name, clean.separator)
		for _, d := range devices {
			if was := before[c.name()][d.Name]; was != "" && was != ids[d.Name] {
				r.announceLater(d, pause)
			}
		}
		r.ids[c.name()] = ids
	}
}

// cleaners say what identifiers of devices are.
var cleaners = map[string]struct {
	name      func(string) string
	separator string
}{HomeAssistant: {wordID, "_"}, Sparkplug: {levelID, "_"}, Homie: {homieID, "-"}}

// id is the identifier of a device by a convention.
func (r *run) id(c convention, d *device) string { return r.ids[c.name()][d.Name] }

// topics are those of the device's values.
func (d *device) topics() []string {
	if d.Together {
		return []string{d.Topic}
	}
	all := make([]string, len(d.points))
	for i, p := range d.points {
		all[i] = p.topic
	}
	return all
}

// hearFilters changes the subscriptions to what is to be heard now. What stands on
// filters of a convention that are new is heard before anything is announced.
func (r *run) hearFilters(ctx context.Context) {
	var filters, added []string
	for _, c := range r.conventions {
		if mine := r.of(c); len(mine) > 0 {
			filters = append(filters, c.filters(mine)...)
		}
	}
	for _, f := range filters {
		if !slices.Contains(r.commands.filters, f) {
			added = append(added, f)
		}
	}
	r.commands.change(ctx, filters)
	for _, f := range added {
		if ctx.Err() != nil {
			return
		}
		for _, m := range r.opts.Retained(f) {
			m.Retain = true
			r.hear(ctx, &m)
		}
	}
	filters = slices.Collect(maps.Keys(r.routes))
	filters = slices.AppendSeq(slices.AppendSeq(filters, maps.Keys(r.states)), maps.Keys(r.details))
	slices.Sort(filters)
	r.values.change(ctx, slices.Compact(filters))
}

// hear gives a message to the conventions.
func (r *run) hear(ctx context.Context, m *message.Message) {
	for _, c := range r.conventions {
		c.hear(ctx, m)
	}
}

// now is a point as its device is described now: a convention has an older description
// until it has announced the newer one.
func (r *run) now(d *device, p *point) (*device, *point, error) {
	if is := r.devices[d.Name]; is != nil && is.byName[p.Name] != nil {
		return is, is.byName[p.Name], nil
	}
	return nil, nil, fmt.Errorf("point %q is no more", p.Name)
}

// of are the devices of a convention, by name.
func (r *run) of(c convention) []*device {
	var all []*device
	for _, name := range slices.Sorted(maps.Keys(r.devices)) {
		if d := r.devices[name]; d.has(c.name()) {
			all = append(all, d)
		}
	}
	return all
}

// announceLater has a device announced after a pause, together with the others that
// are due by then.
func (r *run) announceLater(d *device, pause time.Duration) {
	if len(r.changed) == 0 {
		r.timers.after(pause, r.announce)
	}
	r.changed[d] = true
}

func (r *run) announce(ctx context.Context) {
	for _, c := range r.conventions {
		due := slices.DeleteFunc(r.of(c), func(d *device) bool { return !r.changed[d] })
		if len(due) > 0 {
			c.announce(ctx, due)
		}
	}
	clear(r.changed)
}

// take takes what devices said.
func (r *run) take(ctx context.Context, batch []message.Message) {
	var order []*device
	all := make(map[*device]*news)
	for i := range batch {
		m := &batch[i]
		if d := r.states[m.Topic]; d != nil {
			r.status(ctx, d, string(m.Payload) == "online")
			continue
		}
		d, detail := r.routes[m.Topic], r.details[m.Topic]
		if d == nil {
			d = detail
		}
		if d == nil {
			continue
		}
		n := all[d]
		if n == nil {
			n = &news{}
			all[d], order = n, append(order, d)
		}
		if detail != nil {
			d.hearDetail(m, n)
		} else {
			d.hear(m, n)
		}
	}
	for _, d := range order {
		n := all[d]
		if n.widened {
			r.announceLater(d, laterPause)
		}
		if len(n.changed) == 0 {
			continue
		}
		for _, c := range r.conventions {
			if d.has(c.name()) {
				c.values(ctx, d, n.changed)
			}
		}
	}
}

func (r *run) status(ctx context.Context, d *device, online bool) {
	if d.online == online {
		return
	}
	d.online = online
	for _, c := range r.conventions {
		if d.has(c.name()) {
			c.status(ctx, d)
		}
	}
}

// end says goodbye by each convention, within a few seconds.
func (r *run) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, c := range r.conventions {
		c.end(ctx)
	}
}

// publish publishes messages one by one, so that one that is refused keeps no other
// back.
func (r *run) publish(ctx context.Context, msgs ...message.Message) {
	for _, m := range msgs {
		m.UTF8 = m.ContentType != contentProtobuf && len(m.Payload) > 0
		err := r.bus.Publish(ctx, m)
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.refused++
		if now := time.Now(); now.Sub(r.refusedAt) >= time.Minute {
			r.log.Warn("a device was not told of by a convention", "topic", m.Topic, "error", err, "count", r.refused)
			r.refused, r.refusedAt = 0, now
		}
	}
}

// retained is a retained message of JSON or plain text.
func retained(topic string, payload []byte) message.Message {
	return message.Message{Topic: topic, Payload: payload, QoS: message.AtLeastOnce, Retain: true}
}

// hearing is a subscription that stands from its first filters on.
type hearing struct {
	run      *run
	name     string
	retained bool     // what stands on new filters comes first
	filters  []string // that it stands on
	batches  chan []message.Message
	stop     context.CancelFunc // nil if it does not stand yet
	done     sync.WaitGroup
}

// change replaces the filters, between two messages: what was accepted before is heard
// too. It returns when the new ones stand, or when there is no hope of that.
func (h *hearing) change(ctx context.Context, filters []string) {
	if slices.Equal(filters, h.filters) {
		return
	}
	h.filters = filters
	if h.stop == nil {
		h.stand(ctx)
		return
	}
	if err := h.run.bus.Resubscribe(ctx, h.name, filters); err != nil && ctx.Err() == nil {
		h.fail(err)
	}
}

// stand subscribes, and waits until the filters stand.
func (h *hearing) stand(ctx context.Context) {
	own, cancel := context.WithCancel(ctx)
	h.stop = cancel
	subscription := message.Subscription{
		Name: h.name, Filters: h.filters, QoS: message.AtLeastOnce, Retained: h.retained,
	}
	stands, ended := make(chan struct{}), make(chan struct{})
	subscription.Ready = func() { close(stands) }
	h.done.Go(func() {
		defer close(ended)
		err := h.run.bus.Subscribe(own, subscription, func(ctx context.Context, batch []message.Message) error {
			select {
			case h.batches <- slices.Clone(batch):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if own.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		h.fail(err)
	})
	select {
	case <-stands:
	case <-ended:
	}
}

// fail ends the run; the first reason counts.
func (h *hearing) fail(err error) {
	select {
	case h.run.failed <- fmt.Errorf("cannot hear the devices: %w", err):
	default:
	}
}

// wait ends the subscription.
func (h *hearing) wait() {
	if h.stop != nil {
		h.stop()
	}
	h.done.Wait()
}

// timers are functions that the loop is to call later.
type timers struct {
	all   []timer
	clock *time.Timer
}

type timer struct {
	at time.Time
	f  func(context.Context)
}

func (t *timers) after(d time.Duration, f func(context.Context)) {
	t.all = append(t.all, timer{time.Now().Add(d), f})
	slices.SortStableFunc(t.all, func(a, b timer) int { return a.at.Compare(b.at) })
}

// next is a channel that speaks when the first is due; nil if there is none.
func (t *timers) next() <-chan time.Time {
	if len(t.all) == 0 {
		return nil
	}
	if t.clock == nil {
		t.clock = time.NewTimer(time.Until(t.all[0].at))
	} else {
		t.clock.Reset(time.Until(t.all[0].at))
	}
	return t.clock.C
}

// run calls what is due.
func (t *timers) run(ctx context.Context) {
	now := time.Now()
	for len(t.all) > 0 && !t.all[0].at.After(now) {
		f := t.all[0].f
		t.all = t.all[1:]
		f(ctx)
	}
}
