package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// at is a broker of this process that listens on an address.
func at(address string) *process {
	p := self()
	p.address = netip.MustParseAddrPort(address)
	return p
}

// serve runs a broker for the test.
func serve(t *testing.T) *process {
	s := brokertest.Start(t, broker.Options{
		Store: mem.New(), Authorizer: brokertest.Everyone(), StatusEvery: -1,
		Limits: broker.Limits{QueueMessages: 3000},
	})
	return at(s.Address())
}

// try does one short run.
func try(t *testing.T, p *process, o *options, prepare func(context.Context, *process, *options) (trial, error)) result {
	t.Helper()
	tr, err := prepare(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	for enough := false; !enough; { // on a busy machine few messages come in one slice
		if err = tr.slice(t.Context(), 50*time.Millisecond); err != nil {
			t.Error(err)
			break
		}
		te, ok := tr.(*test)
		enough = !ok || te.delivered >= 50
	}
	r, err := tr.result(t.Context())
	if err != nil {
		t.Error(err)
	}
	if err := tr.close(); err != nil {
		t.Error(err)
	}
	return r
}

func TestLoadsLoseNothing(t *testing.T) {
	for name, l := range map[string]load{
		"one to one":  {publishers: 1, subscribers: 1, filter: "bench/+", burst: 1, window: 4},
		"fan-in":      {publishers: 5, subscribers: 1, filter: "bench/+", burst: 1, window: 4},
		"bursts":      {publishers: 5, subscribers: 1, filter: "bench/+", burst: 4, window: 4},
		"QoS 1":       {publishers: 5, subscribers: 1, filter: "bench/+", qos: message.AtLeastOnce, burst: 1, window: 4},
		"QoS 2":       {publishers: 5, subscribers: 1, filter: "bench/+", qos: message.ExactlyOnce, burst: 2, window: 4},
		"fan-out":     {publishers: 1, subscribers: 5, filter: "bench/0", burst: 1, window: 4},
		"pairs":       {publishers: 5, subscribers: 5, burst: 1, window: 4},
		"by the rate": {publishers: 5, subscribers: 1, filter: "bench/+", burst: 1, rate: 1000},
	} {
		for _, version := range []packet.Version{packet.V311, packet.V5} {
			t.Run(name+", MQTT "+version.String(), func(t *testing.T) {
				r := try(t, serve(t), &options{version: version, size: 50}, l.prepare)
				if r.faults != (faults{}) {
					t.Error(r.faults)
				}
				if r.values[cpuPerMessage] <= 0 || r.values[perSecond] <= 0 {
					t.Errorf("measured %v", r.values)
				}
				if latency := r.values[p50]; (latency > 0) != (l.rate > 0) || r.values[p99] < latency {
					t.Errorf("latencies are %v and %v", latency, r.values[p99])
				}
			})
		}
	}
}

func TestOtherRowsLoseNothing(t *testing.T) {
	for name, row := range map[string]struct {
		prepare func(context.Context, *process, *options) (trial, error)
		metric  metric
	}{
		"retained": {prepareStored(3000, true), seconds},
		"drain":    {prepareStored(3000, false), thousands},
		"connect":  {prepareChurn, cpuEach},
		"idle":     {prepareIdle, perConnection},
		"start":    {prepareStart, megabytes},
	} {
		for _, version := range []packet.Version{packet.V311, packet.V5} {
			t.Run(name+", MQTT "+version.String(), func(t *testing.T) {
				t.Parallel()
				r := try(t, serve(t), &options{version: version, size: 50, idle: 100}, row.prepare)
				if r.faults != (faults{}) {
					t.Error(r.faults)
				}
				if _, ok := r.values[row.metric]; !ok {
					t.Errorf("measured %v", r.values)
				}
			})
		}
	}
}

// meddler is between the load and the broker. Of the messages for subscribers it
// drops the 10th, doubles the 20th, and lets the 30th and 31st change places.
type meddler struct {
	broker string
	ended  sync.WaitGroup
}

func meddle(t *testing.T, broker *process) *process {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{broker: broker.address.String()}
	m.ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.ended.Go(func() { m.relay(t, conn) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		m.ended.Wait()
	})
	return at(l.Addr().String())
}

func (m *meddler) relay(t *testing.T, client net.Conn) {
	server, err := net.Dial("tcp", m.broker)
	if err != nil {
		t.Error(err)
		return
	}
	m.ended.Go(func() {
		_, _ = io.Copy(server, client) // until the client goes
		server.Close()
	})
	defer client.Close()
	var in, out, late []byte
	buf := make([]byte, 4096)
	for messages := 0; ; {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		in, out = append(in, buf[:n]...), out[:0]
		for {
			f, err := nextFrame(in)
			if err != nil {
				t.Error(err)
				return
			}
			if f.size == 0 {
				break
			}
			whole := in[:f.size]
			in = in[f.size:]
			if f.kind == packet.PUBLISH {
				messages++
			}
			switch {
			case f.kind != packet.PUBLISH:
				out = append(out, whole...)
			case messages == 10:
			case messages == 20:
				out = append(append(out, whole...), whole...)
			case messages == 30:
				late = append(late, whole...)
			default:
				out = append(append(out, whole...), late...)
				late = nil
			}
		}
		if _, err := client.Write(out); err != nil {
			return
		}
	}
}

func TestFaultsAreFound(t *testing.T) {
	want := faults{lost: 1, twice: 1, disordered: 1}
	l := load{publishers: 1, subscribers: 1, filter: "bench/+", burst: 1, window: 4}
	r := try(t, meddle(t, serve(t)), &options{version: packet.V311, size: 50}, l.prepare)
	if r.faults != want {
		t.Errorf("%+v, want %+v", r.faults, want)
	}
	r = try(t, meddle(t, serve(t)), &options{version: packet.V311, size: 50}, prepareStored(100, false))
	if r.faults != want {
		t.Errorf("queued: %+v, want %+v", r.faults, want)
	}
	want.disordered = 0 // retained messages have no order
	r = try(t, meddle(t, serve(t)), &options{version: packet.V311, size: 50}, prepareStored(100, true))
	if r.faults != want {
		t.Errorf("retained: %+v, want %+v", r.faults, want)
	}
}
