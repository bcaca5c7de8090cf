package modbus_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/modbus/linetest"
	"golang.org/x/sys/unix"
)

// ptyLine is a fakeLine whose ports are pseudo terminals.
type ptyLine struct {
	*fakeLine
	pair  *linetest.Line
	asked []time.Time // when the requests were written that the far end has not heard yet
}

// ptyPort is the near end of a ptyLine. It is gone when the line says so.
type ptyPort struct {
	filePort
	fd   int
	line *ptyLine
	far  *fakePort
}

// newPtyLine starts the far end: it hears requests and passes what the line makes of
// their answers.
func newPtyLine(t *testing.T, seed uint64, timeout time.Duration, units ...uint8) *ptyLine {
	t.Helper()
	pair, err := linetest.New(1_000_000, 10)
	if err != nil {
		t.Fatal(err)
	}
	l := &ptyLine{fakeLine: newFakeLine(seed, timeout, units...), pair: pair}
	l.char = 0 // the pair keeps time
	for _, u := range l.units {
		u.latency = 0
	}
	far, err := os.OpenFile(pair.B, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var hearing sync.WaitGroup
	hearing.Go(func() { l.hear(far) })
	t.Cleanup(func() {
		time.Sleep(3 * timeout) //nolint:forbidigo // real time: what is under way arrives
		if err := errors.Join(far.Close(), pair.Close()); err != nil {
			t.Error(err)
		}
		hearing.Wait()
	})
	l.port = &fakePort{line: l.fakeLine, wire: far, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	return l
}

// hear takes requests of eight bytes; what is none, after a port was closed in the
// midst of one, it forgets.
func (l *ptyLine) hear(far io.Reader) {
	var heard []byte
	buf := make([]byte, 256)
	for {
		n, err := far.Read(buf)
		if err != nil {
			return
		}
		for heard = append(heard, buf[:n]...); len(heard) >= 8; {
			frame := modbus.AppendCRC(append([]byte(nil), heard[:6]...))
			if string(frame) != string(heard[:8]) {
				heard = heard[1:]
				continue
			}
			heard = heard[8:]
			l.mu.Lock()
			port, asked := l.port, l.asked[0]
			l.asked = l.asked[1:]
			l.mu.Unlock()
			port.mu.Lock()
			port.sent, port.asked = port.sent+1, frame
			// What a busy machine makes later than any fault does is lost.
			port.latest = asked.Add(3 * l.timeout)
			port.mu.Unlock()
			l.request(port, frame)
		}
	}
}

// open is Options.OpenSerial.
func (l *ptyLine) open(context.Context, modbus.SerialConfig) (modbus.Port, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, err := unix.Open(l.pair.A, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l.opened++
	l.port = &fakePort{line: l.fakeLine, wire: l.port.wire, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	return &ptyPort{filePort: filePort{File: os.NewFile(uintptr(fd), l.pair.A)}, fd: fd, line: l, far: l.port}, nil
}

func (p *ptyPort) gone() bool {
	p.far.mu.Lock()
	defer p.far.mu.Unlock()
	return p.far.broken
}

func (p *ptyPort) Read(b []byte) (int, error) {
	if p.gone() {
		return 0, errUnplugged
	}
	return p.filePort.Read(b)
}

func (p *ptyPort) Write(b []byte) (int, error) {
	if p.gone() {
		return 0, errUnplugged
	}
	p.line.mu.Lock()
	p.line.asked = append(p.line.asked, time.Now())
	p.line.mu.Unlock()
	return p.File.Write(b)
}

func (p *ptyPort) ResetInput() error { return unix.IoctlSetInt(p.fd, unix.TCFLSH, unix.TCIFLUSH) }

func (p *ptyPort) Close() error { return errors.Join(p.filePort.Close(), p.File.Close()) }

// Two devices and a client share a real line, in real time.
func TestFaultsOfPseudoTerminalsGiveNoWrongValue(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for seed := range uint64(faultExchanges(2, 16)) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			line := newPtyLine(t, seed, timeout, 1, 2, 3)
			line.percent, line.faulty = 10, true
			d := newDriver(t, modbus.Options{OpenSerial: line.open})
			limit := faultExchanges(120, 1250)
			done := func() bool { return line.exchanges() >= limit }
			const transport = "serial: {port: /dev/fake, baud: 115200}"
			seen := []*witness{line.watch(1), line.watch(2), line.watch(3)}
			client := dial(t, d, modbus.Target{Serial: modbus.SerialConfig{Port: "/dev/fake", Baud: 115200}, Timeout: timeout})
			files := []drivers.Config{config(t, pairFile(transport, 1, timeout)), config(t, pairFile(transport, 2, timeout))}
			var all sync.WaitGroup
			for i, w := range seen[:2] {
				all.Go(func() {
					if err := pollPairs(d, files[i], w, seed, done); err != nil {
						t.Error(err)
					}
				})
			}
			all.Go(func() { askPairs(client, seen[2], seed, done) })
			all.Wait()
			line.tellFaults(t)
			t.Logf("the port was opened %d times", line.opened)
			for _, w := range seen {
				// A busy machine makes an answer later still.
				w.verdict(t, 3*timeout+time.Second)
			}
		})
	}
}
