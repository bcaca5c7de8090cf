package gateway_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// The modem lines of a Modbus line are those of its port: a pseudo-terminal has none.
func TestOpenSerialSetsModemLines(t *testing.T) {
	link := filepath.Join(t.TempDir(), "port")
	far, err := serial.OpenPseudo(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	c := modbus.SerialConfig{Port: link, Baud: 9600, Parity: "none", DataBits: 8, StopBits: 1}
	for _, w := range []struct {
		wiring drivers.Wiring
		want   string
	}{
		{drivers.Wiring{DTR: drivers.Low}, "dtr cannot be low: it has no modem lines"},
		{drivers.Wiring{RS485: drivers.RS485{By: drivers.RS485RTS}}, "the line RTS cannot switch an RS-485 sender"},
	} {
		c.Wiring = w.wiring
		if _, err := gateway.OpenSerial(t.Context(), c); err == nil || !strings.Contains(err.Error(), w.want) {
			t.Errorf("want %s, got %v", w.want, err)
		}
	}
	c.Wiring = drivers.Wiring{Flow: drivers.FlowNone}
	port, err := gateway.OpenSerial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := port.Close(); err != nil {
		t.Error(err)
	}
}
