package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// homeAssistant is Home Assistant MQTT discovery, a device a message
// (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
type homeAssistant struct {
	run     *run
	opts    HomeAssistantOptions
	told    map[string][]byte // what stands on each configuration topic
	begun   bool              // the gateway itself has been told
	waiting bool              // to speak again, after a birth message
}

func newHomeAssistant(r *run) *homeAssistant {
	return &homeAssistant{run: r, opts: r.opts.HomeAssistant, told: make(map[string][]byte)}
}

func (h *homeAssistant) name() string { return HomeAssistant }

// haConfig is the payload of a configuration topic.
type haConfig struct {
	Device       haDevice               `json:"dev"`
	Origin       haOrigin               `json:"o"`
	Components   map[string]haComponent `json:"cmps"`
	Availability []haTopic              `json:"avty,omitempty"`
	Mode         string                 `json:"avty_mode,omitempty"`
	QoS          int                    `json:"qos"`
}

type haDevice struct {
	IDs          []string `json:"ids"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"mf"`
	Model        string   `json:"mdl"`
	Version      string   `json:"sw,omitempty"`
	Via          string   `json:"via_device,omitempty"`
}

type haOrigin struct {
	Name    string `json:"name"`
	Version string `json:"sw,omitempty"`
}

type haTopic struct {
	Topic string `json:"t"`
}

// haComponent is one entity; one of nothing but its platform is removed.
type haComponent struct {
	Platform           string   `json:"p"`
	Name               string   `json:"name,omitempty"`
	UniqueID           string   `json:"unique_id,omitempty"`
	StateTopic         string   `json:"stat_t,omitempty"`
	ValueTemplate      string   `json:"val_tpl,omitempty"`
	AttributesTopic    string   `json:"json_attr_t,omitempty"`
	AttributesTemplate string   `json:"json_attr_tpl,omitempty"`
	CommandTopic       string   `json:"cmd_t,omitempty"`
	CommandTemplate    string   `json:"cmd_tpl,omitempty"`
	DeviceClass        string   `json:"dev_cla,omitempty"`
	StateClass         string   `json:"stat_cla,omitempty"`
	Unit               string   `json:"unit_of_meas,omitempty"`
	Category           string   `json:"ent_cat,omitempty"`
	Options            []string `json:"ops,omitempty"`
	PayloadOn          string   `json:"pl_on,omitempty"`
	PayloadOff         string   `json:"pl_off,omitempty"`
	StateOn            string   `json:"stat_on,omitempty"`
	StateOff           string   `json:"stat_off,omitempty"`
	PayloadPress       string   `json:"pl_prs,omitempty"`
	Min                *float64 `json:"min,omitempty"`
	Max                *float64 `json:"max,omitempty"`
	Step               *float64 `json:"step,omitempty"`
	Mode               string   `json:"mode,omitempty"`
}

// The name by which a configuration is known as one of ours.
const haOriginName = "Gatehouse"

func (h *homeAssistant) topic(id string) string { return h.opts.Prefix + "/device/" + id + "/config" }

// gatewayStatus is the topic that says whether the gateway itself is there.
func (h *homeAssistant) gatewayStatus() string { return h.run.opts.Node + "/gateway/status" }

func (h *homeAssistant) id(d *device) string { return h.run.opts.Node + "_" + h.run.id(h, d) }

func (h *homeAssistant) filters([]*device) []string {
	return []string{h.opts.Prefix + "/status", h.topic("+")}
}

func (h *homeAssistant) announce(ctx context.Context, devices []*device) {
	if !h.begun {
		h.begun = true
		h.run.publish(ctx, retained(h.gatewayStatus(), []byte("online")))
		h.tell(ctx, h.run.opts.Node, h.gateway())
	}
	for _, d := range devices {
		c := h.config(d)
		if len(c.Components) > 0 || h.told[h.topic(h.id(d))] != nil { // else it has yet to say something
			h.tell(ctx, h.id(d), c)
		}
	}
	h.clean(ctx)
}

// gateway is the configuration of the gateway itself, which the devices are behind.
func (h *homeAssistant) gateway() haConfig {
	node := h.run.opts.Node
	return haConfig{
		Device: haDevice{IDs: []string{node}, Name: node, Manufacturer: "Gatehouse", Model: "gateway", Version: h.run.opts.Version},
		Origin: haOrigin{Name: haOriginName, Version: h.run.opts.Version},
		Components: map[string]haComponent{"status": {
			Platform: "binary_sensor", Name: "Status", UniqueID: node + "_gateway_status", StateTopic: h.gatewayStatus(),
			PayloadOn: "online", PayloadOff: "offline", DeviceClass: "connectivity", Category: "diagnostic",
		}},
		QoS: 1,
	}
}

func (h *homeAssistant) config(d *device) haConfig {
	id := h.id(d)
	c := haConfig{
		Device: haDevice{
			IDs: []string{id}, Name: d.Name, Manufacturer: "Gatehouse", Model: d.Driver, Via: h.run.opts.Node,
		},
		Origin:       haOrigin{Name: haOriginName, Version: h.run.opts.Version},
		Components:   make(map[string]haComponent),
		Availability: []haTopic{{d.Topic + "/status"}, {h.gatewayStatus()}},
		Mode:         "all",
		QoS:          1,
	}
	ids := identify(d.names(), wordID, "_")
	for _, p := range d.known() {
		for suffix, e := range entities(d, p) {
			object := ids[p.Name] + suffix
			e.UniqueID = id + "_" + object
			c.Components[object] = e
		}
	}
	return c
}

// tell publishes a configuration, if it is another one than stands there. What it has
// no longer goes first: Home Assistant keeps what is merely not there any more.
func (h *homeAssistant) tell(ctx context.Context, id string, c haConfig) {
	topic := h.topic(id)
	payload := marshal(c)
	if bytes.Equal(payload, h.told[topic]) {
		return
	}
	var before haConfig
	if json.Unmarshal(h.told[topic], &before) == nil {
		without := c
		without.Components = maps.Clone(c.Components)
		gone := false
		for key, was := range before.Components {
			if is, still := c.Components[key]; !still || is.Platform != was.Platform {
				without.Components[key], gone = haComponent{Platform: was.Platform}, true
			}
		}
		if gone {
			h.run.publish(ctx, retained(topic, marshal(without)))
		}
	}
	h.told[topic] = payload
	h.run.publish(ctx, retained(topic, payload))
}

// marshal is the JSON of what always has one.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return []byte("{}") // never: they are texts and finite numbers
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// clean clears what an earlier run of this gateway has left of devices that are no more.
func (h *homeAssistant) clean(ctx context.Context) {
	wanted := map[string]bool{h.topic(h.run.opts.Node): true}
	for _, d := range h.run.of(h) {
		wanted[h.topic(h.id(d))] = true
	}
	for _, topic := range slices.Sorted(maps.Keys(h.told)) {
		if !wanted[topic] {
			h.clear(ctx, topic)
		}
	}
}

func (h *homeAssistant) clear(ctx context.Context, topic string) {
	if h.told[topic] == nil {
		return
	}
	delete(h.told, topic)
	h.run.publish(ctx, retained(topic, nil))
}

func (h *homeAssistant) forget(ctx context.Context, d *device) { h.clear(ctx, h.topic(h.id(d))) }

func (h *homeAssistant) status(context.Context, *device) {} // it hears the device's own topic

func (h *homeAssistant) values(context.Context, *device, []*point) {} // and those of points

// hear takes Home Assistant's birth message, and configurations of ours that stand from
// before.
func (h *homeAssistant) hear(_ context.Context, m *message.Message) {
	if m.Topic == h.opts.Prefix+"/status" {
		if string(m.Payload) == "online" && !m.Retain && !h.waiting {
			h.waiting = true
			h.run.timers.after(time.Duration(rand.Int64N(int64(h.opts.Delay))), h.repeat)
		}
		return
	}
	id, ours := strings.CutPrefix(m.Topic, h.opts.Prefix+"/device/")
	id = strings.TrimSuffix(id, "/config")
	var c haConfig
	if !ours || !m.Retain || h.told[m.Topic] != nil || json.Unmarshal(m.Payload, &c) != nil || c.Origin.Name != haOriginName {
		return
	}
	if node := h.run.opts.Node; id == node || c.Device.Via == node {
		h.told[m.Topic] = bytes.Clone(m.Payload)
	}
}

// repeat tells everything again.
func (h *homeAssistant) repeat(ctx context.Context) {
	h.waiting = false
	gateway := h.topic(h.run.opts.Node)
	h.run.publish(ctx, retained(gateway, h.told[gateway])) // the others are behind it
	for _, topic := range slices.Sorted(maps.Keys(h.told)) {
		if topic != gateway {
			h.run.publish(ctx, retained(topic, h.told[topic]))
		}
	}
}

func (h *homeAssistant) end(ctx context.Context) {
	if h.begun {
		h.run.publish(ctx, retained(h.gatewayStatus(), []byte("offline")))
	}
}

// entities are what a point is to Home Assistant, by what is added to its identifier.
func entities(d *device, p *point) map[string]haComponent {
	e := haComponent{Name: entityName(p.Name), StateTopic: p.topic, ValueTemplate: "{{ " + valueOf(d, p) + " }}"}
	if d.Together {
		e.StateTopic = d.Topic
	}
	if p.settable() {
		e.CommandTopic, e.CommandTemplate = p.topic+"/set", "{{ value | to_json }}"
		if d.Together {
			e.CommandTopic, e.CommandTemplate = d.Topic+"/set", "{{ {"+quote(p.Name)+": value} | to_json }}"
		}
	}
	switch {
	case len(p.Flags) > 0:
		return flagEntities(e, d, p)
	case len(p.Names) == 1 && p.settable():
		return map[string]haComponent{"": buttonEntity(e, d, p)}
	case len(p.Names) > 0:
		return map[string]haComponent{"": namedEntity(e, d, p)}
	case p.kind == boolean:
		return map[string]haComponent{"": switchEntity(e, d, p)}
	case p.kind.numeric():
		return map[string]haComponent{"": numberEntity(e, d, p)}
	case p.kind == text:
		e.Platform = "sensor"
		if p.settable() {
			e.Platform = "text"
		}
		return map[string]haComponent{"": e}
	}
	return nil // an object is no state
}

// valueOf is the template's expression of a point's value.
func valueOf(d *device, p *point) string {
	v := "value_json"
	if d.Together {
		v += ".get(" + quote(p.Name) + ")"
	}
	if d.Object {
		if d.Together {
			return "(" + v + " or {}).get('value')"
		}
		return v + ".get('value')"
	}
	return v
}

// quote is a text of the template language. A JSON text is one.
func quote(s string) string { return string(marshal(s)) }

// only has the entity be unknown while its value, v in the condition, is none that it can
// show: Home Assistant passes over such a state and would go on showing the one before.
// What is None is unknown (payload_reset of home-assistant.io/integrations/number.mqtt; so
// it is to selects and sensors), and the reading stands in an attribute of that name.
func (e *haComponent) only(value, condition string) {
	set := "{% set v = " + value + " %}"
	e.ValueTemplate = set + "{{ v if " + condition + " else None }}"
	e.AttributesTopic = e.StateTopic
	e.AttributesTemplate = set + `{{ ({} if v is not defined or v is none or ` + condition + ` else {"reading": v}) | to_json }}`
}

func buttonEntity(e haComponent, d *device, p *point) haComponent {
	e.Platform, e.StateTopic, e.ValueTemplate = "button", "", ""
	e.CommandTemplate = ""
	e.PayloadPress = string(drivers.TextValue(p.Names[0].Name).AppendJSON(nil))
	if d.Together {
		e.PayloadPress = "{" + quote(p.Name) + ":" + e.PayloadPress + "}"
	}
	return e
}

// namedEntity is what has a name. A value without one stays a number.
func namedEntity(e haComponent, d *device, p *point) haComponent {
	e.only(valueOf(d, p), "v is string")
	for _, n := range p.Names {
		e.Options = append(e.Options, n.Name)
	}
	e.Platform, e.DeviceClass = "sensor", "enum"
	if p.settable() {
		e.Platform, e.DeviceClass = "select", ""
	}
	return e
}

// switchEntity is what is on or off. The template writes true as True.
func switchEntity(e haComponent, d *device, p *point) haComponent {
	if !p.settable() {
		e.Platform, e.PayloadOn, e.PayloadOff, e.DeviceClass = "binary_sensor", "True", "False", binaryClass(p.Name)
		return e
	}
	e.Platform, e.StateOn, e.StateOff = "switch", "True", "False"
	e.PayloadOn, e.PayloadOff, e.CommandTemplate = "true", "false", ""
	if d.Together {
		e.PayloadOn, e.PayloadOff = "{"+quote(p.Name)+":true}", "{"+quote(p.Name)+":false}"
	}
	return e
}

func numberEntity(e haComponent, d *device, p *point) haComponent {
	e.Unit = p.Unit
	e.DeviceClass, e.StateClass = numberClass(p.Name, p.Unit)
	if p.Min.Equal(p.Max) && !p.Min.IsNull() { // there is nothing to set
		e.CommandTopic, e.CommandTemplate = "", ""
	}
	if e.CommandTopic == "" {
		e.Platform = "sensor"
		return e
	}
	low, high, step := bounds(p)
	e.Platform, e.StateClass, e.Mode = "number", "", "box"
	e.Min, e.Max, e.Step = &low, &high, &step
	e.only(valueOf(d, p), "v is number and "+string(marshal(low))+" <= v <= "+string(marshal(high)))
	e.CommandTemplate = ""
	if d.Together {
		e.CommandTemplate = "{{ {" + quote(p.Name) + ": value} | to_json }}"
	}
	return e
}

// bounds are those of a number that is set, as Home Assistant takes them: the lower one
// below the upper one, and no finer steps than thousandths. Without them it would take 1
// to 100 in steps of 1. Those that a point does not have are where doubles still count in
// its steps.
func bounds(p *point) (low, high, step float64) {
	const steps = 9e15
	step = 0.001
	if p.kind != number {
		step = 1
	}
	if f, ok := p.Step.Float(); ok {
		step = max(f, 0.001)
	}
	high = min(steps*step, math.MaxFloat64)
	low = -high
	least, hasLow := p.Min.Float()
	most, hasHigh := p.Max.Float()
	if hasLow {
		low, high = least, min(max(high, 2*least), math.MaxFloat64)
	}
	if hasHigh {
		high = most
	}
	if hasHigh && !hasLow {
		low = max(min(low, 2*most), -math.MaxFloat64)
	}
	return low, high, step
}

// flagEntities are a binary sensor a flag. Flags are written as an object, which no
// entity does.
func flagEntities(e haComponent, d *device, p *point) map[string]haComponent {
	names := make([]string, len(p.Flags))
	for i, f := range p.Flags {
		names[i] = f.Name
	}
	ids := identify(names, wordID, "_")
	all := make(map[string]haComponent, len(names))
	for _, flag := range names {
		f := e
		f.Platform, f.Name = "binary_sensor", entityName(e.Name+"_"+flag)
		f.CommandTopic, f.CommandTemplate = "", ""
		f.PayloadOn, f.PayloadOff, f.DeviceClass = "True", "False", binaryClass(flag)
		f.ValueTemplate = "{{ (" + valueOf(d, p) + " or {}).get(" + quote(flag) + ") }}"
		all["_"+ids[flag]] = f
	}
	return all
}

// entityName is a point's name for people: "supply_temperature" is "Supply temperature".
func entityName(name string) string {
	words := strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '/' }), " ")
	if words == "" {
		return name
	}
	first := []rune(words)[0]
	return strings.ToUpper(string(first)) + words[len(string(first)):]
}
