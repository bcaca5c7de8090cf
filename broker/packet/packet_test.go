package packet_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func reader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func read(b []byte, version packet.Version) (packet.Packet, error) {
	return packet.Read(reader(b), version, 0)
}

func TestReadGivesThePacketOfTheVector(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			got, err := read(raw(v.bytes), v.version)
			if err != nil {
				t.Fatalf("Read: %v", err)
			}
			if diff := cmp.Diff(v.packet, got); diff != "" {
				t.Errorf("packet (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendGivesTheBytesOfTheVector(t *testing.T) {
	for _, v := range vectors {
		if v.long {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			got, err := packet.Append([]byte("before"), v.packet, v.version)
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			if want := append([]byte("before"), raw(v.bytes)...); !bytes.Equal(got, want) {
				t.Errorf("bytes\n got %x\nwant %x", got, want)
			}
		})
	}
}

func TestReadOfOneStreamByteByByte(t *testing.T) {
	var stream []byte
	var want, got []packet.Packet
	for _, v := range vectors {
		if v.version == packet.V5 {
			stream = append(stream, raw(v.bytes)...)
			want = append(want, v.packet)
		}
	}
	r := bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), 16)
	for {
		p, err := packet.Read(r, packet.V5, 0)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("packet %d: %v", len(got), err)
		}
		got = append(got, p)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
}

func TestReadOfACutPacketIsAnUnexpectedEnd(t *testing.T) {
	for _, v := range vectors {
		b := raw(v.bytes)
		for n := 1; n < len(b); n++ {
			if _, err := read(b[:n], v.version); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d of %d bytes: error %v", v.name, n, len(b), err)
			}
		}
	}
	if _, err := read(nil, packet.V5); err != io.EOF { //nolint:errorlint // the very value is promised
		t.Errorf("nothing: error %v, want io.EOF", err)
	}
}

func TestReadGivesTheReadersErrorsAsTheyAre(t *testing.T) {
	broken := errors.New("broken")
	for n := range 8 {
		r := io.MultiReader(bytes.NewReader(raw("30 06 0003 'a/b' 'x'")[:n]), iotest.ErrReader(broken))
		if _, err := packet.Read(bufio.NewReader(r), packet.V311, 0); err != broken { //nolint:errorlint // as above
			t.Errorf("after %d bytes: error %v", n, err)
		}
	}
}
