package gateway

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// Reload puts another configuration into force: folders, their files, users, the ACL,
// certificates and the log level. If anything else is different, or users and ACL are
// not right, it changes nothing and says why.
func (g *Gateway) Reload(ctx context.Context, next *config.Config) error {
	g.accessFiles.settle(ctx, next.Broker.Users, next.Broker.ACL)
	if _, err := readPolicy(next); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	g.mu.Lock()
	if fixed := needsRestart(g.cfg, next); len(fixed) > 0 {
		g.mu.Unlock()
		return fmt.Errorf("a change of %s needs a restart; nothing was changed", strings.Join(fixed, ", "))
	}
	moved := g.cfg.Broker.Users != next.Broker.Users || g.cfg.Broker.ACL != next.Broker.ACL || g.cfg.Rules.Folder != next.Rules.Folder || g.cfg.Devices != next.Devices || g.cfg.Plugins != next.Plugins
	g.cfg = next
	g.mu.Unlock()
	if g.opt.Level != nil {
		g.opt.Level.Set(next.LogLevel())
	}
	if moved {
		select {
		case g.moved <- struct{}{}:
		default: // the watch has yet to see the last one
		}
	}
	for _, load := range []func(context.Context) error{g.loadAccess, g.loadRules, g.loadPlugins, g.loadDevices} {
		_ = load(ctx) // told in the log, file by file
	}
	g.plugins.Retry() // whoever reloads has mended something, perhaps
	g.reloadCertificates()
	return nil
}

// needsRestart names the keys whose change does not take effect while running.
func needsRestart(now, next *config.Config) []string {
	var keys []string
	was, is := &now.Broker, &next.Broker
	for _, k := range []struct {
		key       string
		was, will any
	}{
		{"broker.listeners", was.Listeners, is.Listeners},
		{"broker.limits", was.Limits, is.Limits},
		{"broker.session_expiry", was.SessionExpiry, is.SessionExpiry},
		{"broker.offer", was.Offer, is.Offer},
		{"broker.shared", was.Shared, is.Shared},
		{"broker.delayed", was.Delayed, is.Delayed},
		{"broker.priorities", was.Priorities, is.Priorities},
		{"broker.retained_expiry", was.RetainedExpiry, is.RetainedExpiry},
		{"broker.client_events", was.ClientEvents, is.ClientEvents},
		{"rules.place", now.Rules.Place, next.Rules.Place},
		{"rules.timezone", now.Rules.Timezone, next.Rules.Timezone},
		{"rules.http", now.Rules.HTTP, next.Rules.HTTP},
		{"rules.hooks", now.Rules.Hooks, next.Rules.Hooks},
		{"console", now.Console, next.Console},
		{"store", now.Store, next.Store},
		{"history", now.History, next.History},
		{"discovery", now.Discovery, next.Discovery},
		{"log.format", now.Log.Format, next.Log.Format},
	} {
		if !reflect.DeepEqual(k.was, k.will) {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// watch loads a folder again when its files change, and users and ACL when they do, until ctx ends.
func (g *Gateway) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		g.watchFolders(ctx)
	}
	return nil
}

// watchFolders watches the folders of the configuration until ctx ends or another
// configuration names others. One that cannot be watched is read on SIGHUP only.
func (g *Gateway) watchFolders(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := g.config()
	var wait sync.WaitGroup
	defer wait.Wait()
	for _, f := range []struct {
		path string
		load func(context.Context) error
	}{
		{cfg.Rules.Folder, g.loadRules},
		{cfg.Devices.Folder, g.loadDevices},
		{cfg.Plugins.Folder, g.loadPlugins},
		{cfg.Broker.Users, g.loadAccess},
		{cfg.Broker.ACL, g.loadAccess},
	} {
		if f.path == "" {
			continue
		}
		wait.Go(func() {
			if err := Watch(ctx, g.opt.Log, f.path, func() { _ = f.load(ctx) }); err != nil {
				g.opt.Log.Error("a folder is not watched; SIGHUP reads it", "path", f.path, "error", err)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-g.moved:
	}
	cancel()
}
