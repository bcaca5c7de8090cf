package serial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Write implements drivers.Device.
func (d *device) Write(ctx context.Context, name string, v drivers.Value) error {
	i, known := d.index[name]
	switch {
	case !known:
		return fmt.Errorf("there is no point %q", name)
	case !d.points[i].Writable:
		return fmt.Errorf("point %q is not writable", name)
	case ctx.Err() != nil:
		return fmt.Errorf("cannot write point %q: %w", name, ctx.Err())
	}
	p := &d.points[i]
	v, err := p.accept(v)
	var send []byte
	if err == nil {
		send, err = d.say(ctx, p, v)
	}
	if err != nil {
		return fmt.Errorf("cannot write point %q: %w", name, err)
	}
	d.forget(name)
	if sent, err := d.command(ctx, send, p.expect); err != nil {
		if sent {
			err = fmt.Errorf("%w: %w", drivers.ErrUncertain, err)
		}
		return err
	}
	if p.assume {
		d.note([]drivers.Reading{{Point: name, Value: v, At: time.Now()}})
	}
	return nil
}

// say is what is sent to write a point, without its frame.
func (d *device) say(ctx context.Context, p *point, v drivers.Value) ([]byte, error) {
	if p.write.empty() && d.coder != nil {
		d.coding.Lock()
		defer d.coding.Unlock()
		return d.coder.Encode(ctx, p.Name, v)
	}
	return p.write.fill(d.talk.place(p.Name, p.write.hex, func(isHex bool) ([]byte, error) { return p.bytes(v, isHex) }))
}

// command sends something, and waits for what acknowledges it, if anything does. It is
// sent once: an error beside sent leaves open what the device makes of it.
func (d *device) command(ctx context.Context, say []byte, expect *wanted) (sent bool, err error) {
	send := say
	if !d.raw {
		if send, err = d.reader.encode(nil, say); err != nil {
			return false, err
		}
	}
	l := d.line
	if err := l.turn.take(ctx, true); err != nil {
		return false, err
	}
	defer l.turn.give()
	if err := d.ready(ctx, expect == nil); err != nil {
		return false, err
	}
	d.meter.Count("commands", 1)
	if expect == nil {
		err = l.send(send)
	} else {
		err = d.try(ctx, send, expect, func([]byte) bool { return true })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastAt = time.Now(); errors.Is(err, errNoAnswer) {
		d.meter.Count("timeouts", 1)
		l.waryTill = l.lastAt.Add(min(d.talk.timeout, longestWary))
		err = fmt.Errorf("the device did not say %s: %w", expect.source, err)
	}
	return true, err
}

// accept makes a written value one of the point's type.
func (p *point) accept(v drivers.Value) (drivers.Value, error) {
	_, number := v.Float()
	switch {
	case v.Kind() == drivers.Text && len(p.words) > 0:
		if meant, ok := p.words.meaning(v.String()); ok {
			return meant, nil
		}
	case v.IsNull():
		return v, errors.New("null cannot be sent")
	}
	if p.words.closed(p.kind) {
		meant, ok := p.words.value(v)
		if !ok {
			return v, fmt.Errorf("%q is none of the values %s", clip(v.String()), p.words.meanings())
		}
		return meant, nil
	}
	switch p.kind {
	case typeNumber:
		if !number || v.Kind() == drivers.Bool {
			return v, fmt.Errorf("%s is not a number", v)
		}
	case typeBool:
		b, ok := v.Bool()
		if !ok {
			return v, fmt.Errorf("%s is not true or false", v)
		}
		return drivers.BoolValue(b), nil
	case typeText:
		return drivers.TextValue(v.String()), nil
	}
	return v, nil
}
