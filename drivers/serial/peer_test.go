package serial_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// TestPySerial has foreign equipment at the other end of a line: sensors made with
// pyserial, of which one is not there.
func TestPySerial(t *testing.T) {
	dir := t.TempDir()
	near, far := filepath.Join(dir, "near"), filepath.Join(dir, "far")
	socat(t, near, far)
	peer := exec.Command("/usr/bin/python3", "testdata/sensor.py", far) // Debian's sees python3-serial
	out, err := peer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = peer.Process.Kill() // it may have ended
		_ = peer.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("python3-serial is needed: %q, %v", line, err)
	}
	driver := serial.New(serial.Options{})
	sensor := func(address int) drivers.Device {
		cfg := drivertest.Config(t, fmt.Sprint("s", address), fmt.Sprintf(`driver: serial
port: %s
baud: 115200
frame: {type: length, start: "hex:7e", offset: 1}
checksum: {type: crc16-modbus}
format: binary
address: %d
timeout: 500ms
request: "hex:7e 00 ${address} 03"
answer: "hex:7e 05 0%d"
points:
  t: {at: 3, type: int16, scale: 0.1, writable: true, write: "hex:7e 00 ${address} 06 ${value}", expect: "hex:7e 05 0%d"}
`, near, address, address, address))
		dev, err := driver.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		})
		return dev
	}
	one, two, none := sensor(1), sensor(2), sensor(9)
	for range 20 {
		wantRead(t, one, "t=20", "t")
		wantRead(t, two, "t=-5", "t")
	}
	wantRead(t, none, "no answer within 500ms", "t")
	if err := one.Write(t.Context(), "t", drivers.DecimalValue(-215, -1)); err != nil {
		t.Error(err)
	}
	wantRead(t, one, "t=-21.5", "t")
	wantRead(t, two, "t=-5", "t")
}
