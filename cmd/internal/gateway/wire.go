package gateway

import (
	"context"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/drivers"
)

// wire is the wires of the devices, for the console.
type wire struct{ devices *drivers.Host }

// Tap implements console.Wire.
func (w wire) Tap(ctx context.Context, device string, write func(console.Traffic) error) error {
	traffic, stop, err := w.devices.Tap(device)
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

// Send implements console.Wire.
func (w wire) Send(ctx context.Context, device string, b []byte) error {
	return w.devices.Send(ctx, device, b)
}
