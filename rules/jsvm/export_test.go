package jsvm

import (
	"bytes"
	"encoding/json"
	"runtime"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// What the external tests need of the pipe's format.

// Records decodes all records of a frame's body.
func Records(body []byte) ([]any, error) {
	var list []any
	for len(body) > 0 {
		rec, rest, err := decodeRecord(body)
		if err != nil {
			return nil, err
		}
		list = append(list, rec)
		body = rest
	}
	return list, nil
}

// Body encodes what Records decoded.
func Body(list []any) []byte {
	var b []byte
	for _, rec := range list {
		b = appendRecord(b, rec.(record))
	}
	return b
}

// SampleBodies are bodies with every kind of record.
func SampleBodies() [][]byte { return sampleBodies() }

// ReadFrame reads a frame from bytes.
func ReadFrame(stream []byte) ([]byte, error) { return readFrame(bytes.NewReader(stream)) }

// FrameOf makes a frame around a body.
func FrameOf(body []byte) ([]byte, error) {
	frame := append(beginFrame(nil), body...)
	return frame, finishFrame(frame)
}

// ScanSource is the scan before the parser.
var ScanSource = scanSource

// ErrMalformed is what cannot be decoded.
var ErrMalformed = errMalformed

// ServeBytes lets a worker (one in this process, without limits) take a body, as
// from its pipe, and returns what it answers.
func ServeBytes(body []byte) ([]byte, error) {
	var out bytes.Buffer
	w := sampleWorker(&out)
	err := w.serveFrame(body)
	return out.Bytes(), err
}

// Settle lets a link take the records of a body as a worker's answers.
func Settle(body []byte) error {
	l := newLink(Options{})
	list, err := Records(body)
	for _, rec := range list {
		if err := l.settle(rec.(record)); err != nil {
			return err
		}
	}
	return err
}

// Later lets the time pass that quarantines are reckoned by.
func (l *Language) Later(d time.Duration) {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	now := l.link.now
	l.link.now = func() time.Time { return now().Add(d) }
}

// Quarantine counts deaths at times after a beginning; it gives the pauses that
// began, 0 where none did.
func Quarantine(deaths ...time.Duration) (pauses []time.Duration) {
	var q quarantine
	begin := time.Now()
	for _, d := range deaths {
		if _, begins := q.strike(begin.Add(d)); begins {
			pauses = append(pauses, q.pause)
		} else {
			pauses = append(pauses, 0)
		}
	}
	return pauses
}

// Forged is what a program of another text would have saved.
func Forged(p rules.Program, text string) []byte {
	was := p.(*program)
	forged := &program{src: was.src, files: was.files, declared: was.declared, uses: was.uses}
	forged.src.Text, forged.kept.windows = []byte(text), was.kept.windows
	b, err := json.Marshal(forged.appendDeclared(nil, was.link.options.Build))
	if err != nil {
		panic(err)
	}
	return b
}

// RuntimeBytes is how much memory a new runtime takes.
func RuntimeBytes(bytes bool) int64 {
	const n = 50
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	(&script{}).setUp(bytes) // what all share
	before := live()
	var all []*script
	for range n {
		s := &script{}
		s.setUp(bytes)
		all = append(all, s)
	}
	took := live() - before
	runtime.KeepAlive(all)
	return took / n
}

// Encoded is what a call is sent as, before its caller uses the memory again and after.
func Encoded(p rules.Program, call *rules.Call, reuse func()) (before, after []byte) {
	it := &item{prog: p.(*program)}
	it.hold(call)
	before = it.append(nil)
	reuse()
	return before, it.append(nil)
}
