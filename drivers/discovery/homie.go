package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// homie is the Homie convention, version 5 (https://homieiot.github.io/specification/).
// The gateway is the root device, our devices are its children.
type homie struct {
	run      *run
	prefix   string
	root     string
	begun    bool
	told     map[string]*homieDevice // by device
	leftover map[string]homieDescription
	children []string // that the root's description has
	last     int64    // the version that the root's description has
	standing int64    // the one that an earlier run has left
}

// homieDevice is a device as it was last told of.
type homieDevice struct {
	device      *device
	id          string
	description homieDescription
	properties  map[string]homieProperty // by point
	points      map[string]*point        // by the topic of the property, below the device's
	ready       bool
}

type homieDescription struct {
	Homie    string               `json:"homie"`
	Version  int64                `json:"version"`
	Name     string               `json:"name"`
	Type     string               `json:"type,omitempty"`
	Nodes    map[string]homieNode `json:"nodes,omitempty"`
	Children []string             `json:"children,omitempty"`
	Root     string               `json:"root,omitempty"`
}

type homieNode struct {
	Name       string                   `json:"name"`
	Properties map[string]homieProperty `json:"properties"`
}

type homieProperty struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Format   string `json:"format,omitempty"`
	Settable bool   `json:"settable,omitempty"`
	Unit     string `json:"unit,omitempty"`

	path string // NODE/PROPERTY
}

func newHomie(r *run) *homie {
	return &homie{
		run: r, prefix: r.opts.Homie.Prefix + "/5/", root: homieID(r.opts.Node),
		told: make(map[string]*homieDevice), leftover: make(map[string]homieDescription),
	}
}

func (h *homie) name() string { return Homie }

func (h *homie) topic(id string, below ...string) string {
	return h.prefix + id + "/" + strings.Join(below, "/")
}

func (h *homie) filters([]*device) []string {
	return []string{h.topic("+", "$description"), h.topic("+", "+", "+", "set")}
}

// announce tells of devices, children before the root, as the convention advises.
func (h *homie) announce(ctx context.Context, devices []*device) {
	for _, d := range devices { // all of them, before another one has the identifier
		if was := h.told[d.Name]; was != nil && was.id != h.root+"-"+h.run.id(h, d) {
			h.remove(ctx, was.id, was.description)
			delete(h.told, d.Name)
		}
	}
	for _, d := range devices {
		if len(d.known()) > 0 {
			h.tell(ctx, d, h.root+"-"+h.run.id(h, d))
		}
	}
	for id, was := range h.leftover {
		if !slices.ContainsFunc(slices.Collect(maps.Values(h.told)), func(d *homieDevice) bool { return d.id == id }) {
			h.remove(ctx, id, was)
		}
	}
	h.leftover = nil // what is told from now on is known here
	h.tellRoot(ctx)
}

// tell tells of one device: init, the description, the values, and ready.
func (h *homie) tell(ctx context.Context, d *device, id string) {
	n := describe(d, id, h.root)
	before := h.told[d.Name]
	if before == nil {
		if was, stands := h.leftover[id]; stands {
			before = &homieDevice{id: id, description: was}
		}
	}
	n.description.Version = 1
	if before != nil {
		n.description.Version = before.description.Version
	}
	if before == nil || !bytes.Equal(marshal(n.description), marshal(before.description)) {
		h.run.publish(ctx, retained(h.topic(id, "$state"), []byte("init")))
		if before != nil {
			n.description.Version++
			for _, path := range before.description.paths() {
				if !slices.Contains(n.description.paths(), path) {
					h.run.publish(ctx, retained(h.topic(id, path), nil), retained(h.topic(id, path, "$target"), nil))
				}
			}
		}
		h.run.publish(ctx, retained(h.topic(id, "$description"), marshal(n.description)))
	}
	h.told[d.Name] = n
	for _, p := range d.known() {
		h.publishValue(ctx, n, p)
		if n.properties[p.Name].Settable {
			h.publishTarget(ctx, n, p)
		}
	}
	h.state(ctx, n)
}

// describe is the description of a device.
func describe(d *device, id, root string) *homieDevice {
	n := &homieDevice{device: d, id: id, properties: make(map[string]homieProperty), points: make(map[string]*point)}
	n.description = homieDescription{
		Homie: "5.0", Name: d.Name, Type: "gatehouse/" + d.Driver, Root: root, Nodes: make(map[string]homieNode),
	}
	nodes := identify(nodeNames(d), homieID, "-")
	inNode := make(map[string][]string)
	for _, p := range d.points {
		node, _ := splitName(p.Name)
		inNode[node] = append(inNode[node], p.Name)
	}
	properties := make(map[string]string, len(d.points))
	for _, names := range inNode {
		maps.Copy(properties, identify(names, propertyID, "-"))
	}
	for _, p := range d.known() {
		node, property := splitName(p.Name)
		hp := homieProperty{
			Name: entityName(property), Settable: p.settable(), Unit: p.Unit,
			path: nodes[node] + "/" + properties[p.Name],
		}
		hp.Datatype, hp.Format = homieType(p)
		n.properties[p.Name], n.points[hp.path] = hp, p
		in, known := n.description.Nodes[nodes[node]]
		if !known {
			in = homieNode{Name: node, Properties: make(map[string]homieProperty)}
		}
		in.Properties[strings.TrimPrefix(hp.path, nodes[node]+"/")] = hp
		n.description.Nodes[nodes[node]] = in
	}
	return n
}

// splitName is the node and the property of a point: the levels before the last, and
// the last. A point of one level is in the node "points".
func splitName(name string) (node, property string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "points", name
	}
	return name[:i], name[i+1:]
}

// propertyID is the identifier of a point in its node.
func propertyID(name string) string {
	_, property := splitName(name)
	return homieID(property)
}

func nodeNames(d *device) []string {
	var all []string
	for _, p := range d.points {
		if node, _ := splitName(p.Name); !slices.Contains(all, node) {
			all = append(all, node)
		}
	}
	return all
}

// homieType is the datatype and format of a point.
func homieType(p *point) (datatype, format string) {
	if len(p.Names) > 0 && !slices.ContainsFunc(p.Names, func(n drivers.Name) bool { return strings.Contains(n.Name, ",") }) {
		var all []string
		for _, n := range p.Names {
			all = append(all, n.Name)
		}
		return "enum", strings.Join(all, ",")
	}
	switch p.kind {
	case boolean:
		return "boolean", ""
	case integer, number, unsigned:
		if p.kind == integer {
			datatype = "integer"
		} else {
			datatype = "float"
		}
		if !p.Min.IsNull() || !p.Max.IsNull() || !p.Step.IsNull() {
			format = numberText(p.Min) + ":" + numberText(p.Max)
			if homieCounts(p) {
				format += ":" + numberText(p.Step)
			}
		}
		return datatype, format
	case object:
		return "json", ""
	case text, unknown:
	}
	return "string", ""
}

// homieCounts reports whether there are steps that Homie counts as the device does, which
// is from the least value, or from 0: Homie counts from the least value, else from the
// greatest, else from the present one, which is whole steps from 0 (Homie 5, Formats).
func homieCounts(p *point) bool {
	return !p.Step.IsNull() && (!p.Min.IsNull() || p.Max.IsNull() || numberText(p.Nearest(p.Max)) == numberText(p.Max))
}

func numberText(v drivers.Value) string {
	if v.IsNull() {
		return ""
	}
	return v.String()
}

// paths are NODE/PROPERTY of all properties.
func (d *homieDescription) paths() []string {
	var all []string
	for _, node := range slices.Sorted(maps.Keys(d.Nodes)) {
		for _, property := range slices.Sorted(maps.Keys(d.Nodes[node].Properties)) {
			all = append(all, node+"/"+property)
		}
	}
	return all
}

// homiePayload is a value as Homie writes it: text as it is, and an empty one as a zero
// byte, since an empty payload would clear the topic.
func homiePayload(v drivers.Value) []byte {
	if s := v.String(); s != "" {
		return []byte(s)
	}
	return []byte{0}
}

func (h *homie) publishValue(ctx context.Context, n *homieDevice, p *point) {
	if p.value.IsNull() {
		return // Homie has no word for it
	}
	m := retained(h.topic(n.id, n.properties[p.Name].path), homiePayload(p.value))
	m.Origin = "device/" + n.device.Name
	h.run.publish(ctx, m)
}

func (h *homie) publishTarget(ctx context.Context, n *homieDevice, p *point) {
	if !p.value.IsNull() {
		h.run.publish(ctx, retained(h.topic(n.id, n.properties[p.Name].path, "$target"), homiePayload(p.value)))
	}
}

// state publishes how a device is. One that does not answer is lost until it does.
func (h *homie) state(ctx context.Context, n *homieDevice) {
	state := "lost"
	if n.ready = n.device.online; n.ready {
		state = "ready"
	}
	h.run.publish(ctx, retained(h.topic(n.id, "$state"), []byte(state)))
}

// tellRoot tells of the gateway, if it is new or has other children.
func (h *homie) tellRoot(ctx context.Context) {
	var children []string
	for _, name := range slices.Sorted(maps.Keys(h.told)) {
		children = append(children, h.told[name].id)
	}
	if h.begun && slices.Equal(children, h.children) {
		return
	}
	h.begun, h.children, h.last = true, children, max(h.last, h.standing)+1
	h.run.publish(
		ctx,
		retained(h.topic(h.root, "$state"), []byte("init")),
		retained(h.topic(h.root, "$description"), marshal(homieDescription{
			Homie: "5.0", Version: h.last, Name: h.run.opts.Node, Type: "gatehouse", Children: children,
		})),
		retained(h.topic(h.root, "$state"), []byte("ready")),
	)
}

// remove removes a device: its state first, by which it ends to be.
func (h *homie) remove(ctx context.Context, id string, d homieDescription) {
	h.run.publish(ctx, retained(h.topic(id, "$state"), nil), retained(h.topic(id, "$description"), nil))
	for _, path := range d.paths() {
		h.run.publish(ctx, retained(h.topic(id, path), nil), retained(h.topic(id, path, "$target"), nil))
	}
}

// forget takes a device out of the root's children, then removes it.
func (h *homie) forget(ctx context.Context, d *device) {
	n := h.told[d.Name]
	if n == nil {
		return
	}
	delete(h.told, d.Name)
	h.tellRoot(ctx)
	h.remove(ctx, n.id, n.description)
}

func (h *homie) status(ctx context.Context, d *device) {
	if n := h.told[d.Name]; n != nil && n.device == d && n.ready != d.online {
		h.state(ctx, n)
	}
}

func (h *homie) values(ctx context.Context, d *device, changed []*point) {
	n := h.told[d.Name]
	if n == nil || n.device != d {
		return
	}
	for _, p := range changed {
		hp, told := n.properties[p.Name]
		if datatype, _ := homieType(p); told && datatype == hp.Datatype && p.quality == drivers.Good {
			h.publishValue(ctx, n, p)
		}
	}
}

// hear takes what controllers set, and descriptions of ours that stand from before.
func (h *homie) hear(ctx context.Context, m *message.Message) {
	rest, ours := strings.CutPrefix(m.Topic, h.prefix+h.root)
	if !ours {
		return
	}
	if below, is := strings.CutSuffix(rest, "/$description"); is {
		if m.Retain {
			h.hearDescription(h.root+below, m.Payload)
		}
		return
	}
	path, is := strings.CutSuffix(strings.TrimPrefix(m.Topic, h.prefix), "/set")
	id, path, _ := strings.Cut(path, "/")
	if !is || m.Retain {
		return
	}
	for _, n := range h.told {
		if p := n.points[path]; n.id == id && p != nil {
			h.set(ctx, n, p, m)
		}
	}
}

func (h *homie) hearDescription(id string, payload []byte) {
	var d homieDescription
	if h.leftover == nil || json.Unmarshal(payload, &d) != nil {
		return
	}
	switch {
	case id == h.root && d.Root == "":
		h.standing = d.Version
	case d.Root == h.root:
		h.leftover[id] = d
	}
}

// set makes a command of what a controller wants, if it can be a value of the property
// and may be written. Then it is the target, byte by byte: what is not accepted is none
// (Homie 5, Target attribute).
func (h *homie) set(ctx context.Context, n *homieDevice, told *point, m *message.Message) {
	hp := n.properties[told.Name]
	d, p, v, err := h.wanted(n, told, m.Payload)
	if err != nil {
		h.run.publish(ctx, message.Message{
			Topic: h.topic(n.id, "$log", "warn"), Payload: []byte(hp.path + ": " + err.Error()), QoS: message.AtLeastOnce,
		})
		return
	}
	h.run.publish(ctx, retained(h.topic(n.id, hp.path, "$target"), bytes.Clone(m.Payload)), d.command(p, v, m))
}

// wanted is the value that a controller wants a property to have, and its device and
// point as they are now.
func (h *homie) wanted(n *homieDevice, told *point, payload []byte) (d *device, p *point, v drivers.Value, err error) {
	hp := n.properties[told.Name]
	if d, p, err = h.run.now(n.device, told); err != nil {
		return nil, nil, v, err
	}
	v, ok := parseHomie(hp, payload)
	if !ok || !hp.Settable || !p.settable() {
		return nil, nil, v, errors.New("this cannot be set")
	}
	if v.Kind() != drivers.Text && v.Kind() != drivers.JSON { // of names and flags the host knows better
		v = p.Nearest(v) // a controller may count on that (Homie 5, Formats)
		err = p.Permits(v)
	}
	return d, p, v, err
}

// parseHomie reads a value of a property.
func parseHomie(hp homieProperty, payload []byte) (v drivers.Value, ok bool) {
	s := string(payload)
	switch hp.Datatype {
	case "boolean":
		return drivers.BoolValue(s == "true"), s == "true" || s == "false"
	case "integer":
		n, err := strconv.ParseInt(s, 10, 64)
		return drivers.IntValue(n), err == nil
	case "float":
		n, err := drivers.ParseNumber(s)
		return n, err == nil
	case "enum":
		return drivers.TextValue(s), slices.Contains(strings.Split(hp.Format, ","), s)
	case "json":
		x, err := drivers.ParseValue(payload)
		return x, err == nil && x.Kind() == drivers.JSON
	}
	if s == "\x00" {
		s = ""
	}
	return drivers.TextValue(s), len(payload) > 0
}

func (h *homie) end(ctx context.Context) {
	if !h.begun {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(h.told)) {
		h.run.publish(ctx, retained(h.topic(h.told[name].id, "$state"), []byte("disconnected")))
	}
	h.run.publish(ctx, retained(h.topic(h.root, "$state"), []byte("disconnected")))
}
