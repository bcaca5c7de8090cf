package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// controlPeriod is how long a change takes at most, from poll to poll; a run has as
	// many changes as fit into its time four times over.
	controlPeriod = 10 * time.Millisecond
	controlTimes  = 4
	// controlLate is after how long a change that nothing came of counts as lost.
	controlLate = 2 * time.Second
	// controlBaud is the speed of the line, and lineSilence what a master keeps before
	// a request there (Modbus over Serial Line V1.02 §2.5.1.1).
	controlBaud = 115200
	lineSilence = 1750 * time.Microsecond
)

const (
	doorYAML = "  - {name: follow, on: plc/door, do: [{publish: plc/lamp/set, payload: \"${payload}\"}]}\n"
	doorJS   = "on('plc/door', (msg) => publish('plc/lamp/set', msg.payload))\n" + readyJS
)

// controlRows are those from a device over a rule back to the device.
func controlRows() []row {
	var all []row
	for _, line := range []bool{false, true} {
		for _, r := range []struct {
			name  string
			files map[string]string
		}{
			{"YAML", map[string]string{"follow.yaml": yaml(doorYAML)}},
			{"JavaScript", map[string]string{"follow.js": doorJS}},
		} {
			all = append(all, row{
				name:  fmt.Sprintf("wire -> %s -> wire, %s", r.name, map[bool]string{false: "TCP", true: "RTU"}[line]),
				alone: true, needs: needs{rules: &ruleset{files: r.files}},
				prepare: prepareControl(line), bounds: []bound{{p99, atMost, 2000}},
			})
		}
	}
	return all
}

// control is a Modbus unit whose first register changes when the change before has come
// back: a rule writes it into another register. That one is too far away to be read
// together with the first, which the read-back after a write must not change.
type control struct {
	least  int           // changes a run
	line   time.Duration // what the line itself takes from a reading to a write
	stop   func() error
	enough chan struct{} // closed when there were so many
	all    sync.WaitGroup

	mu      sync.Mutex
	door    uint16
	pending bool
	changed time.Time // when the answer with the change was sent
	took    []time.Duration
	faults  faults
}

func prepareControl(line bool) preparer {
	return func(_ context.Context, p *process, o *options) (trial, error) {
		t := &control{least: int(controlTimes * o.time / controlPeriod), enough: make(chan struct{})}
		place, err := t.listen(line)
		if err != nil {
			return nil, err
		}
		folder := filepath.Join(p.folder, "devices")
		file := "driver: modbus\n" + place + "\nevery: " + controlPeriod.String() +
			"\npoints:\n  door: {holding: 0}\n  lamp: {holding: 1000, writable: true, every: 1h}\n"
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, errors.Join(err, t.close())
		}
		// The folder is watched: the file must be whole when it is seen.
		whole := filepath.Join(p.folder, "plc")
		err = os.WriteFile(whole, []byte(file), 0o600)
		if err == nil {
			err = os.Rename(whole, filepath.Join(folder, "plc.yaml"))
		}
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		return t, nil
	}
}

// listen makes the unit, and says what leads to it.
func (t *control) listen(line bool) (place string, err error) {
	if line {
		t.line = lineSilence
		far, near, err := pair()
		if err != nil {
			return "", err
		}
		t.stop = func() error { return errors.Join(far.Close(), near.Close()) }
		t.all.Go(func() { t.serve(far, 0, 2) })
		return fmt.Sprintf("serial: {port: %s, baud: %d, parity: none}", near.Name(), controlBaud), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	t.stop = l.Close
	t.all.Go(func() {
		var conns []io.Closer
		defer func() {
			for _, c := range conns {
				_ = c.Close() // it may be closed
			}
		}()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			t.all.Go(func() { t.serve(c, 6, 0) })
		}
	})
	return "tcp: " + l.Addr().String(), nil
}

// pair opens a pseudo terminal; who opens its near end sets its mode.
func pair() (far, near *os.File, err error) {
	if far, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err != nil {
		return nil, nil, err
	}
	raw, err := far.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	n, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			n, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(err, failed); err == nil {
		// Held open, so that the far end does not hang up before.
		near, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	return far, near, nil
}

// serve answers requests, which all have the same length. Before the unit identifier
// comes a head of so many bytes, behind the PDU a tail; the head's last byte is the
// length of what follows.
func (t *control) serve(c io.ReadWriteCloser, head, tail int) {
	defer func() { _ = c.Close() }() // it may be closed
	frame := make([]byte, head+6+tail)
	for {
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		answer := t.answer(frame[head : head+6])
		if tail > 0 {
			answer = appendCRC(answer)
		} else {
			frame[head-1] = byte(len(answer))
			answer = append(slices.Clip(frame[:head]), answer...)
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// answer is the unit identifier and PDU that answers a request, which is about to leave.
func (t *control) answer(request []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	addr, n := binary.BigEndian.Uint16(request[2:]), binary.BigEndian.Uint16(request[4:])
	if request[1] == 6 {
		t.written(n, now)
		return request
	}
	if t.pending && now.Sub(t.changed) > controlLate {
		t.pending = false
		t.faults.lost++
	}
	if addr == 0 && !t.pending {
		t.door++
		t.pending, t.changed = true, now
	}
	answer := append(request[:2:2], byte(2*n))
	for i := range n {
		answer = binary.BigEndian.AppendUint16(answer, map[bool]uint16{true: t.door}[addr+i == 0])
	}
	return answer
}

// appendCRC adds the checksum of an RTU frame (Modbus over Serial Line V1.02, appendix B).
func appendCRC(frame []byte) []byte {
	crc := uint16(0xFFFF)
	for _, c := range frame {
		crc ^= uint16(c)
		for range 8 {
			crc = crc>>1 ^ crc&1*0xA001
		}
	}
	return binary.LittleEndian.AppendUint16(frame, crc)
}

// written notes that the lamp is written.
func (t *control) written(value uint16, now time.Time) {
	switch {
	case value != t.door:
		t.faults.strange++
	case !t.pending:
		t.faults.twice++
	default:
		t.pending = false
		if t.took = append(t.took, now.Sub(t.changed)-t.line); len(t.took) == t.least {
			close(t.enough)
		}
	}
}

func (t *control) slice(ctx context.Context, d time.Duration) error {
	// Nothing is looked at meanwhile: the load's thread would be in the way of the unit.
	late := time.NewTimer(d + time.Minute)
	defer late.Stop()
	select {
	case <-t.enough:
		return nil
	case <-late.C:
		return fmt.Errorf("fewer than %d changes came back", t.least)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *control) result(context.Context) (result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	warm := slices.Sorted(slices.Values(t.took[len(t.took)/10:])) // the first ones start things
	at := func(share float64) float64 {
		return float64(warm[int(share*float64(len(warm)-1))].Nanoseconds()) / 1e3
	}
	return result{values: map[metric]float64{p50: at(0.5), p99: at(0.99)}, faults: t.faults}, nil
}

func (t *control) close() error {
	err := t.stop()
	t.all.Wait()
	return err
}
