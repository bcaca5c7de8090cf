package discovery_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
)

// tck holds what an edge node says against the statements of Sparkplug 3.0.0 about edge
// nodes, by their tck-id. A session may have begun before the first message.
type tck struct {
	t       *testing.T
	seq     int64 // the next one; -1 before the first NBIRTH
	bdSeq   int64 // of the last birth or death; -1 before
	alive   bool
	aliases map[string]string // the metric of each alias
	born    map[string]bool   // devices
}

// number is a number of a decoded payload, which comes as a text where it is long.
func number(raw json.RawMessage) int64 {
	n, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// wantSparkplug judges all messages of an edge node, in their order.
func wantSparkplug(t *testing.T, all []spoken) {
	t.Helper()
	c := &tck{t: t, seq: -1, bdSeq: -1, aliases: make(map[string]string), born: make(map[string]bool)}
	for i := range all {
		s := &all[i]
		verb, device, _ := strings.Cut(s.verb, " ")
		want := func(ok bool, ids ...string) {
			if !ok {
				t.Errorf("message %d, %s: %s", i, s.line(), strings.Join(ids, ", "))
			}
		}
		c.envelope(verb, device, s, want)
		switch verb {
		case "NBIRTH":
			c.nbirth(s, want)
		case "NDEATH":
			c.ndeath(s, want)
		case "DBIRTH":
			want(c.alive, "message-flow-device-birth-publish-nbirth-wait", "principles-birth-certificates-order")
			c.born[device] = true
			c.metrics(device, s, true, want)
		case "DDATA":
			want(c.born[device], "payloads-ddata-order")
			c.metrics(device, s, false, want)
		case "DDEATH":
			want(c.born[device], "operational-behavior-device-ddeath")
			delete(c.born, device)
		default:
			want(false, "topic-structure")
		}
	}
}

// envelope judges how a message is sent.
func (c *tck) envelope(verb, device string, s *spoken, want func(bool, ...string)) {
	qos := message.AtMostOnce
	if verb == "NDEATH" {
		qos = message.AtLeastOnce
	}
	want(s.msg.QoS == qos && !s.msg.Retain, "topics-nbirth-mqtt", "topics-dbirth-mqtt", "topics-ddata-mqtt", "topics-ddeath-mqtt", "payloads-ndeath-will-message-qos")
	want((device != "") == strings.HasPrefix(verb, "D"), "topic-structure-namespace-device-id-associated-message-types")
	want(number(s.Timestamp) > 0, "topics-nbirth-timestamp", "payloads-ddata-timestamp", "payloads-ddeath-timestamp")
	switch {
	case verb == "NDEATH":
		want(s.Seq == nil, "topics-ndeath-seq")
		return
	case verb == "NBIRTH":
		c.seq = 0 // payloads-sequence-num-zero-nbirth
	}
	want(number(s.Seq) == c.seq, "payloads-sequence-num-incrementing", "payloads-sequence-num-always-included")
	c.seq = (c.seq + 1) % 256
}

func (c *tck) nbirth(s *spoken, want func(bool, ...string)) {
	i := slices.IndexFunc(s.Metrics, func(m spMetric) bool { return m.Name == "bdSeq" })
	want(i >= 0, "topics-nbirth-bdseq-included")
	bdSeq := number(s.Metrics[max(i, 0)].Value)
	want(s.Metrics[max(i, 0)].Type == "Int64", "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq")
	switch {
	case c.alive:
		want(bdSeq == c.bdSeq, "operational-behavior-data-commands-rebirth-action-3")
	case c.bdSeq >= 0:
		want(bdSeq == (c.bdSeq+1)%256, "topics-nbirth-bdseq-increment")
	}
	i = slices.IndexFunc(s.Metrics, func(m spMetric) bool { return m.Name == "Node Control/Rebirth" })
	want(i >= 0, "operational-behavior-data-commands-rebirth-name")
	rebirth := s.Metrics[max(i, 0)]
	want(rebirth.Type == "Boolean" && string(rebirth.Value) == "false", "operational-behavior-data-commands-rebirth-datatype", "operational-behavior-data-commands-rebirth-value")
	want(rebirth.Alias == nil, "operational-behavior-data-commands-rebirth-name-aliases")
	clear(c.aliases)
	clear(c.born)
	c.alive, c.bdSeq = true, bdSeq
	for _, m := range s.Metrics {
		want(m.Timestamp != nil && m.Type != "", "payloads-name-birth-data-requirement", "payloads-metric-datatype-req")
	}
}

func (c *tck) ndeath(s *spoken, want func(bool, ...string)) {
	want(len(s.Metrics) == 1 && s.Metrics[0].Name == "bdSeq" && s.Metrics[0].Type == "Int64", "topics-ndeath-payload")
	bdSeq := number(s.Metrics[0].Value)
	want(!c.alive || bdSeq == c.bdSeq, "payloads-ndeath-bdseq")
	clear(c.born)
	c.alive, c.bdSeq = false, bdSeq
}

// metrics judges those of a device's birth or data.
func (c *tck) metrics(device string, s *spoken, birth bool, want func(bool, ...string)) {
	last := int64(0)
	for _, m := range s.Metrics {
		alias := strings.Trim(string(m.Alias), `"`)
		if birth {
			want(m.Name != "" && alias != "", "payloads-alias-birth-requirement")
			want(m.Type != "", "topics-dbirth-metrics", "payloads-metric-datatype-req")
			known, taken := c.aliases[alias]
			want(!taken || known == device+" "+m.Name, "payloads-alias-uniqueness")
			c.aliases[alias] = device + " " + m.Name
		} else {
			want(m.Name == "" && strings.HasPrefix(c.aliases[alias], device+" "), "payloads-alias-data-cmd-requirement")
		}
		want(m.Timestamp != nil && number(m.Timestamp) > 0, "payloads-name-birth-data-requirement")
		if !m.IsHistorical {
			want(number(m.Timestamp) >= last, "operational-behavior-data-publish-dbirth-order")
			last = number(m.Timestamp)
		}
		if q, has := m.Properties["Quality"]; has {
			want(q.Type == "Int32" && slices.Contains([]int64{0, 192, 500}, number(q.Value)), "payloads-propertyset-quality-value-type", "payloads-propertyset-quality-value-value")
		}
	}
}
