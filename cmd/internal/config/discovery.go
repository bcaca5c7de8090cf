package config

import "strings"

// Discovery publishes the devices in the words of others, so that they find them.
type Discovery struct {
	// Devices are the conventions for every device whose file does not name any:
	// homeassistant, sparkplug, homie; default none.
	Devices []string `yaml:"devices"`
	// Node names this gateway in identifiers and topics, of letters, digits, "_" and
	// "-"; default "gatehouse". It differs for each gateway that others see.
	Node string `yaml:"node"`
	// HomeAssistant is Home Assistant MQTT discovery.
	HomeAssistant DiscoveryHomeAssistant `yaml:"homeassistant"`
	// Sparkplug is the Sparkplug B edge node.
	Sparkplug DiscoverySparkplug `yaml:"sparkplug"`
	// Homie is Homie 5.
	Homie DiscoveryHomie `yaml:"homie"`
}

// DiscoveryHomeAssistant are the keys of Home Assistant MQTT discovery.
type DiscoveryHomeAssistant struct {
	// Prefix is the discovery prefix; default homeassistant.
	Prefix string `yaml:"prefix"`
}

// DiscoverySparkplug are the keys of the Sparkplug B edge node.
type DiscoverySparkplug struct {
	// Group is the group identifier; default Gatehouse.
	Group string `yaml:"group"`
	// PrimaryHost is the host application without which nothing is published;
	// default none.
	PrimaryHost string `yaml:"primary_host"`
}

// DiscoveryHomie are the keys of Homie 5.
type DiscoveryHomie struct {
	// Prefix is the first level of its topics; default homie.
	Prefix string `yaml:"prefix"`
}

func defaultDiscovery() Discovery {
	return Discovery{
		Node:          "gatehouse",
		HomeAssistant: DiscoveryHomeAssistant{Prefix: "homeassistant"},
		Sparkplug:     DiscoverySparkplug{Group: "Gatehouse"},
		Homie:         DiscoveryHomie{Prefix: "homie"},
	}
}

func (d *Discovery) check(fail func(key, format string, args ...any)) {
	for _, c := range d.Devices {
		if !oneOf(c, "homeassistant", "sparkplug", "homie") {
			fail("devices", "%q is not one of homeassistant, sparkplug, homie", c)
		}
	}
	word := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	if strings.IndexFunc(d.Node, word) >= 0 || strings.Trim(d.Node, "_-") == "" {
		fail("node", `%q is not a name of letters, digits, "_" and "-"`, d.Node)
	}
	for _, l := range []struct{ key, level string }{
		{"sparkplug.group", d.Sparkplug.Group}, {"sparkplug.primary_host", d.Sparkplug.PrimaryHost + "x"}, {"homie.prefix", d.Homie.Prefix},
	} {
		if l.level == "" || strings.ContainsFunc(l.level, func(r rune) bool { return r < ' ' || strings.ContainsRune("/+#", r) }) {
			fail(l.key, "one level of a topic is needed, without /, + and #")
		}
	}
	if p := d.HomeAssistant.Prefix; p == "" || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == '+' || r == '#' }) {
		fail("homeassistant.prefix", "%q is not a topic", p)
	}
}
