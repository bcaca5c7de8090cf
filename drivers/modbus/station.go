package modbus

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/drivers"
)

// place is where a server or a simulator is found.
type place struct {
	listen listening
	serial transport // of kind TCP if it listens
}

// line reports whether units answer for themselves alone.
func (p place) line() bool { return p.serial.kind == kindSerial || p.listen.mode != nil }

// station answers requests at a place.
type station struct {
	ctx  context.Context // ends with stop
	end  context.CancelFunc
	net  *netServer     // nil on a line
	run  sync.WaitGroup // the goroutine of a line
	once sync.Once
}

func newStation() *station {
	s := &station{}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// open listens, or opens the port. Admit gives what answers a client, or the line, whose
// connection is nil; lost is called once, if the line is lost before the station is stopped.
func (s *station) open(ctx context.Context, d *Driver, p place, admit func(net.Conn) (answerer, error), lost func(error)) error {
	if p.serial.kind != kindSerial {
		ln, err := p.listen.listen(ctx)
		if err != nil {
			return err
		}
		s.net = newNetServer(ln, d.opts.Log, p.listen.clients, admit)
		s.net.mode = p.listen.mode
		s.net.start()
		return nil
	}
	answer, err := admit(nil)
	if err != nil {
		return err
	}
	port, err := d.opts.OpenSerial(ctx, p.serial.serial)
	if err != nil {
		return err
	}
	l := &lineServer{
		port: port, mode: rtuMode{}, silence: p.serial.gap(), hunt: huntSilence, char: p.serial.serial.char(), lead: p.serial.serial.RS485.DelayBefore,
		echoes: p.serial.echo == echoYes, answer: answer,
	}
	if strings.HasPrefix(p.serial.serial.Port, pseudoPort) {
		l.char = 0 // it is no line: there is no echo
	}
	if p.serial.ascii() {
		l.mode = asciiMode{}
	}
	s.run.Go(func() {
		err := l.run(s.ctx)
		_ = port.Close() // the error above says more
		if s.ctx.Err() == nil {
			lost(fmt.Errorf("%w: %w", drivers.ErrLost, err))
		}
	})
	return nil
}

// everybody admits every client to the same answers.
func everybody(answer answerer) func(net.Conn) (answerer, error) {
	return func(net.Conn) (answerer, error) { return answer, nil }
}

// Addr is the address that the station listens on; nil on a line.
func (s *station) Addr() net.Addr {
	if s.net == nil {
		return nil
	}
	return s.net.ln.Addr()
}

// stop ends the station and waits; false is that it was stopped before.
func (s *station) stop() (first bool) {
	s.once.Do(func() {
		first = true
		s.end()
		if s.net != nil {
			s.net.stop()
		}
		s.run.Wait()
	})
	return first
}

// player is a simulator that answers from a tape. It implements drivers.Pusher, so that it
// can say that its line is lost.
type player struct {
	*station
	pushed chan drivers.Pushed
}

func openPlayer(ctx context.Context, spec *simSpec, d *Driver) (*player, error) {
	p := &player{station: newStation(), pushed: make(chan drivers.Pushed, 1)}
	err := p.open(ctx, d, spec.place, everybody(spec.play(p.ctx)), func(err error) { p.pushed <- drivers.Pushed{Err: err} })
	if err != nil {
		return nil, err
	}
	return p, nil
}

// play answers what was recorded, in the time that it took.
func (s *simSpec) play(ctx context.Context) answerer {
	line, t := s.place.line(), s.tape
	return func(b []byte, unit uint8, pdu []byte) []byte {
		if !line && len(t.units) == 1 && (unit == 0 || unit == 255) {
			for only := range t.units {
				unit = only
			}
		}
		answer, after, err := t.play(unit, pdu)
		switch {
		case err != nil && line: // nobody answers for others
			return b
		case err != nil:
			answer = []byte{pdu[0] | exceptionBit, byte(GatewayPath)}
		case s.timed && answer != nil && pause(ctx, after) != nil:
			return b
		}
		return append(b, answer...)
	}
}

// Points implements drivers.Device.
func (p *player) Points() []drivers.Point { return nil }

// Pushed implements drivers.Pusher.
func (p *player) Pushed() <-chan drivers.Pushed { return p.pushed }

// Read implements drivers.Device.
func (p *player) Read(_ context.Context, names []string) ([]drivers.Reading, error) {
	if len(names) > 0 {
		return nil, fmt.Errorf("%w: %q", errNoPoint, names[0])
	}
	return nil, nil
}

// Write implements drivers.Device.
func (p *player) Write(_ context.Context, name string, _ drivers.Value) error {
	return fmt.Errorf("%w: %q", errNoPoint, name)
}

// Close implements drivers.Device.
func (p *player) Close() error {
	if p.stop() {
		close(p.pushed)
	}
	return nil
}
