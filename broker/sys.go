package broker

import (
	"strconv"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// sweepEvery is how often retained messages that have expired are cleared; nobody
// is sent one in the meantime.
const sweepEvery = time.Minute

// status publishes the $SYS/broker topics, retained, and sweeps, until the server
// stops.
func (srv *Server) status() {
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
		case <-srv.stopping.Done():
			return
		}
	}
}

func (srv *Server) publishStatus() {
	if srv.opts.StatusEvery < 0 {
		return
	}
	s := srv.Stats()
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	for _, t := range []struct{ name, value string }{
		{"version", srv.opts.Version},
		{"uptime", number(int64(s.Uptime/time.Second)) + " seconds"},
		{"clients/connected", number(int64(s.Clients))},
		{"clients/total", number(int64(s.Sessions))},
		{"subscriptions/count", number(int64(s.Subscriptions))},
		{"retained messages/count", number(int64(s.Retained))},
		{"messages/received", number(s.Received[0] + s.Received[1] + s.Received[2])},
		{"messages/sent", number(s.Sent[0] + s.Sent[1] + s.Sent[2])},
	} {
		m := message.Message{Topic: "$SYS/broker/" + t.name, Payload: []byte(t.value), Retain: true, At: b.now}
		b.add(pub{msg: m, private: true})
	}
	b.run()
}
