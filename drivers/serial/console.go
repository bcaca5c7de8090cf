package serial

import (
	"context"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Wire implements drivers.Wired.
func (d *device) Wire() drivers.Wire {
	return drivers.Wire{Protocol: drivers.ProtocolSerial, Place: "serial " + d.port.String(), Timeout: d.talk.timeout}
}

// Tap implements drivers.Wired.
func (d *device) Tap() (<-chan drivers.Traffic, func()) { return d.line.taps.Tap() }

// Send implements drivers.Wired.
func (d *device) Send(ctx context.Context, b []byte) error {
	l := d.line
	if err := l.turn.take(ctx, true); err != nil {
		return err
	}
	defer l.turn.give()
	if err := l.send(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastAt = time.Now()
	l.waryTill = l.lastAt.Add(warySilence) // what it answers is no answer to a request
	return nil
}
