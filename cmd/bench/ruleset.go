package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ruleset is the same rules for the gateway and for Node-RED.
type ruleset struct {
	files map[string]string // of the gateway's folder
	flows []node            // Node-RED's, beside what it always has
}

// node is one node of a flow as Node-RED's file has it.
type node map[string]any

// A rule that tells when the rules are at work: it answers bench/ready.
const (
	readyTopic  = "bench/ready"
	readyAnswer = "bench/readied"
	readyYAML   = "  - {name: ready, on: bench/ready, do: [{publish: bench/readied, payload: here}]}\n"
	readyJS     = "on('bench/ready', () => publish('bench/readied', 'here'))\n"
)

// write puts the gateway's rules into a folder.
func (r *ruleset) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range r.files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// yaml is a rule file; the rules are the lines of a list.
func yaml(rules ...string) string { return "rules:\n" + strings.Join(rules, "") + readyYAML }

const passOn = `publish: "bench/out/${parts[2]}", payload: "${payload.stamp}"`

// doorRules fires on every message: R1.
func doorRules() *ruleset {
	in := mqttIn("in", ruleFilter, "if")
	open := switchOn("if", "payload.open", node{"t": "true"}, "set")
	return &ruleset{
		files: map[string]string{"door.yaml": yaml("  - {name: door, on: bench/in/+, if: payload.open == true, do: [{" + passOn + "}]}\n")},
		flows: []node{in, open, passOnNode("set"), mqttOut("out")},
	}
}

// topicRules has a rule for the topic of each publisher: R3.
func topicRules(n int) *ruleset {
	var lines []string
	flows := []node{mqttOut("out")}
	for i := range n {
		lines = append(lines, fmt.Sprintf("  - {name: door %d, on: bench/in/%d, if: payload.open == true, do: [{publish: bench/out/%d, payload: \"${payload.stamp}\"}]}\n", i, i, i))
		in, open, set := fmt.Sprintf("in%d", i), fmt.Sprintf("if%d", i), fmt.Sprintf("set%d", i)
		flows = append(flows, mqttIn(in, fmt.Sprintf(ruleTopic, i), open), switchOn(open, "payload.open", node{"t": "true"}, set), passOnNode(set))
	}
	return &ruleset{files: map[string]string{"doors.yaml": yaml(lines...)}, flows: flows}
}

// wildcardRules all hear every message, of which one fires: R4. Node-RED decodes a
// message once for all of them.
func wildcardRules(n int) *ruleset {
	var lines, ids []string
	flows := []node{mqttOut("out")}
	for i := range n {
		lines = append(lines, fmt.Sprintf("  - {name: door %d, on: bench/in/+, if: payload.id == %d, do: [{%s}]}\n", i, ruleID(i), passOn))
		is, set := fmt.Sprintf("if%d", i), fmt.Sprintf("set%d", i)
		ids = append(ids, is)
		flows = append(flows, switchOn(is, "payload.id", node{"t": "eq", "v": fmt.Sprint(ruleID(i)), "vt": "num"}, set), passOnNode(set))
	}
	flows = append(flows, mqttIn("in", ruleFilter, ids...))
	return &ruleset{files: map[string]string{"doors.yaml": yaml(lines...)}, flows: flows}
}

// meanRules calculates over the last ten messages of each topic: R6.
func meanRules() *ruleset {
	const flow = `const last = context.get(msg.topic) || []
last.push(msg.payload.value)
if (last.length > 10) last.shift()
context.set(msg.topic, last)
let sum = 0
for (const v of last) sum += v
return { topic: msg.topic.replace('in', 'out'), payload: { stamp: msg.payload.stamp, value: sum / last.length } }`
	return &ruleset{
		files: map[string]string{"mean.yaml": yaml("  - name: mean of a room\n    on: bench/in/+\n    windows:\n      mean: {avg: payload.value, last: 10, by: topic}\n" +
			"    do:\n      - publish: bench/out/${parts[2]}\n        payload: {stamp: \"${payload.stamp}\", value: \"${windows.mean}\"}\n")},
		flows: []node{mqttIn("in", ruleFilter, "mean"), function("mean", flow, "out"), mqttOut("out")},
	}
}

// countScript counts the messages of each topic, after a loop: R7.
func countScript() *ruleset {
	const loop = "  let sum = 0\n  for (let i = 0; i < 50; i++) sum += i * msg.payload.value\n"
	return &ruleset{
		files: map[string]string{"count.js": "on('bench/in/+', (msg) => {\n" + loop +
			"  const n = (state.get(msg.topic) || 0) + 1\n  state.set(msg.topic, n)\n" +
			"  publish('bench/out/' + msg.parts[2], { stamp: msg.payload.stamp, value: n, sum })\n})\n" + readyJS},
		flows: []node{mqttIn("in", ruleFilter, "count"), function("count", loop+
			"const n = (context.get(msg.topic) || 0) + 1\ncontext.set(msg.topic, n)\n"+
			"return { topic: msg.topic.replace('in', 'out'), payload: { stamp: msg.payload.stamp, value: n, sum } }", "out"), mqttOut("out")},
	}
}

// doorScript is doorRules in JavaScript.
func doorScript() *ruleset {
	return &ruleset{
		files: map[string]string{"door.js": "on('bench/in/+', (msg) => {\n" +
			"  if (msg.payload.open) publish('bench/out/' + msg.parts[2], msg.payload.stamp)\n})\n" + readyJS},
		flows: []node{mqttIn("in", ruleFilter, "door"), function("door",
			"if (msg.payload.open) return { topic: msg.topic.replace('in', 'out'), payload: msg.payload.stamp }", "out"), mqttOut("out")},
	}
}

// manyRules is n rules in files of a hundred, for topics that nobody publishes to.
func manyRules(n int) *ruleset {
	r := &ruleset{files: map[string]string{"ready.yaml": yaml()}, flows: []node{mqttOut("out")}}
	const together = 100
	for first := 0; first < n; first += together {
		text := "rules:\n"
		for i := first; i < min(n, first+together); i++ {
			text += fmt.Sprintf("  - {name: door %d, on: home/%d/door, if: payload.open == true && payload.battery > 20, do: [{publish: home/%d/light/set, payload: {on: true, since: \"${payload.at}\"}}]}\n", i, i, i)
			in, open, set := fmt.Sprintf("in%d", i), fmt.Sprintf("if%d", i), fmt.Sprintf("set%d", i)
			r.flows = append(r.flows, mqttIn(in, fmt.Sprintf("home/%d/door", i), open), switchOn(open, "payload.open", node{"t": "true"}, set), passOnNode(set))
		}
		r.files[fmt.Sprintf("doors-%d.yaml", first)] = text
	}
	return r
}

// manyScripts is n scripts with a handler and state each.
func manyScripts(n int) *ruleset {
	r := &ruleset{files: map[string]string{"ready.js": readyJS}, flows: []node{mqttOut("out")}}
	for i := range n {
		r.files[fmt.Sprintf("door-%d.js", i)] = fmt.Sprintf("on('home/%d/door', (msg) => {\n  const n = (state.get('n') || 0) + 1\n  state.set('n', n)\n"+
			"  if (msg.payload.open) publish('home/%d/light/set', { on: true, n })\n})\n", i, i)
		in, do := fmt.Sprintf("in%d", i), fmt.Sprintf("do%d", i)
		r.flows = append(r.flows, mqttIn(in, fmt.Sprintf("home/%d/door", i), do), function(do, fmt.Sprintf("const n = (context.get('n') || 0) + 1\n"+
			"context.set('n', n)\nif (msg.payload.open) return { topic: 'home/%d/light/set', payload: { on: true, n } }", i), "out"))
	}
	return r
}
