package serial

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"
	"unsafe"

	"github.com/gatehouse/gatehouse/drivers"
)

// Parser returns what makes readings of a device's lines.
func Parser(cfg drivers.Config) (func([]byte) ([]drivers.Reading, error), error) {
	s, err := understand(cfg, false)
	if err != nil {
		return nil, err
	}
	return func(line []byte) ([]drivers.Reading, error) { return s.readings(line, time.Time{}, (*point).unasked) }, nil
}

// Writer returns what makes of a value what is sent.
func Writer(cfg drivers.Config) (func(point string, v drivers.Value) ([]byte, error), error) {
	s, err := understand(cfg, false)
	if err != nil {
		return nil, err
	}
	d := &device{spec: s}
	return func(point string, v drivers.Value) ([]byte, error) {
		return d.say(context.Background(), &s.points[s.index[point]], v)
	}, nil
}

// Frames are the framing of a device file in the hands of a test.
type Frames struct{ r reader }

// NewFrames understands a device file.
func NewFrames(cfg drivers.Config) (*Frames, error) {
	s, err := understand(cfg, false)
	if err != nil {
		return nil, err
	}
	return &Frames{s.reader}, nil
}

// Lines are lines with a delimiter.
func Lines(delimiter string, most int) *Frames {
	return &Frames{reader{framing: framing{cutter: delimited{[]byte(delimiter), true, most}, open: true}, most: most}}
}

// Clone is a framing of the same kind that has heard nothing.
func (f *Frames) Clone() *Frames {
	c := &Frames{f.r}
	c.r.buf = nil
	c.r.reset()
	return c
}

func (f *Frames) Skip()                                            { f.r.skip() }
func (f *Frames) Feed(b []byte, got func([]byte), bad func(error)) { f.r.feed(b, got, bad) }
func (f *Frames) Silence(got func([]byte), bad func(error))        { f.r.silence(got, bad) }
func (f *Frames) Encode(say []byte) ([]byte, error)                { return f.r.encode(nil, say) }
func (f *Frames) Most() int                                        { return f.r.most }
func (f *Frames) Waiting() int                                     { return len(f.r.buf) }

// ErrChecksum, ErrTooLong, ErrBroken and ErrNoise are why bytes are no frame.
var ErrChecksum, ErrTooLong, ErrBroken, ErrNoise = errChecksum, errTooLong, errBroken, errNoise

// Checksum computes one of the algorithms.
func Checksum(name string, b []byte) uint64 {
	a := algorithms()[name]
	return a.of(b) & (1<<(8*a.size) - 1)
}

// Algorithms are their names.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms())) }

// Appear is the function of that name, for another place than Linux has.
func (f Finder) Appear(ctx context.Context, port string, gone bool) error {
	return f.appear(ctx, port, gone)
}

// ModemLines are the modem lines of a port in the hands of a test.
type ModemLines struct {
	Set    func(bits int, high bool) error
	Unsent func() (int, bool, error)
}

func (l ModemLines) set(bits int, high bool) error { return l.Set(bits, high) }
func (l ModemLines) unsent() (int, bool, error)    { return l.Unsent() }

// Switched has the port switch its sender by the lines.
func Switched(p *Port, r drivers.RS485, l ModemLines) error {
	p.rs485, p.lines = r, l
	return p.prepareRS485()
}

// KernelRS485 are the words of struct serial_rs485 for a configuration.
func KernelRS485(r drivers.RS485) (words [8]uint32) {
	k := kernelOf(r)
	return *(*[8]uint32)(unsafe.Pointer(&k))
}

// Speaker is a Replay at a port, without one.
type Speaker struct{ s speaker }

// NewSpeaker returns one that begins at the zero time.
func NewSpeaker(r *Replay) *Speaker { return &Speaker{speaker{Replay: r, begun: time.Unix(0, 0)}} }

// Hear has it hear what was written, after so long.
func (s *Speaker) Hear(text string, after time.Duration) {
	s.s.hear([]byte(text), time.Unix(0, 0).Add(after))
}

// Due is what it says then.
func (s *Speaker) Due(after time.Duration) string {
	return string(bytes.Join(s.s.due(time.Unix(0, 0).Add(after)), nil))
}
