package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nodeRed is mosquitto, and Node-RED as npm has put it into a folder, which hears and
// publishes there.
func nodeRed(folder, mosquittoBinary string) side {
	s := mosquitto(mosquittoBinary)
	s.name, s.red = "node-red", folder
	return s
}

// errNoNodeRed says that Node-RED is not installed.
var errNoNodeRed = errors.New("make bench installs it if npm is there")

// redFound makes the folder's path one that any folder can be left for. Without
// Node-RED it says how to get it.
func (s *side) redFound() error {
	folder, err := filepath.Abs(s.red)
	if err != nil {
		return err
	}
	s.red = folder
	for _, file := range []string{s.node(), s.redScript()} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%q is missing (%w)", file, errNoNodeRed)
		}
	}
	return nil
}

func (s side) node() string { return filepath.Join(s.red, "node_modules/.bin/node") }
func (s side) redScript() string {
	return filepath.Join(s.red, "node_modules/node-red/red.js")
}

func (s side) redVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, s.node(), "-p", "'Node-RED ' + require('"+filepath.Join(s.red, "node_modules/node-red/package.json")+"').version + ' on Node ' + process.version").Output()
	return strings.TrimSpace(string(out)), err
}

// redBeside prepares a Node-RED for the broker of p. Its folder is that of p.
func (p *process) redBeside(ctx context.Context, s side, n needs) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	p.admin = fmt.Sprintf("http://127.0.0.1:%d/flows", port)
	flows, err := p.flows(n.rules)
	if err != nil {
		return nil, err
	}
	settings := fmt.Sprintf("module.exports = {flowFile: 'flows.json', uiHost: '127.0.0.1', uiPort: %d, telemetry: {enabled: false, updateNotification: false}, "+
		"logging: {console: {level: 'warn'}}}\n", port)
	for name, text := range map[string]string{"flows.json": string(flows), "settings.js": settings} {
		if err := os.WriteFile(filepath.Join(p.folder, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	red := &process{binary: s.node(), folder: p.folder, args: []string{
		s.redScript(), "--userDir", p.folder, "--settings", filepath.Join(p.folder, "settings.js"),
	}}
	return red, red.launch()
}

// flows is Node-RED's file for the broker of p.
func (p *process) flows(r *ruleset) ([]byte, error) {
	nodes := []node{
		{"id": "tab", "type": "tab", "label": "bench"},
		{
			"id": "broker", "type": "mqtt-broker", "broker": p.address.Addr().String(), "port": fmt.Sprint(p.address.Port()),
			"autoConnect": true, "protocolVersion": "4", "keepalive": "60", "cleansession": true,
		},
	}
	if r != nil {
		nodes = append(nodes, r.flows...)
	}
	nodes = append(nodes, mqttOut("readied"), node{
		"id": "answer", "type": "change", "z": "tab",
		"rules": []node{{"t": "set", "p": "topic", "pt": "msg", "to": readyAnswer, "tot": "str"}}, "wires": [][]string{{"readied"}},
	}, mqttIn("ready", readyTopic, "answer"))
	return json.Marshal(nodes)
}

// deploy gives Node-RED other flows, as a press on Deploy does.
func (p *process) deploy(ctx context.Context, r *ruleset) error {
	flows, err := p.flows(r)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.admin, bytes.NewReader(flows))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Node-RED-Deployment-Type", "full") // as Deploy does by default
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("POST /flows was answered with %s: %s", answer.Status, text)
	}
	return errors.Join(err, answer.Body.Close())
}

func mqttIn(id, filter string, to ...string) node {
	return node{"id": id, "type": "mqtt in", "z": "tab", "topic": filter, "qos": "0", "datatype": "json", "broker": "broker", "nl": false, "rap": true, "inputs": 0, "wires": [][]string{to}}
}

func mqttOut(id string) node {
	return node{"id": id, "type": "mqtt out", "z": "tab", "topic": "", "qos": "0", "retain": "", "broker": "broker", "wires": []string{}}
}

func switchOn(id, property string, rule node, to string) node {
	return node{"id": id, "type": "switch", "z": "tab", "property": property, "propertyType": "msg", "rules": []node{rule}, "checkall": "true", "outputs": 1, "wires": [][]string{{to}}}
}

// passOnNode answers with the stamp.
func passOnNode(id string) node {
	return node{"id": id, "type": "change", "z": "tab", "rules": []node{
		{"t": "change", "p": "topic", "pt": "msg", "from": "in", "fromt": "str", "to": "out", "tot": "str"},
		{"t": "set", "p": "payload", "pt": "msg", "to": "payload.stamp", "tot": "msg"},
	}, "wires": [][]string{{"out"}}}
}

func function(id, code, to string) node {
	return node{"id": id, "type": "function", "z": "tab", "func": code, "outputs": 1, "timeout": 0, "initialize": "", "finalize": "", "libs": []string{}, "wires": [][]string{{to}}}
}
