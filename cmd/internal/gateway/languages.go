package gateway

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
	"github.com/gatehouse/gatehouse/drivers/gpio"
	"github.com/gatehouse/gatehouse/drivers/host"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
	"github.com/gatehouse/gatehouse/drivers/serial"
	"github.com/gatehouse/gatehouse/drivers/sim"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// newLanguages chooses the rule languages. The function that it returns ends what
// they started, for an engine that is not run.
func newLanguages(opt Options) ([]rules.Language, func() error, error) {
	scripts, err := jsvm.New(jsvm.Options{
		Command: opt.Worker, Log: opt.Log.With("part", "scripts"), Build: opt.Build, Shipped: opt.Shipped,
	})
	if err != nil {
		return nil, nil, err
	}
	return []rules.Language{exprlang.New(), scripts}, scripts.Close, nil
}

// newDevices chooses the drivers; scripts run their codecs.
func newDevices(o drivers.Options, codec drivers.Codec) (*drivers.Host, error) {
	bus, err := modbus.New(modbus.Options{
		OpenSerial: OpenSerial,
		Appear:     serial.Appear,
		Formula:    exprlang.Formula,
		Log:        o.Log,
		Profiles:   profiles.FS(),
	})
	if err != nil {
		return nil, err
	}
	o.Drivers = map[string]drivers.Driver{
		"gpio":             gpio.New(),
		"host":             host.New(""),
		"modbus":           bus,
		"modbus-simulator": bus.Simulator(),
		"modbus-server":    bus.Server(),
		"modbus-gateway":   bus.Gateway(),
		"serial":           serial.New(serial.Options{Codec: codec}),
		"sim":              sim.New(exprlang.Formula),
	}
	o.Conventions = discovery.Conventions()
	return drivers.NewHost(o)
}

// OpenSerial opens a serial port for Modbus: siblings do not know each other. A port
// "pty:LINK" is a pseudo-terminal, whose other end programs open by the link.
func OpenSerial(ctx context.Context, c modbus.SerialConfig) (modbus.Port, error) {
	if link, pseudo := strings.CutPrefix(c.Port, "pty:"); pseudo {
		p, err := serial.OpenPseudo(ctx, link)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	return serial.Open(ctx, serial.PortConfig{
		Port: c.Port, Baud: c.Baud, Parity: c.Parity, DataBits: c.DataBits, StopBits: c.StopBits, Wiring: c.Wiring,
	})
}

// rulesOptions are what both the gateway and its check make an engine of.
func rulesOptions(cfg *config.Rules, languages []rules.Language, log *slog.Logger) rules.Options {
	o := rules.Options{Languages: languages, Log: log}
	if cfg.Place != (config.Place{}) {
		o.Place = &rules.Place{Latitude: cfg.Place.Latitude, Longitude: cfg.Place.Longitude}
	}
	if zone, err := time.LoadLocation(cfg.Timezone); err == nil && cfg.Timezone != "" { // it was checked
		o.Zone = zone
	}
	return o
}
