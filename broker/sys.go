package broker

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// sweepEvery is how often retained messages that have expired are cleared; nobody
// is sent one in the meantime.
const sweepEvery = time.Minute

// status is what the $SYS/broker topics were when they were last published. It
// belongs to the goroutine that publishes them.
type status struct {
	told  map[string]string
	loads []load
	at    time.Time // of the last round
	// dropped are the counters when they were logged last.
	dropped [dropReasons]int64
	most    struct {
		clients int
		heap    uint64
	}
}

// load is how many times a minute something happens, averaged over 1, 5 and 15
// minutes: each round weighs the more, the longer it was.
type load struct {
	name     string
	before   int64
	averages [3]float64
}

var loadSpans = [3]struct {
	name    string
	minutes float64
}{{"1min", 1}, {"5min", 5}, {"15min", 15}}

// watch publishes the $SYS/broker topics, retained, and sweeps, until the server
// stops.
func (srv *Server) watch() {
	defer srv.recovered("status", nil)
	every := srv.opts.StatusEvery
	if every < 0 {
		every = time.Hour // publishes nothing
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	srv.publishStatus()
	for {
		select {
		case <-tick.C:
			srv.publishStatus()
		case <-sweep.C:
			b := srv.newBatch(srv.ctx, nil)
			srv.sweep(b)
			b.free()
			srv.tellDrops()
		case <-srv.stopping.Done():
			return
		}
	}
}

// loudDrops are the reasons that somebody may have to do something about: queues that
// are full, clients that are slow, a store that does not keep.
var loudDrops = []dropReason{dropQueue, dropAllQueues, dropSlow, dropStore, dropShared, dropRetained, dropDelayed}

// tellDrops logs how many messages were dropped since it was called last.
func (srv *Server) tellDrops() {
	var attrs []any
	for _, why := range loudDrops {
		now := srv.stats.dropped[why].Load()
		if n := now - srv.status.dropped[why]; n > 0 {
			attrs = append(attrs, dropNames[why], n)
		}
		srv.status.dropped[why] = now
	}
	if len(attrs) > 0 {
		srv.log.Warn("messages were dropped", attrs...)
	}
}

// report collects the topics that have another value than before.
type report struct {
	b    *batch
	told map[string]string
}

// publishStatus publishes what has changed: the topics of mosquitto(8), and below
// dropped some of our own.
func (srv *Server) publishStatus() {
	if srv.opts.StatusEvery < 0 {
		return
	}
	st := &srv.status
	if st.told == nil {
		st.told = make(map[string]string)
		st.at = srv.made
	}
	s := srv.Stats()
	r := &report{b: srv.newBatch(srv.ctx, nil), told: st.told}
	defer r.b.free()
	r.text("version", srv.opts.Version)
	r.text("timestamp", built())
	r.text("uptime", strconv.FormatInt(int64(s.Uptime/time.Second), 10)+" seconds")
	r.clients(&s, st)
	r.traffic(&s)
	r.held(&s, st)
	r.loads(&s, st)
	for name, n := range s.Dropped {
		r.number("dropped/"+name, n)
	}
	r.b.run()
}

func (r *report) text(name, value string) {
	if value == "" || r.told[name] == value {
		return
	}
	r.told[name] = value
	r.b.add(pub{
		msg:     message.Message{Topic: "$SYS/broker/" + name, Payload: []byte(value), Retain: true, At: r.b.now},
		private: true,
	})
}

func (r *report) number(name string, n int64) { r.text(name, strconv.FormatInt(n, 10)) }

func (r *report) clients(s *Stats, st *status) {
	st.most.clients = max(st.most.clients, s.Clients, s.MostClients)
	total := s.Sessions - s.Subscribers
	r.number("clients/total", int64(total))
	for _, name := range []string{"connected", "active"} { // the second is its old name
		r.number("clients/"+name, int64(s.Clients))
	}
	for _, name := range []string{"disconnected", "inactive"} {
		r.number("clients/"+name, int64(max(0, total-s.Clients)))
	}
	r.number("clients/maximum", int64(st.most.clients))
	r.number("clients/expired", s.Expired)
}

// traffic counts packets and bytes of the sockets, and PUBLISH packets and the bytes
// of their payloads and topics.
func (r *report) traffic(s *Stats) {
	r.number("messages/received", s.PacketsReceived)
	r.number("messages/sent", s.PacketsSent)
	r.number("bytes/received", s.SocketReceived)
	r.number("bytes/sent", s.SocketSent)
	r.number("publish/messages/received", sum(s.Received))
	r.number("publish/messages/sent", sum(s.Sent))
	r.number("publish/messages/dropped", s.drops())
	r.number("publish/bytes/received", sum(s.ReceivedBytes))
	r.number("publish/bytes/sent", sum(s.SentBytes))
}

func (r *report) held(s *Stats, st *status) {
	r.number("subscriptions/count", int64(s.Subscriptions))
	r.number("shared_subscriptions/count", int64(s.Shared))
	r.number("retained messages/count", int64(s.Retained))
	for _, name := range []string{"store/messages/count", "messages/stored"} { // the second is its old name
		r.number(name, int64(s.Retained)+s.Queued+s.InFlight+int64(s.Delayed))
	}
	r.number("store/messages/bytes", s.RetainedBytes+s.QueuedBytes+s.DelayedBytes)
	r.number("messages/delayed", int64(s.Delayed))
	heap := heapSize()
	st.most.heap = max(st.most.heap, heap)
	for _, name := range []string{"heap/current", "heap/current size"} { // as it is, and as its manual says
		r.number(name, int64(heap))
	}
	for _, name := range []string{"heap/maximum", "heap/maximum size"} {
		r.number(name, int64(st.most.heap))
	}
}

// loads publishes the averages.
func (r *report) loads(s *Stats, st *status) {
	counts := []load{
		{name: "connections", before: s.Connects},
		{name: "sockets", before: s.Accepted},
		{name: "bytes/received", before: s.SocketReceived},
		{name: "bytes/sent", before: s.SocketSent},
		{name: "messages/received", before: s.PacketsReceived},
		{name: "messages/sent", before: s.PacketsSent},
		{name: "publish/received", before: sum(s.Received)},
		{name: "publish/sent", before: sum(s.Sent)},
		{name: "publish/dropped", before: s.drops()},
	}
	if st.loads == nil {
		st.loads = make([]load, len(counts))
	}
	minutes := r.b.now.Sub(st.at).Minutes()
	st.at = r.b.now
	for i := range counts {
		l := &st.loads[i]
		l.round(counts[i].before, minutes)
		for j, span := range loadSpans {
			r.text("load/"+counts[i].name+"/"+span.name, strconv.FormatFloat(l.averages[j], 'f', 2, 64))
		}
	}
}

// round takes what was counted up to now, so many minutes after the last round.
func (l *load) round(count int64, minutes float64) {
	if minutes <= 0 {
		return
	}
	rate := float64(count-l.before) / minutes
	l.before = count
	for i, span := range loadSpans {
		fades := math.Exp(-minutes / span.minutes)
		l.averages[i] = rate + fades*(l.averages[i]-rate)
	}
}

func sum(n [3]int64) int64 { return n[0] + n[1] + n[2] }

func (s *Stats) drops() (n int64) {
	for _, dropped := range s.Dropped {
		n += dropped
	}
	return n
}

// built is when the program's source was committed, if it says so.
func built() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			return s.Value
		}
	}
	return ""
}

// heapSize is what objects take, in bytes.
func heapSize() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
