package modbus

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// errUntold says that nothing tells when equipment is back: it is tried again and again.
var errUntold = errors.New("nothing tells when it is back")

// Await implements [drivers.Awaiter]: it waits for the port of a line.
func (d *Driver) Await(ctx context.Context, cfg drivers.Config, why error) error {
	spec, err := decodeDevice(cfg, d.opts.Profiles)
	if err != nil {
		return err
	}
	return d.await(ctx, spec.transport, why)
}

// Await implements [drivers.Awaiter].
func (d serverDriver) Await(ctx context.Context, cfg drivers.Config, why error) error {
	spec, err := decodeServer(cfg)
	if err != nil {
		return err
	}
	return d.driver.await(ctx, spec.place.serial, why)
}

// Await implements [drivers.Awaiter].
func (d simDriver) Await(ctx context.Context, cfg drivers.Config, why error) error {
	spec, err := decodeSimulator(cfg, d.driver.opts.Formula)
	if err != nil {
		return err
	}
	return d.driver.await(ctx, spec.place.serial, why)
}

func (d *Driver) await(ctx context.Context, t transport, why error) error {
	if t.kind != kindSerial || d.opts.Appear == nil || strings.HasPrefix(t.serial.Port, pseudoPort) {
		return errUntold
	}
	return d.opts.Appear(ctx, t.serial.Port, errors.Is(why, fs.ErrNotExist))
}
