package modbus_test

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// libmodbus compiles a program of testdata with libmodbus.
func libmodbus(t testing.TB, name string) (program string) {
	t.Helper()
	gcc := need(t, "gcc", "gcc libmodbus-dev")
	program = filepath.Join(t.TempDir(), name)
	build := exec.Command(gcc, "-O2", "-I/usr/include/modbus", "-o", program, filepath.Join("testdata", name+".c"), "-lmodbus")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s; apt-get install gcc libmodbus-dev: %v\n%s", name, err, out)
	}
	return program
}

// libmodbusClient is libmodbus' client, in a process of its own.
type libmodbusClient struct {
	in  io.Writer
	out *bufio.Reader
}

func startLibmodbusClient(t testing.TB, port int) *libmodbusClient {
	t.Helper()
	cmd := exec.Command(libmodbus(t, "libmodbus_client"), strconv.Itoa(port))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("libmodbus' client: %v: %s", err, said.String())
		}
	})
	return &libmodbusClient{in: in, out: bufio.NewReader(out)}
}

// read lets it read so many registers again and again.
func (c *libmodbusClient) read(registers int, d time.Duration) (done pace, err error) {
	if _, err := fmt.Fprintf(c.in, "%d %d\n", registers, d.Milliseconds()); err != nil {
		return done, err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return done, err
	}
	_, err = fmt.Sscanf(line, "%d %d", &done.reads, &done.took)
	return done, err
}

// pace is how many reads were done in a time.
type pace struct {
	reads int
	took  time.Duration
}

func (p *pace) add(o pace) { p.reads, p.took = p.reads+o.reads, p.took+o.took }

func (p pace) perSecond() float64 { return float64(p.reads) / p.took.Seconds() }

// again does a read again and again.
func again(d time.Duration, read func() error) (done pace, err error) {
	start := time.Now()
	for done.took < d {
		if err := read(); err != nil {
			return done, err
		}
		done.reads++
		done.took = time.Since(start)
	}
	return done, nil
}

// contestant reads the same registers as the others, from a server of its own.
type contestant struct {
	name string
	read func(time.Duration) (pace, error)
	sum  pace
	x    []float64 // by slice: how many times as fast as the first one
}

// contestants are libmodbus' client, a device, and a Client, in that order.
func contestants(b *testing.B, server string, registers int) []*contestant {
	d := newDriver(b, modbus.Options{})
	var ports [3]int
	for i := range ports { // a server takes one connection
		ports[i] = freePort(b)
		peer(b, server, strconv.Itoa(ports[i]))
	}
	file, names := tags(fmt.Sprintf("127.0.0.1:%d", ports[0]), registers, "")
	dev := openSoon(b, d, file)
	client, err := d.Dial(modbus.Target{TCP: fmt.Sprintf("127.0.0.1:%d", ports[1])})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	theirs := startLibmodbusClient(b, ports[2])
	last := 7*(registers-1) + 1 // what the server has there
	return []*contestant{
		{name: "libmodbus", read: func(d time.Duration) (pace, error) { return theirs.read(registers, d) }},
		{name: "device", read: func(d time.Duration) (pace, error) {
			return again(d, func() error {
				readings, err := dev.Read(b.Context(), names)
				if err == nil && (len(readings) != registers || readings[registers-1].Value.String() != strconv.Itoa(last)) {
					err = fmt.Errorf("read %v", readings)
				}
				return err
			})
		}},
		{name: "client", read: func(d time.Duration) (pace, error) {
			return again(d, func() error {
				got, err := client.ReadRegisters(b.Context(), 1, modbus.ReadHoldingRegisters, 0, uint16(registers))
				if err == nil && int(got[registers-1]) != last {
					err = fmt.Errorf("read %v", got)
				}
				return err
			})
		}},
	}
}

// BenchmarkReadAgainstLibmodbus compares reads a second over loopback with those of
// libmodbus' client in C, which read by turns. One operation is a slice of each; x is
// how many times as fast as libmodbus, the median over the slices.
func BenchmarkReadAgainstLibmodbus(b *testing.B) {
	const slice = 100 * time.Millisecond
	server := libmodbus(b, "libmodbus_server")
	for _, registers := range []int{10, 100} {
		b.Run("registers="+strconv.Itoa(registers), func(b *testing.B) {
			all := contestants(b, server, registers)
			before := cpuTime(b)
			for turn := 0; b.Loop(); turn++ {
				paces := make([]pace, len(all))
				for i := range all {
					at := (turn + i) % len(all)
					var err error
					if paces[at], err = all[at].read(slice); err != nil {
						b.Fatal(all[at].name, err)
					}
				}
				for i, c := range all {
					c.sum.add(paces[i])
					c.x = append(c.x, paces[i].perSecond()/paces[0].perSecond())
				}
			}
			used := cpuTime(b) - before
			for i, c := range all {
				b.ReportMetric(c.sum.perSecond(), c.name+"/s")
				if i > 0 {
					slices.Sort(c.x)
					b.ReportMetric(c.x[len(c.x)/2], "x-"+c.name)
				}
			}
			b.ReportMetric(float64(used.Microseconds())/float64(all[1].sum.reads+all[2].sum.reads), "cpu-us/read")
		})
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
