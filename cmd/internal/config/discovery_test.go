package config_test

import (
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

func TestDiscovery(t *testing.T) {
	for _, c := range []struct{ behaviour, text, want string }{
		{"all of it", "discovery: {devices: [homeassistant, sparkplug, homie], node: g-1, homeassistant: {prefix: a/b}, sparkplug: {group: Plant 1, primary_host: scada}, homie: {prefix: h}}\n", ""},
		{"an unknown convention", "discovery: {devices: [knx]}\n", `g.yaml:1:22: discovery.devices: "knx" is not one of homeassistant, sparkplug, homie`},
		{"a node of other signs", "discovery: {node: a/b}\n", `g.yaml:1:19: discovery.node: "a/b" is not a name`},
		{"a node without a letter", "discovery: {node: __}\n", `g.yaml:1:19: discovery.node: "__" is not a name`},
		{"a group of two levels", "discovery: {sparkplug: {group: a/b}}\n", `g.yaml:1:32: discovery.sparkplug.group: one level`},
		{"a host with a wildcard", "discovery: {sparkplug: {primary_host: \"+\"}}\n", `g.yaml:1:39: discovery.sparkplug.primary_host: one level`},
		{"an empty prefix", "discovery: {homie: {prefix: \"\"}}\n", `g.yaml:1:29: discovery.homie.prefix: one level`},
		{"a prefix with a wildcard", "discovery: {homeassistant: {prefix: \"a/#\"}}\n", `g.yaml:1:37: discovery.homeassistant.prefix: "a/#" is not a topic`},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			_, err := config.Parse("g.yaml", []byte(c.text), nil)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("want it taken, got %v", err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}
