package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/modbus/linetest"
)

// linePeerEnv makes the test program a line with a unit at its end: a process of its
// own, so that the driver's processor time can be told from the line's.
const linePeerEnv = "GATEHOUSE_TEST_LINE_BAUD"

// linePeer is that process: it says where the line begins, and ends with its input.
func linePeer(baud string) error {
	n, err := strconv.Atoi(baud)
	if err != nil {
		return err
	}
	line, err := linetest.New(n, 10)
	if err != nil {
		return err
	}
	end, err := os.OpenFile(line.B, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	go func() {
		frame := make([]byte, 8)
		for {
			if _, err := io.ReadFull(end, frame); err != nil {
				return
			}
			count := binary.BigEndian.Uint16(frame[4:])
			answer := []byte{frame[0], frame[1], byte(2 * count)}
			for i := range count {
				answer = binary.BigEndian.AppendUint16(answer, binary.BigEndian.Uint16(frame[2:])+i)
			}
			if _, err := end.Write(withCRC(answer)); err != nil {
				return
			}
		}
	}()
	fmt.Println(line.A)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// withCRC adds the checksum of an RTU frame (Modbus over Serial Line V1.02 §6.2.2).
func withCRC(frame []byte) []byte {
	crc := uint16(0xFFFF)
	for _, b := range frame {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return binary.LittleEndian.AppendUint16(frame, crc)
}

// startLine starts a line in a process of its own and gives the path of its near end.
func startLine(t testing.TB, baud int) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", linePeerEnv, baud))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		_ = cmd.Wait()
	})
	path, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(path)
}

// lineDevice is a unit of a line with so many registers, read as one block.
func lineDevice(t testing.TB, baud, registers int) (read func() error) {
	t.Helper()
	near := startLine(t, baud)
	d, err := modbus.New(modbus.Options{OpenSerial: OpenSerial})
	if err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	fmt.Fprintf(&file, "driver: modbus\nserial: {port: %s, baud: %d, parity: none}\npoints:\n", near, baud)
	names := make([]string, registers)
	for i := range names {
		names[i] = fmt.Sprintf("p%d", i)
		fmt.Fprintf(&file, "  p%d: {holding: %d}\n", i, i)
	}
	dev, err := d.Open(context.Background(), drivertest.Config(t, "plc", file.String()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return func() error {
		readings, err := dev.Read(context.Background(), names)
		if err != nil {
			return err
		}
		for i, r := range readings {
			if want := strconv.Itoa(i); r.Value.String() != want || r.Err != nil {
				return fmt.Errorf("register %s is %s (%w)", want, r.Value, r.Err)
			}
		}
		return nil
	}
}

// A unit at the end of a line that keeps time is read right.
func TestReadOverALineThatKeepsTime(t *testing.T) {
	if testing.Short() {
		t.Skip("an emulator cannot start this program again")
	}
	read := lineDevice(t, 115200, 100)
	for range 5 {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkReadLine tells the share of what the line allows that is reached: its bound
// is the characters of request and answer and two silences.
func BenchmarkReadLine(b *testing.B) {
	for _, baud := range []int{9600, 115200} {
		for _, registers := range []int{10, 100} {
			b.Run(fmt.Sprintf("baud=%d/registers=%d", baud, registers), func(b *testing.B) {
				read := lineDevice(b, baud, registers)
				char := 10 * time.Second / time.Duration(baud)
				silence := char * 7 / 2
				if baud > 19200 {
					silence = 1750 * time.Microsecond
				}
				bound := time.Duration(13+2*registers)*char + 2*silence
				before := cpu(b)
				for b.Loop() {
					if err := read(); err != nil {
						b.Fatal(err)
					}
				}
				used := cpu(b) - before
				b.ReportMetric(100*float64(bound)*float64(b.N)/float64(b.Elapsed()), "%of-bound")
				b.ReportMetric(float64(used)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}
