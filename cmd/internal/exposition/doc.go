// Package exposition shows metrics to Prometheus and whatever else reads its text format
// 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
// A [Page] is what one scrape shows. It is filled anew for each, with numbers that are
// counted elsewhere:
//
//	handler := exposition.Handler(func(p *exposition.Page) {
//		p.Runtime()
//		p.Process(os.DirFS("/proc"))
//		p.Gauge("gatehouse_clients", "Connected MQTT clients.", 3)
//		p.Counter("gatehouse_received_messages_total", "PUBLISH packets received.", 12, "qos", "1")
//	})
//
// The usual library does more than this, and initializes itself, protocol buffers and
// readers of all of /proc at every start, whether or not anybody ever asks.
package exposition
