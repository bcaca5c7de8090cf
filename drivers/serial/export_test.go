package serial

import (
	"time"

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
