package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins"
	"github.com/gatehouse/gatehouse/rules"
)

// Check judges the files of a configuration without running anything of them:
// users, ACL, certificates, rules, devices, plugin manifests. It returns every error
// that there is; and warnings, of what is no error but will not go well: lines that more
// is asked of than fits.
func Check(ctx context.Context, cfg *config.Config, opt Options) (errs []error, warnings []string) {
	opt.Log = slog.New(slog.DiscardHandler)
	_, err := readPolicy(cfg)
	all := append(each(err), checkListeners(cfg.Broker.Listeners)...)
	manifests, err := plugins.ReadManifests(cfg.Plugins.Folder)
	all = append(all, each(err)...)
	for i := range manifests {
		if !manifests[i].Enabled {
			continue // its program may be gone already, or not be there yet
		}
		if err := manifests[i].Verify(); err != nil {
			all = append(all, fmt.Errorf("%s: %w", manifests[i].File, err))
		}
	}
	all = append(all, each(checkRules(ctx, &cfg.Rules, opt))...)
	warnings, err = checkDevices(ctx, cfg.Devices.Folder, manifests, opt)
	return append(all, each(err)...), warnings
}

// checkListeners reads the certificates that listeners name.
func checkListeners(listeners []config.Listener) []error {
	var all []error
	for i := range listeners {
		l := &listeners[i]
		if !l.OverTLS() || len(l.TLS.Certificates) == 0 {
			continue
		}
		if err := tlsOf(l).Check(); err != nil {
			all = append(all, fmt.Errorf("listener %s://%s: %w", l.Protocol, l.Address, err))
		}
	}
	return all
}

func checkRules(ctx context.Context, cfg *config.Rules, opt Options) error {
	languages, closeAll, err := newLanguages(opt)
	if err != nil {
		return err
	}
	engine, err := rules.New(rulesOptions(cfg, languages, opt.Log))
	if err != nil {
		return errors.Join(err, closeAll())
	}
	err = engine.Load(ctx, os.DirFS(cfg.Folder))
	return errors.Join(err, closeAll())
}

func checkDevices(ctx context.Context, folder string, manifests []plugins.Manifest, opt Options) (warnings []string, err error) {
	offered := make(map[string]bool)
	for _, m := range manifests {
		for _, name := range m.Drivers {
			offered[name] = true
		}
	}
	host, closeAll, err := checkHost(folder, opt, func(name string) (drivers.Driver, bool) { return unchecked{}, offered[name] })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	if err := host.Check(ctx, os.DirFS(folder)); err != nil {
		return nil, err
	}
	lines, err := host.Forecast(ctx, os.DirFS(folder))
	for _, l := range lines {
		if said := l.Warning(); said != "" {
			warnings = append(warnings, said)
		}
	}
	return warnings, err
}

// checkHost returns a host that judges device files, and what ends what it started.
func checkHost(folder string, opt Options, more func(string) (drivers.Driver, bool)) (*drivers.Host, func() error, error) {
	languages, closeAll, err := newLanguages(opt)
	if err != nil {
		return nil, nil, err
	}
	where := func() string { return folder }
	host, err := newDevices(drivers.Options{Log: opt.Log, Lookup: more, Folder: where}, newCodec(languages, opt.Log))
	if err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return host, closeAll, nil
}

// unchecked stands for a driver of a plugin, which alone can judge its device
// files, and does not run here.
type unchecked struct{}

func (unchecked) Check(drivers.Config) ([]drivers.Point, error) { return nil, nil }

func (unchecked) Open(context.Context, drivers.Config) (drivers.Device, error) {
	return nil, errors.New("the plugin does not run")
}
