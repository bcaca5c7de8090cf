package serial

import (
	"context"
	"time"
	"unsafe"

	"github.com/gatehouse/gatehouse/drivers"
)

// Parser returns what makes readings of a device's lines.
func Parser(cfg drivers.Config) (func([]byte) ([]drivers.Reading, error), error) {
	s, err := understand(cfg)
	if err != nil {
		return nil, err
	}
	return func(line []byte) ([]drivers.Reading, error) { return s.readings(line, time.Time{}) }, nil
}

// Framer returns what cuts a stream into lines.
func Framer(delimiter string, most int, line func([]byte), tooLong func()) func([]byte) {
	f := &framer{delimiter: []byte(delimiter), most: most}
	return func(b []byte) { f.feed(b, line, tooLong) }
}

// Appear is the function of that name, for another place than Linux has.
func (f Finder) Appear(ctx context.Context, port string, gone bool) error {
	return f.appear(ctx, port, gone)
}

// Lines are the modem lines of a port in the hands of a test.
type Lines struct {
	Set    func(bits int, high bool) error
	Unsent func() (int, bool, error)
}

func (l Lines) set(bits int, high bool) error { return l.Set(bits, high) }
func (l Lines) unsent() (int, bool, error)    { return l.Unsent() }

// Switched has the port switch its sender by the lines.
func Switched(p *Port, r RS485, l Lines) error {
	p.rs485, p.lines = r, l
	return p.prepareRS485()
}

// KernelRS485 are the words of struct serial_rs485 for a configuration.
func KernelRS485(r RS485) (words [8]uint32) {
	k := r.kernel()
	return *(*[8]uint32)(unsafe.Pointer(&k))
}
