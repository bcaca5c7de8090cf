package broker

import (
	"bufio"
	"io"
	"net"
	"syscall"
)

const readSize = 16 << 10

// input reads a connection. While nothing comes, a plain socket holds no buffer.
type input struct {
	nc   net.Conn
	pool *pools
	raw  syscall.RawConn
	try  func(fd uintptr) bool
	err  error
	rd   *reader // nil while there is nothing to read
}

// reader is a pooled read buffer.
type reader struct {
	*bufio.Reader
	nc   net.Conn
	pre  []byte // what came while there was no reader
	have []byte // what of it is not read yet
}

// Read implements [io.Reader] for the buffer.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.have) > 0 {
		n := copy(p, r.have)
		r.have = r.have[n:]
		return n, nil
	}
	return r.nc.Read(p)
}

// source hides reader's other methods from its bufio.Reader.
type source struct{ r *reader }

func (s source) Read(p []byte) (int, error) { return s.r.Read(p) }

func (p *pools) newReader(nc net.Conn, size int) *reader {
	r, ok := p.readers.Get().(*reader)
	if !ok {
		r = &reader{pre: make([]byte, size)}
		r.Reader = bufio.NewReaderSize(source{r}, size)
	}
	r.nc = nc
	return r
}

func newInput(nc net.Conn, p *pools) *input {
	in := &input{nc: nc, pool: p, raw: rawConn(nc)}
	if in.raw == nil {
		r := &reader{nc: nc}
		r.Reader = bufio.NewReaderSize(source{r}, 4<<10)
		in.rd = r
		return in
	}
	in.try = func(fd uintptr) bool {
		r := in.pool.newReader(in.nc, readSize)
		n, ready, err := readNow(fd, r.pre)
		if !ready {
			in.pool.readers.Put(r)
			return false
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		r.have, in.err, in.rd = r.pre[:n], err, r
		return true
	}
	return in
}

// wait returns when there is something to read.
func (in *input) wait() error {
	if in.rd != nil {
		if in.raw == nil || in.rd.Buffered()+len(in.rd.have) > 0 {
			_, err := in.rd.Peek(1)
			return err
		}
		in.free()
	}
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	return in.err
}

// free gives the buffer back, if there is one to give.
func (in *input) free() {
	if in.raw == nil || in.rd == nil {
		return
	}
	r := in.rd
	in.rd, r.nc, r.have = nil, nil, nil
	r.Reset(source{r})
	in.pool.readers.Put(r)
}

// whole reports whether the next packet has come completely, so that reading it
// will not block.
func (in *input) whole() bool {
	if in.rd == nil {
		return false
	}
	buffered := in.rd.Buffered() + len(in.rd.have)
	if buffered < 2 {
		return false
	}
	head, err := in.rd.Peek(min(5, buffered))
	if err != nil {
		return false
	}
	length := 0
	for i, b := range head[1:] {
		length |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			return buffered >= 2+i+length
		}
	}
	return len(head) == 5 // malformed: reading it will say so
}
