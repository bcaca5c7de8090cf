package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/internal/codec"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// device is a device that is open in a plugin. Its process cannot be replaced under
// it: when that ends, the device is lost.
type device struct {
	inst   *instance
	name   string
	id     uint64
	points []drivers.Point
}

var _ drivers.Device = (*device)(nil)

// Points implements drivers.Device.
func (d *device) Points() []drivers.Point { return d.points }

// Read implements drivers.Device.
func (d *device) Read(ctx context.Context, points []string) ([]drivers.Reading, error) {
	reply, err := d.inst.driver.Read(ctx, &wire.ReadRequest{Device: d.id, Points: points})
	if err != nil {
		return nil, d.inst.failure(ctx, err)
	}
	return codec.ReadingsFrom(reply.GetReadings()), codec.ErrorFrom(reply.GetError())
}

// Write implements drivers.Device.
func (d *device) Write(ctx context.Context, point string, v drivers.Value) error {
	reply, err := d.inst.driver.Write(ctx, &wire.WriteRequest{Device: d.id, Point: point, Value: codec.ValueTo(v)})
	if err != nil { // it may have reached the equipment
		return fmt.Errorf("%w: %w", drivers.ErrUncertain, d.inst.failure(ctx, err))
	}
	return codec.ErrorFrom(reply.GetError())
}

// Close implements drivers.Device. A device whose process is gone is closed.
func (d *device) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	reply, err := d.inst.driver.Close(ctx, &wire.CloseRequest{Device: d.id})
	if err != nil {
		if err = d.inst.failure(ctx, err); errors.Is(err, drivers.ErrLost) {
			return nil
		}
		return err
	}
	return codec.ErrorFrom(reply.GetError())
}

// pusher is a device that also speaks without being asked.
type pusher struct {
	*device
	words  chan drivers.Pushed // unbuffered: gRPC holds what waits, and then the plugin does
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

var _ drivers.Pusher = (*pusher)(nil)

func openPusher(d *device) *pusher {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pusher{device: d, words: make(chan drivers.Pushed), cancel: cancel}
	p.ended.Go(func() { p.hear(ctx) })
	return p
}

// Pushed implements drivers.Pusher.
func (p *pusher) Pushed() <-chan drivers.Pushed { return p.words }

// Close implements drivers.Device.
func (p *pusher) Close() error {
	p.cancel()
	p.ended.Wait()
	return p.device.Close()
}

// hear takes what the plugin says until the device is closed or lost.
func (p *pusher) hear(ctx context.Context) {
	defer close(p.words)
	stream, err := p.inst.driver.Pushed(ctx, &wire.PushedRequest{Device: p.id})
	for err == nil {
		err = p.pass(ctx, stream)
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return
	}
	if err = p.inst.failure(ctx, err); !errors.Is(err, drivers.ErrLost) {
		err = fmt.Errorf("%w: %w", drivers.ErrLost, err) // it cannot speak any more
	}
	select {
	case p.words <- drivers.Pushed{Err: err}:
	case <-ctx.Done():
	}
}

func (p *pusher) pass(ctx context.Context, stream grpc.ServerStreamingClient[wire.PushedReply]) error {
	reply, err := stream.Recv()
	if err != nil {
		return err
	}
	word := drivers.Pushed{Readings: codec.ReadingsFrom(reply.GetReadings()), Err: codec.ErrorFrom(reply.GetError())}
	select {
	case p.words <- word:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
