package broker_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// conversation encodes packets after a CONNECT.
func conversation(f *testing.F, version packet.Version, packets ...packet.Packet) []byte {
	f.Helper()
	b, err := packet.Append(nil, &packet.Connect{
		Version: version, ClientID: "f", Clean: true, KeepAlive: 10, Properties: packet.ConnectProperties{TopicAliasMaximum: 2},
	}, version)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range packets {
		if b, err = packet.Append(b, p, version); err != nil {
			f.Fatal(err)
		}
	}
	return b
}

// FuzzConn sends bytes to a server, which must neither panic nor hang, and must
// end the connection when the client does.
func FuzzConn(f *testing.F) {
	sub := &packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: "a/#", Options: packet.SubscribeOptions{QoS: 2}}, {Filter: "$share/g/a", Options: packet.SubscribeOptions{QoS: 1}},
	}}
	for _, version := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		f.Add(conversation(f, version))
		f.Add(conversation(f, version, sub,
			&packet.Publish{Topic: "a/b", QoS: 2, ID: 5, Payload: []byte("x"), Retain: true},
			&packet.Publish{Topic: "a", QoS: 1, ID: 6}, &packet.Publish{Topic: "a"},
			&packet.Ack{Kind: packet.PUBREL, ID: 5}, &packet.Ack{Kind: packet.PUBREC, ID: 1}, &packet.Ack{Kind: packet.PUBCOMP, ID: 1},
			&packet.Ack{Kind: packet.PUBACK, ID: 2}, &packet.Pingreq{}, &packet.Unsubscribe{ID: 2, Filters: []string{"a/#"}},
			&packet.Disconnect{}))
	}
	f.Add(conversation(f, packet.V5, &packet.Publish{Topic: "a", Properties: packet.PublishProperties{TopicAlias: 1}},
		&packet.Publish{Properties: packet.PublishProperties{TopicAlias: 1, UserProperties: []message.Property{{Key: "k"}}}}))
	f.Add(conversation(f, packet.V5, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$queue/a"}, {Filter: "$share/g/a", Options: packet.SubscribeOptions{QoS: 2}}}},
		&packet.Publish{Topic: "$delayed/0/a", QoS: 2, ID: 1}, &packet.Publish{Topic: "$delayed/1/a", QoS: 1, ID: 2}, &packet.Publish{Topic: "$delayed/x"}))
	f.Add([]byte{0xc0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		server, err := broker.New(options())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		listener := newPipes()
		var ended sync.WaitGroup
		ended.Go(func() { _ = server.Run(ctx) })
		ended.Go(func() { _ = server.Serve(ctx, listener) })
		nc, err := listener.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		talk(t, nc, sent)
		cancel()
		hung := time.AfterFunc(patience, func() { panic("the server hangs") })
		ended.Wait()
		hung.Stop()
		if stats := server.Stats(); stats.Connections != 0 || stats.Clients != 0 {
			t.Errorf("left: %+v", stats)
		}
	})
}

// talk sends bytes, reads what comes, and leaves.
func talk(t *testing.T, nc net.Conn, sent []byte) {
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(io.Discard, nc) })
	_, err := nc.Write(sent)
	if late, ok := err.(net.Error); ok && late.Timeout() { //nolint:errorlint // it is not wrapped
		t.Error("the server does not read")
	}
	if err := nc.Close(); err != nil {
		t.Error(err)
	}
	reader.Wait()
}
