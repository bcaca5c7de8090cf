package plugins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/internal/codec"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// Bounds of calls that the callers leave without a deadline.
const (
	checkTimeout = 10 * time.Second
	closeTimeout = 10 * time.Second
)

// driver is a driver that a plugin offers. Two are equal if they stand for the same
// driver of the same manifest.
type driver struct {
	slot    *slot
	name    string
	edition int
}

var _ drivers.Driver = driver{}

// Check implements drivers.Driver. While the plugin is down the error is
// ErrNotRunning, not a *drivers.ConfigError.
func (d driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	inst, err := d.slot.current()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	reply, err := inst.driver.Check(ctx, &wire.CheckRequest{Driver: d.name, Config: codec.ConfigTo(cfg)})
	if err != nil {
		return nil, fmt.Errorf("cannot check device %q: %w", cfg.Device, inst.failure(ctx, err))
	}
	if err := codec.ErrorFrom(reply.GetError()); err != nil {
		return nil, err
	}
	return codec.PointsFrom(reply.GetPoints()), nil
}

// Open implements drivers.Driver.
func (d driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	inst, err := d.slot.current()
	if err != nil {
		return nil, err
	}
	dev := &device{inst: inst, name: cfg.Device, id: inst.devices.Add(1)}
	reply, err := inst.driver.Open(ctx, &wire.OpenRequest{Driver: d.name, Config: codec.ConfigTo(cfg), Device: dev.id})
	if err != nil {
		_ = dev.Close() // it may have opened just when ctx ended
		return nil, fmt.Errorf("cannot open device %q: %w", cfg.Device, inst.failure(ctx, err))
	}
	if err := codec.ErrorFrom(reply.GetError()); err != nil {
		return nil, err
	}
	dev.points = codec.PointsFrom(reply.GetPoints())
	if !reply.GetPushes() {
		return dev, nil
	}
	return openPusher(dev), nil
}

// failure is what a call's error means: that the caller gave up, that the process
// is gone and the device with it, or something else.
func (i *instance) failure(ctx context.Context, err error) error {
	code := status.Code(err)
	switch {
	case i.down() || code == codes.Unavailable:
		return fmt.Errorf("%w: plugin %q has stopped", drivers.ErrLost, i.manifest.Name)
	case ctx.Err() != nil:
		return fmt.Errorf("plugin %q: %w", i.manifest.Name, context.Cause(ctx))
	case code == codes.DeadlineExceeded: // just before ctx knows it
		return fmt.Errorf("plugin %q: %w", i.manifest.Name, context.DeadlineExceeded)
	case code == codes.Canceled: // the connection was closed
		return fmt.Errorf("%w: plugin %q is stopping", drivers.ErrLost, i.manifest.Name)
	}
	return fmt.Errorf("plugin %q: %w", i.manifest.Name, errors.New(status.Convert(err).Message()))
}
