package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

func TestLedger(t *testing.T) {
	for _, c := range []struct {
		name      string
		sequences []uint64
		sent      uint64
		want      faults
	}{
		{"nothing sent", nil, 0, faults{}},
		{"all came", []uint64{0, 1, 2}, 3, faults{}},
		{"none came", nil, 3, faults{lost: 3}},
		{"the first is lost", []uint64{1, 2}, 3, faults{lost: 1}},
		{"one in the middle is lost", []uint64{0, 2}, 3, faults{lost: 1}},
		{"the last are lost", []uint64{0}, 200, faults{lost: 199}},
		{"one twice", []uint64{0, 0, 1}, 2, faults{twice: 1}},
		{"one twice, later", []uint64{0, 1, 2, 0}, 3, faults{twice: 1}},
		{"one twice and one lost", []uint64{0, 0}, 2, faults{twice: 1, lost: 1}},
		{"two change places", []uint64{1, 0}, 2, faults{disordered: 1}},
		{"one late by far", []uint64{1, 2, 3, 64, 0}, 65, faults{disordered: 1, lost: 60}},
		{"one that was never sent", []uint64{0, 1}, 1, faults{strange: 1}},
		{"one that nobody can have sent", []uint64{1 << 60, 0}, 1, faults{strange: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l ledger
			for _, s := range c.sequences {
				l.enter(s)
			}
			if got := l.close(c.sent); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestStamp(t *testing.T) {
	payload := make([]byte, headerSize)
	stamp(payload, 7, 1<<40, 123)
	publisher, sequence, at, ok := readStamp(payload)
	if publisher != 7 || sequence != 1<<40 || at != 123 || !ok {
		t.Errorf("got %d %d %v %v", publisher, sequence, at, ok)
	}
	if _, _, _, ok := readStamp(payload[1:]); ok {
		t.Error("a short payload has a stamp")
	}
}

// self is this process as if it were a broker.
func self() *process { return &process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}} }

func TestProcessorTimeIsKnown(t *testing.T) {
	p := self()
	if err := p.look(); err != nil {
		t.Fatal(err)
	}
	var s sum
	var done int64
	err := s.measure(p, &done, func() error {
		for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
			continue
		}
		done += 2
		return nil
	})
	if err != nil || s.done != 2 || s.cpu <= 0 || s.took < 20*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	if got, want := s.each(), float64(s.cpu.Microseconds())/2; got < want-1 || got > want+1 {
		t.Errorf("%v us each, want %v", got, want)
	}
}

func TestChildrenAreCounted(t *testing.T) {
	// The child waits for a line until its input is closed, the shell for the child.
	cmd := exec.Command("sh", "-c", "exec 3<&0; (read line <&3) & wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	for deadline := time.Now().Add(5 * time.Second); err == nil; {
		var all, alone int64
		if all, err = p.rss(); err == nil {
			alone, err = resident(cmd.Process.Pid)
		}
		if len(p.pids) == 2 && all > alone*5/4 {
			break
		}
		if time.Now().After(deadline) {
			err = errors.New("the child is not counted")
		}
	}
	if err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the status is that of read, which failed
	if _, err := p.cpu(); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

func TestOthersAreWhoIsNeitherLoadNorBroker(t *testing.T) {
	w := watch{start: time.Unix(100, 0), busy: 50 * time.Second, own: 20 * time.Second}
	later := watch{start: time.Unix(110, 0), busy: 65 * time.Second, own: 30 * time.Second}
	if got := w.others(later, 2); got != 0.25 {
		t.Errorf("others used %v of two processors, want 0.25", got)
	}
	later.own = 40 * time.Second // clocks are not exact
	if got := w.others(later, 2); got != 0 {
		t.Errorf("others used %v, want 0", got)
	}
	before, err := newWatch()
	if err != nil {
		t.Fatal(err)
	}
	for time.Since(before.start) < 50*time.Millisecond {
		continue
	}
	after, err := newWatch()
	if err != nil || after.own <= before.own || after.busy < before.busy {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}

func TestFrames(t *testing.T) {
	for _, version := range []packet.Version{packet.V311, packet.V5} {
		for _, qos := range []message.QoS{message.AtMostOnce, message.AtLeastOnce, message.ExactlyOnce} {
			p, err := newTemplate("a/b", qos, false, 200, version)
			if err != nil {
				t.Fatal(err)
			}
			if qos > message.AtMostOnce {
				p.setID(0x1234)
			}
			stamp(p.bytes[p.payload:], 5, 6, 7)
			p.bytes[p.topic] = 'c'
			for n := range p.bytes {
				if f, err := nextFrame(p.bytes[:n]); f.size != 0 || err != nil {
					t.Fatalf("%d of %d bytes: %+v, %v", n, len(p.bytes), f, err)
				}
			}
			f, err := nextFrame(append(bytes.Clone(p.bytes), 0xff))
			if err != nil || f.kind != packet.PUBLISH || f.size != len(p.bytes) {
				t.Fatalf("%+v, %v", f, err)
			}
			d, err := f.delivery(version)
			publisher, sequence, _, _ := readStamp(d.payload)
			if err != nil || string(d.topic) != "c/b" || d.qos != qos || publisher != 5 || sequence != 6 || len(d.payload) != 200 {
				t.Errorf("%s, QoS %d: %+v, %v", version, qos, d, err)
			}
			if want := uint16(0x1234); qos > message.AtMostOnce && d.id != want {
				t.Errorf("%s, QoS %d: packet identifier %x", version, qos, d.id)
			}
		}
	}
	for _, bad := range []string{"\x30\x80\x80\x80\x80\x00", "\x30\x01a", "\x30\x03\x00\x02a", "\x32\x03\x00\x01a"} {
		f, err := nextFrame([]byte(bad))
		if err == nil {
			_, err = f.delivery(packet.V311)
		}
		if err == nil {
			t.Errorf("no error for %x", bad)
		}
	}
}

func TestAcks(t *testing.T) {
	for kind, want := range map[packet.Type]string{
		packet.PUBACK: "\x40\x02\x12\x34", packet.PUBREC: "\x50\x02\x12\x34",
		packet.PUBREL: "\x62\x02\x12\x34", packet.PUBCOMP: "\x70\x02\x12\x34",
	} {
		b := appendAck(nil, kind, 0x1234)
		f, err := nextFrame(b)
		if err != nil || string(b) != want {
			t.Fatalf("%x, %v", b, err)
		}
		if id, err := f.ack(); id != 0x1234 || err != nil {
			t.Errorf("%x, %v", id, err)
		}
	}
	for body, fails := range map[string]bool{"\x00\x01\x10": false, "\x00\x01\x97\x00": true, "\x00": true} {
		if _, err := (frame{kind: packet.PUBACK, body: []byte(body)}).ack(); (err != nil) != fails {
			t.Errorf("%x: %v", body, err)
		}
	}
}

func TestAMessageTakesNoMemory(t *testing.T) {
	p, err := newTemplate("bench/0", message.AtLeastOnce, false, 100, packet.V311)
	if err != nil {
		t.Fatal(err)
	}
	te := &test{load: load{burst: 1}, version: packet.V311}
	te.pubs = []*publisher{{template: p, name: "bench/0", sequence: make([]uint64, 1), fan: 1}}
	s := &subscriber{conn: &conn{out: make([]byte, 0, 64)}, ledgers: []*ledger{{}}}
	te.wake(te.pubs[0])
	var sequence uint64
	if n := testing.AllocsPerRun(1000, func() {
		stamp(p.bytes[p.payload:], 0, sequence, clock())
		sequence++
		f, err := nextFrame(p.bytes)
		if err == nil {
			err = te.subscriberGets(s, f)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.out = s.out[:0]
		te.ready, te.pubs[0].queued = te.ready[:0], false
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if f := s.ledgers[0].close(sequence); f != (faults{}) || te.delivered != int64(sequence) {
		t.Errorf("%d of %d messages, %+v", te.delivered, sequence, f)
	}
}

func TestTheGatewaysConfigurationNamesLimitsOnlyWhereNeeded(t *testing.T) {
	plain := gatehouseConfig(1883, needs{})
	if strings.Contains(plain, "limits") {
		t.Errorf("limits in\n%s", plain)
	}
	if got, want := gatehouseConfig(1883, needs{queue: 10, retained: 5}), plain+
		"  limits: {queue_messages: 10, queue_bytes: 10240, retained_messages: 1005}\n"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestEachRoutedTopicHasOneFilterAndItsOwner(t *testing.T) {
	p := &publisher{sequence: make([]uint64, routeSubscribers)}
	var err error
	if p.template, err = newTemplate(routeTopic, message.AtMostOnce, false, headerSize, packet.V311); err != nil {
		t.Fatal(err)
	}
	var tree topic.Tree[int]
	for i := range routeSubscribers {
		for j := range routeFilters {
			tree.Add(routeFilter(i, j), i)
		}
	}
	for _, each := range []int{1, routeFilters} {
		a, topics := &aims{each: each}, map[string]bool{}
		for range routeHeard * each {
			lane := a.next(p)
			f, err := nextFrame(p.bytes)
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.delivery(packet.V311)
			if err != nil {
				t.Fatal(err)
			}
			topics[string(d.topic)] = true
			if owners := slices.Collect(tree.Match(string(d.topic))); len(owners) != 1 || owners[0] != lane {
				t.Fatalf("%s goes to %v, want %d", d.topic, owners, lane)
			}
			if !a.meant(d.topic, lane) || a.meant(d.topic, lane+1) {
				t.Fatalf("%s is not known as meant for %d alone", d.topic, lane)
			}
		}
		if len(topics) != routeHeard*each {
			t.Errorf("%d topics, want %d", len(topics), routeHeard*each)
		}
	}
}

func TestTable(t *testing.T) {
	table := newTable([]side{{name: "a", ours: true}, {name: "mosquitto"}})
	table.rows = []row{
		{name: "r", bounds: []bound{{cpuPerMessage, timesPeer, 0.5}}},
		{name: "s", bounds: []bound{{growth, atMost, 1}}},
		{name: "t", bounds: []bound{{thousands, atLeast, 300}}},
	}
	for run, cpu := range []float64{3, 1, 2} {
		table.add("r", "a", run, result{values: map[metric]float64{cpuPerMessage: cpu}}, nil)
		table.add("r", "mosquitto", run, result{values: map[metric]float64{cpuPerMessage: 4}, faults: faults{lost: uint64(run)}}, nil)
	}
	table.add("s", "a", 0, result{values: map[metric]float64{growth: 1.5}}, nil)
	table.add("s", "mosquitto", 0, result{}, errors.New("did not end\nmore"))
	table.others["s"] = 0.25
	table.add("t", "a", 0, result{values: map[metric]float64{thousands: 301}}, nil)
	lines := strings.Split(table.String(), "\n")
	for i, want := range []string{
		"row metric a mosquitto a / mosquitto bound met",
		"r CPU us/msg 2.00 (1.00-3.00) 4.00 (4.00-4.00) 0.50 (0.25-0.75) 0.5 x yes VOID for mosquitto: 3 LOST",
		"s growth 1.50 - - <= 1 NO mosquitto: did not end; others used 25 % of the processors",
		"t k msg/s 301 - - >= 300 yes",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d: got\n%q, want\n%q", i, got, want)
		}
	}
	if table.faulty() || !table.failed("s", "mosquitto") || table.failed("s", "a") {
		t.Error("what a peer does is taken for ours, or is forgotten")
	}
	table.add("t", "a", 1, result{faults: faults{twice: 1}}, nil)
	if !table.faulty() || table.met(table.rows[2], table.rows[2].bounds[0], "a") != "NO" {
		t.Error("a fault of ours does not count")
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-only", "fan", "-mqtt", "5.0", "-ours", "old=/a", "-ours", "bin/gatehouse", "-peers", "mosquitto"})
	if err != nil || !o.only.MatchString("fan-in") || o.version != 5 {
		t.Fatalf("got %+v, %v", o, err)
	}
	var names []string
	for _, s := range o.sides() {
		names = append(names, s.name+"="+s.binary)
	}
	if want := "old=/a gatehouse=bin/gatehouse mosquitto=mosquitto"; strings.Join(names, " ") != want {
		t.Errorf("sides are %q, want %q", names, want)
	}
	for _, bad := range [][]string{
		{"-mqtt", "3.2"},
		{"-only", "("},
		{"-runs", "0"},
		{"-slices", "0"},
		{"-size", "19"},
		{"-size", "65537"},
		{"more"},
		{"-peers", "x"},
		{"-ours", "=x"},
		{"-ours", "a", "-ours", "b"},
		{"-ours", "mosquitto=a"},
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
