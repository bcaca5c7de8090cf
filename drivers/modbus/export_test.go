package modbus

import (
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/gatehouse/gatehouse/drivers"
)

// AppendCRC adds the checksum of an RTU frame.
func AppendCRC(frame []byte) []byte { return appendCRC(frame) }

// Request is a request, for tests.
type Request struct {
	Unit        uint8
	Fn          Function
	Addr, Count uint16
	Data        []byte
	Raw         bool
}

func (r Request) inner() request {
	return request{unit: r.Unit, fn: r.Fn, addr: r.Addr, count: r.Count, data: r.Data, raw: r.Raw}
}

// PDU is the request's PDU.
func (r Request) PDU() []byte { return r.inner().appendPDU(nil) }

// Judge says what a PDU is to the request: "granted", "refused" or "foreign".
func (r Request) Judge(pdu []byte) (verdict string, data []byte, code Code) {
	v, data, code := r.inner().judge(pdu)
	return verdictName(v), data, code
}

func verdictName(v verdict) string {
	return map[verdict]string{granted: "granted", refused: "refused", foreign: "foreign"}[v]
}

// Frame is the request's RTU frame.
func (r Request) Frame() []byte { return appendCRC(r.inner().appendPDU([]byte{r.Unit})) }

// Scan looks for the answer in what came on an RTU line.
func (r Request) Scan(heard []byte, echoes bool) (verdict string, data []byte, hunted bool) {
	f := scanRTU(r.inner(), r.Frame(), heard, echoes)
	return verdictName(f.verdict), f.data, f.hunted
}

// ScanASCII looks for the answer in what came on an ASCII line.
func (r Request) ScanASCII(heard []byte, echoes bool) (verdict string, data []byte, odd bool) {
	f := asciiMode{}.scan(r.inner(), r.FrameASCII(), heard, echoes)
	return verdictName(f.verdict), f.data, f.odd
}

// FrameASCII is the request's ASCII frame.
func (r Request) FrameASCII() []byte { return AppendASCII(nil, r.Unit, r.PDU()) }

// AppendASCII adds an ASCII frame.
func AppendASCII(b []byte, unit uint8, pdu []byte) []byte { return asciiMode{}.append(b, unit, pdu) }

// CutASCII takes the ASCII frame that b begins with.
func CutASCII(b []byte) (unit uint8, pdu []byte, ok bool) {
	adu, _, ok := cutASCII(b)
	if !ok {
		return 0, nil, false
	}
	return adu[0], adu[1:], true
}

// ParseRequest reads the PDU of a request.
func ParseRequest(unit uint8, pdu []byte) Request {
	p := parseRequest(unit, pdu)
	return Request{Unit: p.unit, Fn: p.fn, Addr: p.addr, Count: p.count, Data: p.data, Raw: p.raw}
}

// AppendAnswer is the PDU of the answer that grants a request.
func (r Request) AppendAnswer(data []byte) []byte { return r.inner().appendAnswer(nil, data) }

// AnswerLen is the length of the PDU that grants the request.
func (r Request) AnswerLen() int { return r.inner().answerLen() }

// CutADU takes the first frame of a TCP stream.
func CutADU(b []byte) (transaction uint16, unit uint8, pdu []byte, n int, err error) {
	a, n, err := cutADU(b)
	return a.transaction, a.unit, a.pdu, n, err
}

// AppendADU adds a frame of Modbus TCP.
func AppendADU(b []byte, transaction uint16, unit uint8, pdu []byte) []byte {
	return adu{transaction: transaction, unit: unit, pdu: pdu}.append(b)
}

// Codec is how a point becomes a value.
type Codec struct{ codec }

// NewCodec makes a codec of the words of a device file; an empty one is absent.
func NewCodec(kind, order, scale, offset string) (Codec, error) {
	file := "type: " + kind
	for _, key := range []struct{ name, value string }{{"order", order}, {"scale", scale}, {"offset", offset}} {
		if key.value != "" {
			file += ", " + key.name + ": " + key.value
		}
	}
	if kind == "bool" {
		return codecOf("coil: 0")
	}
	return CodecOf(file)
}

// CodecOf makes a codec of the keys of a point in a holding register.
func CodecOf(keys string) (Codec, error) { return codecOf("holding: 0, " + keys) }

func codecOf(keys string) (Codec, error) {
	var t tableFile
	if err := yaml.UnmarshalWithOptions([]byte("{"+keys+"}"), &t, yaml.Strict()); err != nil {
		return Codec{}, err
	}
	var s pointSpec
	err := t.resolve(&s)
	return Codec{s.codec}, err
}

// TypeNames are the types that a device file can name.
func TypeNames() []string {
	all := make([]string, len(types))
	for i, t := range types {
		all[i] = t.name
	}
	return all
}

// Size is how many bytes the codec's values take.
func (c *Codec) Size() int { return c.bytes }

// Mask is the bits that are the codec's.
func (c *Codec) Mask() []byte { return c.mask() }

// Decode gives the value of bytes.
func (c *Codec) Decode(wire []byte) (drivers.Value, error) { return c.decode(wire) }

// DecodeSlowly gives the value of a scaled integer by big numbers alone.
func (c *Codec) DecodeSlowly(wire []byte) drivers.Value {
	return c.bigInt(c.raw(wire)).mul(c.scale).add(c.offset).value()
}

// Encode gives the bytes of a value.
func (c *Codec) Encode(v drivers.Value) ([]byte, error) { return c.encode(v) }

// Span is a run of bits or registers.
type Span struct {
	Fn          Function
	Addr, Count uint16
}

func (s Span) inner() span { return span{fn: s.Fn, addr: s.Addr, count: s.Count} }

func outer(s span) Span { return Span{Fn: s.fn, Addr: s.addr, Count: s.count} }

// Padded lists what may be read in place of a span.
func (s Span) Padded() []Span {
	var out []Span
	for p := range s.inner().padded {
		out = append(out, outer(p))
	}
	return out
}

// Block is what one request reads.
type Block struct {
	Span
	Points []int
}

// Plan plans the spans that are due, when some are known to be refused.
func Plan(spans []Span, due []int, request, item time.Duration, barred []Span) []Block {
	return PlanWithin(Limits{}, spans, due, request, item, barred)
}

// Limits are what a device bears to be asked.
type Limits struct {
	Registers, Bits int
	Gap             int // with HasGap
	HasGap          bool
	Never           []Span
}

// PlanWithin is Plan within limits.
func PlanWithin(l Limits, spans []Span, due []int, request, item time.Duration, barred []Span) []Block {
	within := &limits{registers: l.Registers, bits: l.Bits, gap: l.Gap, hasGap: l.HasGap}
	for _, s := range l.Never {
		within.never = append(within.never, s.inner())
	}
	memory := &refusals{now: time.Now}
	for _, s := range barred {
		memory.add(s.inner(), time.Hour)
	}
	inner := make([]span, len(spans))
	for i, s := range spans {
		inner[i] = s.inner()
	}
	var out []Block
	for _, b := range plan(inner, due, cost{request: request, item: item}, within, memory) {
		out = append(out, Block{Span: outer(b.span), Points: b.points})
	}
	return out
}

// Lengths tells answers apart.
type Lengths struct{ lengths }

// NewLengths returns an empty one.
func NewLengths() *Lengths { return &Lengths{lengths{used: map[slot]*use{}}} }

// Claim takes a length for a span.
func (l *Lengths) Claim(unit uint8, s Span, now time.Time) bool {
	return l.claim(unit, s.Fn, s.Addr, s.Count, now)
}

// Release gives it back.
func (l *Lengths) Release(unit uint8, s Span, until time.Time) {
	l.release(unit, s.Fn, s.Count, until)
}

// Bytes is how many bytes the answer for a span has.
func (s Span) Bytes() int { return s.Fn.bytes(int(s.Count)) }

// Limit is how long a span may be.
func (s Span) Limit() int { return s.Fn.limit() }

// Answer is a simulator's answer to a request.
func Answer(dev drivers.Device, unit uint8, pdu []byte) []byte {
	return dev.(*simulator).answer(nil, unit, pdu)
}

// Registers is a simulator without a server.
func Registers(cfg drivers.Config, formula drivers.Formula) (drivers.Device, error) {
	spec, err := decodeSimulator(cfg, formula)
	if err != nil {
		return nil, err
	}
	return newSimulator(spec, slog.New(slog.DiscardHandler)), nil
}

// ServeSimulator serves a simulator of no points until stop is called.
func ServeSimulator(ln net.Listener, log *slog.Logger) (stop func()) {
	s := newNetServer(ln, log, 16, func(net.Conn) (answerer, error) { return func([]byte, uint8, []byte) []byte { return nil }, nil })
	s.start()
	return func() { s.stop() }
}

// GatewayAnswer passes a request on as a gateway does that listens nowhere. Done ends it.
func GatewayAnswer(d *Driver, cfg drivers.Config) (answer func(unit uint8, pdu []byte) []byte, done func(), err error) {
	spec, err := decodeGateway(cfg)
	if err != nil {
		return nil, nil, err
	}
	g, err := newGateway(d, spec)
	if err != nil {
		return nil, nil, err
	}
	return func(unit uint8, pdu []byte) []byte { return g.answer(nil, unit, pdu, false) }, func() { g.end(); g.bus.release() }, nil
}

// Tape is what the units of a recording answer.
type Tape struct{ *tape }

// ReadTape reads a recording.
func ReadTape(path string) (Tape, error) {
	file, err := os.Open(path)
	if err != nil {
		return Tape{}, err
	}
	defer func() { _ = file.Close() }()
	return ParseTape(path, file)
}

// ParseTape reads a recording.
func ParseTape(name string, r io.Reader) (Tape, error) {
	t, err := readTape(name, r)
	return Tape{t}, err
}

// Play is what a unit answers.
func (t Tape) Play(unit uint8, pdu []byte) ([]byte, time.Duration, error) { return t.play(unit, pdu) }
