package broker_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// conversation encodes packets.
func conversation(f *testing.F, version packet.Version, packets ...packet.Packet) (b []byte) {
	f.Helper()
	for _, p := range packets {
		var err error
		if b, err = packet.Append(b, p, version); err != nil {
			f.Fatal(err)
		}
	}
	return b
}

// What the first argument of [FuzzConn] says, bit by bit: the version of a CONNECT
// that goes before the bytes (3 is none), and how it goes on.
const (
	fuzzVersion = 3 << 0 // 3.1, 3.1.1, 5.0, no CONNECT
	fuzzPipe    = 1 << 2 // not on a loop
	fuzzDeaf    = 1 << 3 // the client reads nothing
	fuzzHalf    = 1 << 4 // it closes its half first, and hears the server out
	fuzzPrompt  = 1 << 5 // it closes while the server may still write
)

// FuzzConn sends bytes to a running server, in pieces cut at random: behind a CONNECT,
// or with none. Whatever they are, the server ends the connection when the client
// does, serves another client as before, and holds no more memory than its limits say.
func FuzzConn(f *testing.F) {
	subscribe := &packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: "a/#", Options: packet.SubscribeOptions{QoS: 2}}, {Filter: "$share/g/a", Options: packet.SubscribeOptions{QoS: 1}},
	}}
	for i, version := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		f.Add(uint8(i), uint16(0), conversation(f, version, subscribe,
			&packet.Publish{Topic: "a/b", QoS: 2, ID: 5, Payload: []byte("x"), Retain: true},
			&packet.Publish{Topic: "a", QoS: 1, ID: 6}, &packet.Publish{Topic: "a"},
			&packet.Ack{Kind: packet.PUBREL, ID: 5}, &packet.Ack{Kind: packet.PUBREC, ID: 1}, &packet.Ack{Kind: packet.PUBCOMP, ID: 1},
			&packet.Ack{Kind: packet.PUBACK, ID: 2}, &packet.Pingreq{}, &packet.Unsubscribe{ID: 2, Filters: []string{"a/#"}},
			&packet.Disconnect{}))
	}
	f.Add(uint8(2), uint16(3), conversation(f, packet.V5, &packet.Publish{Topic: "a", Properties: packet.PublishProperties{TopicAlias: 1}},
		&packet.Publish{Properties: packet.PublishProperties{TopicAlias: 1, UserProperties: []message.Property{{Key: "k"}}}}))
	f.Add(uint8(2), uint16(0), conversation(f, packet.V5, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$queue/a"}, {Filter: "$share/g/a", Options: packet.SubscribeOptions{QoS: 2}}}},
		&packet.Publish{Topic: "$delayed/0/a", QoS: 2, ID: 1}, &packet.Publish{Topic: "$delayed/1/a", QoS: 1, ID: 2}, &packet.Publish{Topic: "$delayed/x"}))
	vectors := packetVectors(f)
	var all []byte
	for i, v := range vectors {
		f.Add(uint8(i), uint16(i), v)                    // in turn behind each version, and alone
		f.Add(uint8(fuzzVersion|fuzzPipe), uint16(1), v) // alone
		all = append(all, v...)
	}
	f.Add(uint8(2|fuzzHalf), uint16(9), all)
	one := newFuzzed(f)
	f.Fuzz(one.talk)
}

// packetVectors are the packets written as text in the tests of package packet, right
// and wrong ones.
func packetVectors(f *testing.F) (found [][]byte) {
	f.Helper()
	for _, name := range []string{"vectors_test.go", "malformed_test.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("packet", name), nil, 0)
		if err != nil {
			f.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := literal(e)
			if b := packetBytes(text); ok && len(b) > 1 {
				found = append(found, b)
			}
			return !ok
		})
	}
	if len(found) < 150 {
		f.Fatalf("there are %d vectors, so they were sought wrongly", len(found))
	}
	return found
}

// literal is the text of a string literal, or of a sum of them.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		right, too := literal(e.Y)
		return left + right, ok && too && e.Op == token.ADD
	default:
		return "", false
	}
}

// packetBytes reads "30 05 0001 'a' 'hi'"; nil is what is no such text.
func packetBytes(text string) (b []byte) {
	for word := range strings.FieldsSeq(text) {
		if quoted, ok := strings.CutPrefix(word, "'"); ok {
			b = append(b, strings.TrimSuffix(quoted, "'")...)
			continue
		}
		part, err := hex.DecodeString(word)
		if err != nil {
			return nil
		}
		b = append(b, part...)
	}
	return b
}

// fuzzed is a server that is fuzzed, and a client that has nothing to do with it.
type fuzzed struct {
	server *brokertest.Server
	unix   string
	pipes  *pipes
	canary *brokertest.Client
	topic  string
	n      int
}

func newFuzzed(f *testing.F) *fuzzed {
	o := options()
	o.Limits.QueueMessages, o.Limits.QueueBytes, o.Limits.Sessions = 10, 16<<10, 500
	o.Limits.Retained, o.Limits.RetainedBytes, o.Limits.Packet = 100, 1<<20, 256<<10
	z := &fuzzed{
		server: brokertest.Start(f, o), unix: filepath.Join(f.TempDir(), "s"), pipes: newPipes(), topic: rand.Text(),
	}
	l, err := net.Listen("unix", z.unix)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = z.server.Serve(ctx, l) })
	serving.Go(func() { _ = z.server.Serve(ctx, z.pipes) })
	f.Cleanup(func() { cancel(); serving.Wait() })
	z.canary = brokertest.Dial(f, z.server, v5(rand.Text(), 0))
	subscribe(f, z.canary, z.topic, 1)
	return z
}

// talk is one client that sends what it was given.
func (z *fuzzed) talk(t *testing.T, mode uint8, cuts uint16, sent []byte) {
	var nc net.Conn
	var err error
	if mode&fuzzPipe != 0 {
		nc, err = z.pipes.dial(t.Context())
	} else {
		nc, err = net.Dial("unix", z.unix)
	}
	if err != nil {
		t.Fatal(err)
	}
	if version := packet.Version(mode&fuzzVersion) + packet.V31; version <= packet.V5 {
		hello, err := packet.Append(nil, &packet.Connect{Version: version, ClientID: "f", Clean: true, KeepAlive: 10, Properties: packet.ConnectProperties{TopicAliasMaximum: 2}}, version)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(hello, sent...)
	}
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	if mode&fuzzDeaf == 0 || mode&fuzzPipe != 0 { // a pipe holds nothing
		reader.Go(func() { _, _ = io.Copy(io.Discard, nc) })
	}
	r := mathrand.New(mathrand.NewPCG(uint64(cuts), 0))
	for len(sent) > 0 {
		part := sent
		if cuts != 0 {
			part = sent[:min(len(sent), 1+r.IntN(1+r.IntN(64)))]
		}
		if _, err := nc.Write(part); err != nil {
			if late, ok := err.(net.Error); ok && late.Timeout() && mode&fuzzDeaf == 0 { //nolint:errorlint // it is not wrapped
				t.Error("the server does not read")
			}
			break
		}
		sent = sent[len(part):]
	}
	if half, ok := nc.(*net.UnixConn); ok && mode&fuzzHalf != 0 && half.CloseWrite() == nil {
		reader.Wait()
	}
	if mode&fuzzPrompt == 0 {
		z.sing(t)
	}
	_ = nc.Close() // by the server already, perhaps
	reader.Wait()
	eventually(t, "the server has ended the connection", func() bool { return z.server.Stats().Connections == 1 })
	z.sing(t)
	z.weigh(t)
}

// sing has the canary send itself a message.
func (z *fuzzed) sing(t *testing.T) {
	t.Helper()
	z.n++
	song := strconv.Itoa(z.n)
	send(t, z.canary, &packet.Publish{Topic: z.topic, QoS: 1, ID: 1, Payload: []byte(song)})
	for heard, acked := false, false; !heard || !acked; {
		switch p := read(t, z.canary).(type) {
		case *packet.Publish:
			heard = heard || string(p.Payload) == song
			send(t, z.canary, &packet.Ack{Kind: packet.PUBACK, ID: p.ID})
		case *packet.Ack:
			acked = true
		default:
			t.Fatalf("the canary got %+v", p)
		}
	}
}

// weigh looks, now and then, at how much memory is held.
func (z *fuzzed) weigh(t *testing.T) {
	if z.n%500 > 1 {
		return
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 128<<20 {
		t.Errorf("%d MiB are held after %d songs", m.HeapAlloc>>20, z.n)
	}
}
