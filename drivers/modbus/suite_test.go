package modbus_test

import (
	"testing"

	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

func TestSuite(t *testing.T) {
	d := newDriver(t, modbus.Options{Formula: formulas})
	_, addr := simulator(t, d, peerPointsSimulated)
	t.Run("modbus", func(t *testing.T) {
		drivertest.Run(t, d, drivertest.Config(t, "press", "driver: modbus\ntcp: "+addr+"\nevery: 1s\npoints:\n"+peerPointsSimulated))
	})
	t.Run("modbus-simulator", func(t *testing.T) {
		drivertest.Run(t, d.Simulator(), drivertest.Config(t, "plc", "driver: modbus-simulator\nlisten: 127.0.0.1:0\npoints:\n"+
			peerPointsSimulated+"  clock: {input: 9, formula: t}\n"))
	})
	t.Run("modbus-gateway", func(t *testing.T) {
		drivertest.Run(t, d.Gateway(), drivertest.Config(t, "gate", "driver: modbus-gateway\nlisten: {address: 127.0.0.1:0}\ntcp: "+addr+"\n"))
	})
	t.Run("modbus-server", func(t *testing.T) {
		drivertest.Run(t, d.Server(), drivertest.Config(t, "panel", "driver: modbus-server\nlisten: {address: 127.0.0.1:0}"+shopPoints))
	})
}

const peerPointsSimulated = `  fan: {coil: 3, writable: true}
  door: {discrete: 1}
  temperature: {input: 0, type: int16, scale: 0.1, deadband: 0.2}
  total: {holding: 100, type: float32, order: CDAB, writable: true}
`
