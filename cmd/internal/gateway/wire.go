package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/drivers"
)

// wire is the wires of the devices, for the console.
type wire struct {
	devices *drivers.Host
	program string // and its version
}

// retap is how long a recording waits before it looks for a wire again that is gone.
const retap = 250 * time.Millisecond

// Tap implements console.Wire.
func (w wire) Tap(ctx context.Context, device string, write func(console.Traffic) error) error {
	_, traffic, stop, err := w.devices.Tap(device)
	if err != nil {
		return err
	}
	defer stop()
	if err := write(console.Traffic{}); err != nil { // it is watched from now on
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t, ok := <-traffic:
			if !ok {
				return nil
			}
			if err := write(console.NewTraffic(t.At, t.Sent, t.Data, t.Lost)); err != nil {
				return err
			}
		}
	}
}

// Record implements console.Wire. A wire that is gone is waited for.
func (w wire) Record(ctx context.Context, device string, write func([]byte) error) error {
	for began := false; ; {
		what, traffic, stop, err := w.devices.Tap(device)
		if err != nil && (!began || errors.Is(err, drivers.ErrNoDevice)) {
			return err
		}
		if err == nil {
			err = w.record(ctx, device, what, traffic, began, write)
			stop()
			began = true
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retap):
		}
	}
}

// record writes what goes over a wire until it is gone; again is that it was before.
func (w wire) record(ctx context.Context, device string, what drivers.Wire, traffic <-chan drivers.Traffic, again bool, write func([]byte) error) error {
	head := drivers.RecordingHead{Device: device, Program: w.program, Wire: what, At: time.Now()}
	line, err := head.Append(nil)
	if again {
		line, err = drivers.AppendNote(nil, head.At, "the wire is back: "+what.Place)
	}
	for more := true; more; {
		if err == nil {
			err = write(line)
		}
		if err != nil {
			return err
		}
		var t drivers.Traffic
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t, more = <-traffic:
			line, err = t.AppendRecorded(line[:0])
		}
	}
	line, err = drivers.AppendNote(line[:0], time.Now(), "the wire is gone")
	if err != nil {
		return err
	}
	return write(line)
}

// Send implements console.Wire.
func (w wire) Send(ctx context.Context, device string, b []byte) error {
	return w.devices.Send(ctx, device, b)
}
