package modbus_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// told takes what a tap has been told.
func told(traffic <-chan drivers.Traffic) string {
	var all []string
	for len(traffic) > 0 {
		one, ok := <-traffic
		if !ok {
			return strings.Join(append(all, "end"), ", ")
		}
		all = append(all, fmt.Sprintf("%s%x", map[bool]string{true: ">", false: "<"}[one.Sent], one.Data))
	}
	return strings.Join(all, ", ")
}

func TestWireOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		file := "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\nunit: 1\npoints:\n  a: {holding: 5}\n"
		dev := open(t, d, file).(drivers.Wired)
		if got, want := fmt.Sprint(dev.Wire()), "{modbus-rtu serial /dev/fake 9600 8E1 1 1s}"; got != want {
			t.Errorf("want the wire %s, got %s", want, got)
		}
		read(t, dev, "a")
		traffic, stop := dev.Tap()
		_, others, stopOthers, err := d.TapWire(config(t, file))
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		read(t, dev, "a")
		sent, heard := <-traffic, <-traffic
		want := fmt.Sprintf("%x", modbus.AppendCRC([]byte{1, 3, 2, fakeHigh(5), fakeLow(5)}))
		if fmt.Sprintf("%x", sent.Data) != fmt.Sprintf("%x", modbus.AppendCRC([]byte{1, 3, 0, 5, 0, 1})) || !sent.Sent ||
			fmt.Sprintf("%x", heard.Data) != want || heard.Sent {
			t.Errorf("want the request and the answer %s, got %+v and %+v", want, sent, heard)
		}
		if char := 11 * time.Second / 9600; sent.At.Before(begun) || heard.At.Sub(sent.At) < 8*char || heard.At.After(time.Now()) {
			t.Errorf("want the times of the request and of the first byte of the answer, got %v and %v after %v", sent.At.Sub(begun), heard.At.Sub(begun), begun)
		}
		if got := told(others); strings.Count(got, ",") != 1 {
			t.Errorf("want two pieces told to who watches the driver, too, got %s", got)
		}
		stop()
		stop()
		if _, open := <-traffic; open {
			t.Error("want the traffic ended by stop")
		}
		traffic, stop = dev.Tap()
		defer stop()
		if err := dev.Send(t.Context(), modbus.AppendCRC([]byte{1, 3, 0, 6, 0, 1})); err != nil {
			t.Fatal(err)
		}
		if got, want := told(traffic), fmt.Sprintf(">%x, <%x", modbus.AppendCRC([]byte{1, 3, 0, 6, 0, 1}), modbus.AppendCRC([]byte{1, 3, 2, fakeHigh(6), fakeLow(6)})); got != want {
			t.Errorf("want what was sent and its answer %s, got %s", want, got)
		}
		wantRead(t, dev, map[string]string{"a": fmt.Sprint(fakeValue(1, 3, 5))})
		_ = dev.Close()
		for range traffic { // it ends with the device
		}
		if traffic, stop := dev.Tap(); traffic != nil {
			if _, open := <-traffic; open {
				t.Error("want no traffic of a device that is closed")
			}
			stop()
		}
		stopOthers()
	})
}

func fakeHigh(addr uint16) byte { return byte(fakeValue(1, 3, addr) >> 8) }
func fakeLow(addr uint16) byte  { return byte(fakeValue(1, 3, addr)) }

// What is sent by hand over TCP is answered, shown, and taken for nobody's answer.
func TestWireOfAConnection(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, address := simulator(t, d, "  a: {holding: 1, initial: 7}\n  b: {holding: 2, initial: 8}\n")
	dev := open(t, d, "driver: modbus\ntcp: "+address+"\npoints:\n  a: {holding: 1}\n").(drivers.Wired)
	traffic, stop := dev.Tap()
	defer stop()
	wantRead(t, dev, map[string]string{"a": "7"})
	sent, heard := <-traffic, <-traffic
	if got := fmt.Sprintf("%x %x", sent.Data[2:], heard.Data[2:]); got != "00000006010300010001 00000005010302"+"0007" || string(sent.Data[:2]) != string(heard.Data[:2]) {
		t.Errorf("want the frames of a read, got %s", got)
	}
	if err := dev.Send(t.Context(), modbus.AppendADU(nil, 0xABCD, 1, []byte{3, 0, 2, 0, 1})); err != nil {
		t.Fatal(err)
	}
	if got, want := told(traffic), ">abcd00000006010300020001, <abcd000000050103020008"; got != want {
		t.Errorf("want %s, got %s", want, got)
	}
	wantRead(t, dev, map[string]string{"a": "7"})
}

// A unit that does not answer, so that it cannot be opened, is watched as it is tried.
func TestWireOfADeviceThatIsNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFakeLine(1, time.Second, 1)
		d := newDriver(t, modbus.Options{OpenSerial: line.open})
		cfg := config(t, "driver: modbus\nserial: {port: /dev/fake, baud: 9600}\nunit: 9\npoints:\n  a: {holding: 5}\n")
		w, traffic, stop, err := d.TapWire(cfg)
		if err != nil || w.Unit != 9 {
			t.Fatal(w, err)
		}
		if _, err := d.Open(t.Context(), cfg); err == nil {
			t.Fatal("want no device")
		}
		if got := told(traffic); !strings.HasPrefix(got, fmt.Sprintf(">%x", modbus.AppendCRC([]byte{9, 3, 0, 5, 0, 1}))) || strings.Contains(got, "<") {
			t.Errorf("want the requests alone, got %s", got)
		}
		stop()
	})
}

// Nobody who watches costs nothing.
func BenchmarkReadWithNobodyOnTheWire(b *testing.B) {
	d := newDriver(b, modbus.Options{})
	_, address := simulator(b, d, "  a: {holding: 1, initial: 7}\n")
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%v", watched), func(b *testing.B) {
			dev := open(b, d, "driver: modbus\ntcp: "+address+"\npoints:\n  a: {holding: 1}\n").(drivers.Wired)
			if watched {
				_, stop := dev.Tap()
				defer stop()
			}
			b.ReportAllocs()
			for b.Loop() {
				read(b, dev, "a")
			}
		})
	}
}
