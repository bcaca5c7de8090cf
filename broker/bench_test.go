package broker_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// BenchmarkPublish has one client publish to n subscribers over real sockets, as
// fast as it goes; an operation is one publish.
func BenchmarkPublish(b *testing.B) {
	for _, qos := range []message.QoS{0, 1} {
		for _, n := range []int{1, 10} {
			b.Run(fmt.Sprintf("qos=%d/subscribers=%d", qos, n), func(b *testing.B) { benchmarkPublish(b, qos, n) })
		}
	}
}

func benchmarkPublish(b *testing.B, qos message.QoS, subscribers int) {
	s := brokertest.Start(b, options())
	got := make(chan int, subscribers)
	wanted := b.N
	for i := range subscribers {
		c := brokertest.Dial(b, s, v5(fmt.Sprint("sub", i), 0))
		subscribe(b, c, "bench/+", qos)
		go func() {
			n := 0
			for n < wanted {
				p, err := c.ReadPatiently()
				if err != nil {
					break
				}
				if pub := p.(*packet.Publish); pub.QoS > 0 {
					if c.Send(&packet.Ack{Kind: packet.PUBACK, ID: pub.ID}) != nil {
						break
					}
				}
				n++
			}
			got <- n
		}()
	}
	pub := brokertest.Dial(b, s, v5("pub", 0))
	payload := make([]byte, 64)
	b.ReportAllocs()
	b.ResetTimer()
	if qos == 0 {
		publishPaced(b, s, pub, payload, subscribers)
	} else {
		publishWindowed(b, pub, payload)
	}
	for range subscribers {
		<-got
	}
}

// publishPaced keeps behind what subscribers can take, so that nothing is dropped.
func publishPaced(b *testing.B, s *brokertest.Server, c *brokertest.Client, payload []byte, subscribers int) {
	b.Helper()
	for i := range b.N {
		send(b, c, &packet.Publish{Topic: "bench/x", Payload: payload})
		for i%64 == 63 && s.Stats().Sent[0] < int64(i-1024)*int64(subscribers) {
			runtime.Gosched()
		}
	}
}

func publishWindowed(b *testing.B, c *brokertest.Client, payload []byte) {
	b.Helper()
	const window = 256
	for i := range b.N {
		send(b, c, &packet.Publish{Topic: "bench/x", Payload: payload, QoS: 1, ID: uint16(i%window) + 1})
		if i >= window-1 {
			read(b, c)
		}
	}
}

// TestIdleConnectionIsSmall bounds what an idle connection takes of the heap.
func TestIdleConnectionIsSmall(t *testing.T) {
	s := brokertest.Start(t, options())
	const n = 500
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // twice, for what pools hold
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	connect, err := packet.Append(nil, v5("", 0), packet.V5)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	conns := make([]net.Conn, n)
	for i := range conns {
		nc, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = nc
		if _, err := nc.Write(connect); err != nil {
			t.Fatal(err)
		}
		if _, err := packet.Read(bufio.NewReaderSize(nc, 64), packet.V5, 0); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / n
	t.Logf("%d bytes of heap a connection, both ends", each)
	if each > 6<<10 {
		t.Errorf("an idle connection holds %d bytes of heap", each)
	}
	for _, nc := range conns {
		if err := nc.Close(); err != nil && err != io.EOF { //nolint:errorlint // it is not wrapped
			t.Error(err)
		}
	}
}
