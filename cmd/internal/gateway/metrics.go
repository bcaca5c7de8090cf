package gateway

import (
	"os"
	"strconv"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/exposition"
	"github.com/gatehouse/gatehouse/drivers"
)

// metrics puts on a page what /metrics shows. Labels are never a topic or a client
// identifier, whose number has no bound.
func (g *Gateway) metrics(p *exposition.Page) {
	p.Runtime()
	p.Process(os.DirFS("/proc"))
	c := collector{g}
	c.broker(p)
	c.listeners(p)
	c.rules(p)
	c.devices(p)
	c.history(p)
	c.store(p)
	for _, plugin := range g.plugins.Status() {
		p.Counter("gatehouse_plugin_restarts_total", "Times a plugin was started again.", float64(plugin.Restarts), "plugin", plugin.Name)
	}
}

// collector reads the counters of the parts when it is asked.
type collector struct{ g *Gateway }

func (c collector) broker(p *exposition.Page) {
	st := c.g.broker.Stats()
	p.Gauge("gatehouse_connections", "Open sockets.", float64(st.Connections))
	p.Gauge("gatehouse_clients", "Connected MQTT clients.", float64(st.Clients))
	p.Gauge("gatehouse_sessions", "Sessions, connected or not.", float64(st.Sessions))
	p.Gauge("gatehouse_subscriptions", "Topic filters of all sessions.", float64(st.Subscriptions))
	p.Gauge("gatehouse_retained_messages", "Retained messages.", float64(st.Retained))
	p.Counter("gatehouse_connects_total", "Clients that connected.", float64(st.Connects))
	p.Counter("gatehouse_refused_connections_total", "Connections refused, by limit or CONNACK.", float64(st.Refused))
	for qos := range 3 {
		label := strconv.Itoa(qos)
		p.Counter("gatehouse_received_messages_total", "PUBLISH packets received.", float64(st.Received[qos]), "qos", label)
		p.Counter("gatehouse_sent_messages_total", "PUBLISH packets sent.", float64(st.Sent[qos]), "qos", label)
		p.Counter("gatehouse_received_bytes_total", "Payload and topic bytes received.", float64(st.ReceivedBytes[qos]), "qos", label)
		p.Counter("gatehouse_sent_bytes_total", "Payload and topic bytes sent.", float64(st.SentBytes[qos]), "qos", label)
	}
	p.Counter("gatehouse_internal_messages_total", "Messages that devices, rules and plugins published.", float64(st.Published))
	for reason, n := range st.Dropped {
		p.Counter("gatehouse_dropped_messages_total", "Messages that a subscriber or publisher lost.", float64(n), "reason", reason)
	}
	p.Counter("gatehouse_filter_drops_total", "Messages that a filter dropped.", float64(st.InterceptDrops))
	p.Counter("gatehouse_filter_rejects_total", "Messages that a filter rejected.", float64(st.InterceptRejects))
	p.Gauge("gatehouse_queued_messages", "Messages that wait in the queues of all sessions.", float64(st.Queued))
	p.Gauge("gatehouse_queued_bytes", "Their bytes.", float64(st.QueuedBytes))
	p.Gauge("gatehouse_queued_memory_bytes", "Their bytes that are in memory.", float64(st.QueuedInMemory))
	p.Gauge("gatehouse_in_flight_messages", "Messages sent to clients and not acknowledged yet.", float64(st.InFlight))
	p.Counter("gatehouse_paused_readers_total", "Times the reader of a client paused, because it published too fast.", float64(st.Paused))
}

func (c collector) listeners(p *exposition.Page) {
	for _, l := range c.g.opened() {
		st := l.Stats()
		p.Counter("gatehouse_listener_accepted_total", "Sockets that a listener took.", float64(st.Accepted), "listener", st.Name)
		for why, n := range st.Refused {
			p.Counter("gatehouse_listener_refused_total", "Connections of a listener that were refused.", float64(n), "listener", st.Name, "reason", why)
		}
		shown := l.Certificates()
		if len(shown) == 0 {
			continue
		}
		p.Counter("gatehouse_listener_handshakes_total", "TLS handshakes that were made.", float64(st.Handshakes), "listener", st.Name)
		for _, cert := range shown {
			p.Gauge("gatehouse_certificate_expires_seconds", "When a certificate expires, as Unix time.", float64(cert.Expires.Unix()),
				"listener", st.Name, "file", cert.File)
		}
	}
}

func (c collector) rules(p *exposition.Page) {
	broken := 0
	for _, f := range c.g.rules.Status() {
		if f.Err != nil {
			broken++
		}
		for _, r := range f.Rules {
			labels := []string{"file", f.File, "rule", r.Name}
			p.Counter("gatehouse_rule_heard_total", "Messages that a rule's filters matched.", float64(r.Counters.Heard), labels...)
			p.Counter("gatehouse_rule_fired_total", "Times a rule fired.", float64(r.Counters.Fired), labels...)
			p.Counter("gatehouse_rule_not_evaluated_total", "Messages without what a rule calculates with.", float64(r.Counters.NotEvaluated), labels...)
			p.Counter("gatehouse_rule_errors_total", "Runs of a rule that failed.", float64(r.Counters.Errors), labels...)
		}
	}
	p.Gauge("gatehouse_rule_files_broken", "Rule files whose newest version is not in force.", float64(broken))
}

func (c collector) devices(p *exposition.Page) {
	for _, d := range c.g.devices.Status() {
		online := 0.0
		if d.Online {
			online = 1
		}
		p.Gauge("gatehouse_device_online", "1 while a device answers.", online, "device", d.Name)
		p.Counter("gatehouse_device_reads_total", "Reads of a device.", float64(d.Counters.Reads), "device", d.Name)
		p.Counter("gatehouse_device_read_errors_total", "Reads that a device did not answer.", float64(d.Counters.ReadErrors), "device", d.Name)
		p.Counter("gatehouse_device_bad_readings_total", "Readings that a device refused.", float64(d.Counters.Bad), "device", d.Name)
		p.Counter("gatehouse_device_malformed_total", "What a device said and was not understood.", float64(d.Counters.Malformed), "device", d.Name)
		p.Counter("gatehouse_device_writes_total", "Writes to a device.", float64(d.Counters.Writes), "device", d.Name)
		p.Counter("gatehouse_device_write_errors_total", "Writes that failed.", float64(d.Counters.WriteErrors), "device", d.Name)
		p.Counter("gatehouse_device_refused_commands_total", "Commands that were not tried.", float64(d.Counters.Refused), "device", d.Name)
		p.Counter("gatehouse_device_published_total", "Readings that were published.", float64(d.Counters.Published), "device", d.Name)
		for name, n := range d.Metrics.Counters {
			p.Counter("gatehouse_device_driver_total", "What the driver of a device counted.", float64(n), "device", d.Name, "counter", name)
		}
		for name, v := range d.Metrics.Gauges {
			p.Gauge("gatehouse_device_driver", "Numbers of the driver of a device as they are now.", v, "device", d.Name, "gauge", name)
		}
		latency(p, "gatehouse_device_read_seconds", "How long reads of a device took that were answered.", &d.Reads, d.Name)
		latency(p, "gatehouse_device_exchange_seconds", "How long single requests to a device took to their answer.", &d.Metrics.Exchanges, d.Name)
	}
}

// latencyBounds are the upper bounds of the buckets that /metrics shows.
var latencyBounds = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// latency shows how long something of a device took, if anything was measured.
func latency(p *exposition.Page, name, help string, l *drivers.Latency, device string) {
	if l.Count == 0 {
		return
	}
	buckets := make([]exposition.Bucket, len(latencyBounds))
	for i, b := range latencyBounds {
		buckets[i] = exposition.Bucket{Most: b.Seconds(), Count: l.Within(b)}
	}
	p.Histogram(name, help, l.Count, l.Sum.Seconds(), buckets, "device", device)
}

func (c collector) history(p *exposition.Page) {
	st := c.g.history.Stats()
	p.Gauge("gatehouse_history_series", "Series of numbers that are kept.", float64(st.Series))
	p.Gauge("gatehouse_history_bytes", "What their chunks take of the store.", float64(st.Bytes))
	p.Counter("gatehouse_history_points_total", "Numbers kept.", float64(st.Points))
	p.Counter("gatehouse_history_unkept_total", "Numbers beyond the limit of series, or while the clock was not plausible.", float64(st.Unkept))
	p.Counter("gatehouse_history_lost_chunks_total", "Chunks that the store did not take, or that could not be read.", float64(st.Lost+st.Damaged))
}
