package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

const contentProtobuf = "application/x-protobuf"

// namespace is the first level of the topics of Sparkplug B (§4.1.1).
const namespace = "spBv1.0"

// rebirthMetric asks an edge node for all of its births (§6.4.19).
const rebirthMetric = "Node Control/Rebirth"

// edgeNode is a Sparkplug B 3.0 edge node, of which our devices are the devices
// (https://sparkplug.eclipse.org/specification/version/3.0/documents/sparkplug-specification-3.0.0.pdf).
// Statements are tagged by their tck-id where they are kept.
//
// It is a client of our own broker in name only: there is no connection that could
// break, so there is no will either. Its death is published when the publisher stops;
// when the program was killed, that of the session before is published before the next
// birth, from the record of sessions, which is a retained message.
type edgeNode struct {
	run  *run
	opts SparkplugOptions

	heard   bool // what stands of the session before, if there was one, is known
	session session
	host    hostState
	born    bool // NBIRTH stands
	seq     int  // the next one
	devices map[string]*nodeDevice
	aliases map[uint64]*nodeMetric
	last    uint64 // the last alias that was given
	backlog []late
	dropped int
}

// session is the record of sessions.
type session struct {
	BDSeq int  `json:"bdSeq"`
	Alive bool `json:"alive"`
}

// hostState is the payload of a STATE message (§6.4.25). One without online says nothing.
type hostState struct {
	Online    *bool `json:"online"`
	Timestamp int64 `json:"timestamp"`
}

func (h hostState) online() bool { return h.Online != nil && *h.Online }

// nodeDevice is a device as it was last born.
type nodeDevice struct {
	device  *device
	id      string
	born    bool
	metrics map[string]*nodeMetric // by point
}

// nodeMetric is a point as it was last born.
type nodeMetric struct {
	owner *nodeDevice
	point *point
	alias uint64
	kind  dataType
}

// late is a reading that waits for the primary host.
type late struct {
	device, point string
	at            time.Time
	value         drivers.Value
	quality       drivers.Quality
}

func newEdgeNode(r *run) *edgeNode {
	return &edgeNode{
		run: r, opts: r.opts.Sparkplug,
		devices: make(map[string]*nodeDevice), aliases: make(map[uint64]*nodeMetric),
	}
}

func (n *edgeNode) name() string { return Sparkplug }

// topic is a topic of the edge node, or of one of its devices: [tck-id-topics-nbirth-topic]
// and those of the other verbs.
func (n *edgeNode) topic(verb, device string) string {
	t := namespace + "/" + n.opts.Group + "/" + verb + "/" + n.run.opts.Node
	if device != "" {
		t += "/" + device
	}
	return t
}

// record is the topic of the record of sessions.
func (n *edgeNode) record() string { return n.run.opts.Node + "/gateway/sparkplug" }

func (n *edgeNode) stateTopic() string { return namespace + "/STATE/" + n.opts.PrimaryHost }

func (n *edgeNode) filters([]*device) []string {
	filters := []string{n.record(), n.topic("NCMD", ""), n.topic("DCMD", "+")}
	if n.opts.PrimaryHost != "" {
		filters = append(filters, n.stateTopic())
	}
	return filters
}

// announce bears the devices, and the edge node before the first of them.
func (n *edgeNode) announce(ctx context.Context, devices []*device) {
	n.heard = true
	if !n.born {
		n.birth(ctx)
		return
	}
	for _, d := range devices {
		n.deviceBirth(ctx, d)
	}
}

// mayPublish reports whether the primary host is there, if one is wanted.
func (n *edgeNode) mayPublish() bool { return n.opts.PrimaryHost == "" || n.host.online() }

// birth begins a session: the death of one that was not ended, NBIRTH and each DBIRTH
// ([tck-id-payloads-dbirth-order]).
func (n *edgeNode) birth(ctx context.Context) {
	if !n.heard || !n.mayPublish() || len(n.run.of(n)) == 0 { // [tck-id-operational-behavior-edge-node-birth-sequence-wait]
		return
	}
	if n.session.Alive {
		n.publishDeath(ctx)
	}
	// The next one, also over restarts; the first is 0.
	n.session = session{BDSeq: n.session.BDSeq, Alive: true}
	n.keep(ctx)
	n.rebirth(ctx)
	n.catchUp(ctx)
}

// keep publishes the record of sessions. A session that has ended leaves the number of
// the next one ([tck-id-payloads-nbirth-bdseq-inc]).
func (n *edgeNode) keep(ctx context.Context) {
	n.run.publish(ctx, retained(n.record(), marshal(n.session)))
}

// rebirth publishes NBIRTH and each DBIRTH, in the session that there is.
func (n *edgeNode) rebirth(ctx context.Context) {
	n.born, n.seq = true, 0 // [tck-id-payloads-sequence-num-zero-nbirth]
	now := time.Now()
	n.send(ctx, "NBIRTH", "", []metric{
		{name: "bdSeq", at: now, kind: typeInt64, value: drivers.IntValue(int64(n.session.BDSeq))}, // [tck-id-topics-nbirth-bdseq-included]
		{name: rebirthMetric, at: now, kind: typeBoolean, value: drivers.BoolValue(false)},         // [tck-id-topics-nbirth-rebirth-metric]
		{name: "Properties/Software", at: now, kind: typeString, value: drivers.TextValue("Gatehouse " + n.run.opts.Version)},
		{name: "Properties/OS", at: now, kind: typeString, value: drivers.TextValue(runtime.GOOS + "/" + runtime.GOARCH)},
	})
	for _, d := range n.run.of(n) {
		n.deviceBirth(ctx, d)
	}
}

// deviceBirth publishes the DBIRTH of a device that is online and of which something is
// known.
func (n *edgeNode) deviceBirth(ctx context.Context, d *device) {
	nd := n.adopt(ctx, d)
	if known := d.known(); !n.born || !d.online || len(known) == 0 {
		return
	}
	var metrics []metric
	for _, p := range d.known() {
		m := nd.metrics[p.Name]
		metrics = append(metrics, metric{
			name: p.Name, alias: m.alias, at: m.point.at, kind: m.kind, value: p.value, properties: birthProperties(p),
		}) // [tck-id-payloads-alias-birth-requirement], [tck-id-payloads-metric-datatype-req]
	}
	nd.born = true
	n.send(ctx, "DBIRTH", nd.id, inOrder(metrics))
}

// inOrder sorts metrics by their time
// ([tck-id-operational-behavior-data-publish-dbirth-order]).
func inOrder(metrics []metric) []metric {
	slices.SortStableFunc(metrics, func(a, b metric) int { return a.at.Compare(b.at) })
	return metrics
}

// adopt makes or changes what is known of a device here. Aliases are kept.
func (n *edgeNode) adopt(ctx context.Context, d *device) *nodeDevice {
	id, before := n.run.id(n, d), n.devices[d.Name]
	if before != nil && before.id != id { // [tck-id-topic-structure-namespace-unique-device-id]
		n.deviceDeath(ctx, before)
	}
	nd := &nodeDevice{device: d, id: id, metrics: make(map[string]*nodeMetric)}
	if before != nil {
		nd.born = before.born
		for _, m := range before.metrics {
			delete(n.aliases, m.alias)
		}
	}
	for _, p := range d.known() {
		m := &nodeMetric{owner: nd, point: p, kind: sparkplugType(p)}
		if before != nil && before.metrics[p.Name] != nil {
			m.alias = before.metrics[p.Name].alias
		} else {
			n.last++
			m.alias = n.last // [tck-id-payloads-alias-uniqueness]
		}
		nd.metrics[p.Name], n.aliases[m.alias] = m, m
	}
	n.devices[d.Name] = nd
	return nd
}

// sparkplugType is the data type of a point.
func sparkplugType(p *point) dataType {
	switch p.kind {
	case boolean:
		return typeBoolean
	case integer:
		return typeInt64
	case unsigned:
		return typeUInt64
	case number:
		return typeDouble
	case unknown, text, object:
	}
	return typeString
}

// birthProperties say what a point is, by the names that Ignition knows.
func birthProperties(p *point) []property {
	all := qualityOf(p.quality)
	if p.Unit != "" {
		all = append(all, property{"engUnit", p.Unit})
	}
	if f, ok := p.Min.Float(); ok {
		all = append(all, property{"engLow", f})
	}
	if f, ok := p.Max.Float(); ok {
		all = append(all, property{"engHigh", f})
	}
	return append(all, property{"readOnly", !p.settable()})
}

// qualityOf is the Quality property, which only a value has that is not good
// ([tck-id-payloads-propertyset-quality-value-value]).
func qualityOf(q drivers.Quality) []property {
	switch q {
	case drivers.Stale:
		return []property{{"Quality", int32(qualityStale)}}
	case drivers.Bad:
		return []property{{"Quality", int32(qualityBad)}}
	case drivers.Good:
	}
	return nil
}

// send publishes a message of the session ([tck-id-topics-nbirth-mqtt] and those of the
// other verbs: QoS 0, not retained).
func (n *edgeNode) send(ctx context.Context, verb, device string, metrics []metric) {
	payload := appendPayload(nil, time.Now(), n.seq, metrics) // [tck-id-payloads-sequence-num-always-included]
	n.seq = (n.seq + 1) % 256                                 // [tck-id-payloads-sequence-num-incrementing]
	n.run.publish(ctx, message.Message{Topic: n.topic(verb, device), Payload: payload, ContentType: contentProtobuf})
}

// publishDeath publishes NDEATH, of the bdSeq alone and without a seq
// ([tck-id-topics-ndeath-payload], [tck-id-topics-ndeath-seq]), and keeps the number of
// the next session ([tck-id-topics-nbirth-bdseq-increment]).
func (n *edgeNode) publishDeath(ctx context.Context) {
	now := time.Now()
	n.run.publish(ctx, message.Message{
		Topic: n.topic("NDEATH", ""), QoS: message.AtLeastOnce, ContentType: contentProtobuf, // [tck-id-payloads-ndeath-will-message-qos]
		Payload: appendPayload(nil, now, -1, []metric{
			{name: "bdSeq", at: now, kind: typeInt64, value: drivers.IntValue(int64(n.session.BDSeq))},
		}),
	})
	n.session = session{BDSeq: (n.session.BDSeq + 1) % 256}
	n.keep(ctx)
}

// death ends the session.
func (n *edgeNode) death(ctx context.Context) {
	if !n.born {
		return
	}
	n.born = false
	for _, nd := range n.devices {
		nd.born = false
	}
	n.publishDeath(ctx)
}

func (n *edgeNode) forget(ctx context.Context, d *device) {
	nd := n.devices[d.Name]
	if nd == nil {
		return
	}
	n.deviceDeath(ctx, nd)
	for _, m := range nd.metrics {
		delete(n.aliases, m.alias)
	}
	delete(n.devices, d.Name)
	if len(n.run.of(n)) == 0 {
		n.death(ctx)
	}
}

func (n *edgeNode) deviceDeath(ctx context.Context, nd *nodeDevice) {
	if n.born && nd.born {
		nd.born = false
		n.send(ctx, "DDEATH", nd.id, nil) // [tck-id-operational-behavior-device-ddeath]
	}
}

func (n *edgeNode) status(ctx context.Context, d *device) {
	if d.online {
		n.run.announceLater(d, laterPause)
	} else if nd := n.devices[d.Name]; nd != nil {
		n.deviceDeath(ctx, nd)
	}
}

// values publishes DDATA, by alias ([tck-id-payloads-alias-data-cmd-requirement]). A
// point that was not born with the type that it has now is told of by the next DBIRTH.
func (n *edgeNode) values(ctx context.Context, d *device, changed []*point) {
	nd := n.devices[d.Name]
	if !n.born && n.heard && n.opts.PrimaryHost != "" {
		for _, p := range changed {
			n.putBack(late{device: d.Name, point: p.Name, at: p.at, value: p.value, quality: p.quality})
		}
		return
	}
	if nd == nil || !nd.born {
		return
	}
	var metrics []metric
	for _, p := range changed {
		if m := nd.metrics[p.Name]; m != nil && m.point == p && m.kind == sparkplugType(p) {
			metrics = append(metrics, metric{alias: m.alias, at: p.at, kind: m.kind, value: p.value, properties: qualityOf(p.quality)})
		}
	}
	if len(metrics) > 0 {
		n.send(ctx, "DDATA", nd.id, inOrder(metrics))
	}
}

// putBack keeps a reading for the primary host. The oldest goes when there are too many.
func (n *edgeNode) putBack(l late) {
	if len(n.backlog) >= n.opts.Backlog {
		n.backlog = slices.Delete(n.backlog, 0, 1+len(n.backlog)/16) // a sixteenth at once, not one by one
		if n.dropped++; n.dropped == 1 {
			n.run.log.Warn("the primary host is away for long; the oldest readings are dropped", "host", n.opts.PrimaryHost)
		}
	}
	n.backlog = append(n.backlog, l)
}

// catchUp publishes what the primary host has missed, as historical.
func (n *edgeNode) catchUp(ctx context.Context) {
	const most = 200 // metrics a message
	backlog := n.backlog
	n.backlog, n.dropped = nil, 0
	slices.SortStableFunc(backlog, func(a, b late) int { return a.at.Compare(b.at) })
	byDevice := make(map[string][]metric)
	flush := func(device string) {
		if all := byDevice[device]; len(all) > 0 {
			n.send(ctx, "DDATA", n.devices[device].id, all)
			byDevice[device] = nil
		}
	}
	for _, l := range backlog {
		nd := n.devices[l.device]
		if nd == nil || !nd.born || nd.metrics[l.point] == nil {
			continue
		}
		m := nd.metrics[l.point]
		byDevice[l.device] = append(byDevice[l.device], metric{
			alias: m.alias, at: l.at, kind: m.kind, value: l.value, historical: true, properties: qualityOf(l.quality),
		})
		if len(byDevice[l.device]) == most {
			flush(l.device)
		}
	}
	for _, device := range slices.Sorted(maps.Keys(byDevice)) {
		flush(device)
	}
}

func (n *edgeNode) hear(ctx context.Context, m *message.Message) {
	switch {
	case m.Topic == n.record():
		if !n.heard && m.Retain {
			_ = json.Unmarshal(m.Payload, &n.session) // nonsense begins anew
			n.session.BDSeq = max(0, n.session.BDSeq) % 256
		}
	case n.opts.PrimaryHost != "" && m.Topic == n.stateTopic():
		n.hearHost(ctx, m.Payload)
	case m.Retain: // a command that somebody left standing
	case m.Topic == n.topic("NCMD", ""):
		n.nodeCommand(ctx, m)
	default:
		if id, mine := strings.CutPrefix(m.Topic, n.topic("DCMD", "")+"/"); mine {
			n.deviceCommand(ctx, id, m)
		}
	}
}

// hearHost takes the state of the primary host. One that is older than what is known is
// a will that comes late.
func (n *edgeNode) hearHost(ctx context.Context, payload []byte) {
	var state hostState
	if json.Unmarshal(payload, &state) != nil || state.Online == nil || state.Timestamp < n.host.Timestamp {
		return // [tck-id-message-flow-edge-node-birth-publish-phid-wait-online]
	}
	was := n.host.online()
	n.host = state
	switch {
	case state.online() && !was:
		n.birth(ctx)
	case !state.online() && was:
		n.death(ctx) // [tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk]
	}
}

// command reads a command.
func (n *edgeNode) command(m *message.Message) []metric {
	metrics, err := parseCommand(m.Payload)
	if err != nil {
		n.run.log.Warn("a Sparkplug command is not understood", "topic", m.Topic, "error", err)
		return nil
	}
	return metrics
}

func (n *edgeNode) nodeCommand(ctx context.Context, m *message.Message) {
	for _, c := range n.command(m) {
		if yes, _ := c.value.Bool(); c.name == rebirthMetric && yes && n.born {
			n.rebirth(ctx)
			return
		}
	}
}

// deviceCommand makes commands on control topics of a DCMD.
func (n *edgeNode) deviceCommand(ctx context.Context, id string, m *message.Message) {
	for _, c := range n.command(m) {
		target, d, p, err := n.target(id, &c)
		if err != nil {
			n.run.log.Warn("a Sparkplug command was refused", "topic", m.Topic, "metric", c.name, "alias", c.alias, "error", err)
			continue
		}
		v := c.valueFor(target.kind)
		if p.kind == object { // it was told as a text
			if o, err := drivers.ParseValue([]byte(v.String())); err == nil {
				v = o
			}
		}
		n.run.publish(ctx, d.command(p, v, m))
	}
}

// target is the metric that a command means, by its alias or its name, and its device and
// point as they are now.
func (n *edgeNode) target(id string, c *metric) (t *nodeMetric, d *device, p *point, err error) {
	t = n.aliases[c.alias]
	if c.alias == 0 {
		for _, nd := range n.devices {
			if nd.id == id {
				t = nd.metrics[c.name]
			}
		}
	}
	if t == nil || t.owner.id != id {
		return nil, nil, nil, errors.New("the device has no such metric")
	}
	d, p, err = n.run.now(t.owner.device, t.point)
	switch {
	case err != nil:
	case !p.settable():
		err = fmt.Errorf("point %q cannot be written", p.Name)
	case c.value.IsNull():
		err = errors.New("it has no value")
	}
	return t, d, p, err
}

func (n *edgeNode) end(ctx context.Context) { n.death(ctx) }
