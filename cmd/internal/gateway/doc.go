// Package gateway is the composition root: it builds the parts of the program from
// a configuration, starts them in order, reloads them, and stops them in reverse.
//
//	g, err := gateway.New(cfg, gateway.Options{Log: log})
//	err = g.Run(ctx)           // blocks until ctx ends
//	err = g.Reload(ctx, cfg2)  // rules, devices, plugins, users, ACL and the log level; the rest needs a restart
//
// The start order is store, broker, rules, plugins, devices, listeners, console: no
// reading passes before the filters stand. No step waits for a device or a plugin.
package gateway
