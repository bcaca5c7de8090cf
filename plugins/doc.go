// Package plugins runs drivers in processes of their own. A [Host] reads a folder of
// manifests, starts each plugin when its program's SHA-256 is the one written there,
// restarts it with growing pauses when it crashes or hangs, and offers its drivers
// as ordinary ones, so that nobody else can tell, and its functions, see [Host.Funcs].
//
//	h, err := plugins.New(plugins.Options{Log: log})
//	err = h.Load(ctx, "plugins") // what is wrong with single manifests
//	go h.Run(ctx)                // owns the processes until ctx ends
//	d, ok := h.Lookup("thermostat")
//
// A plugin is a folder with a plugin.yaml, the [Manifest], and a program. Its drivers
// can be had from [Host.Lookup] once it has run; [Host.Changed] tells when to ask
// again. From then on they stay: while the process is down, Open fails with
// [ErrNotRunning], and a device that was open in it is drivers.ErrLost, so that
// drivers.Host opens it again after its own back-off.
//
// What holds of every plugin process:
//
//   - What is executed is what was hashed: the program is opened once, hashed, and
//     started from that descriptor; a file that changes meanwhile is refused.
//   - Its environment is PATH, TZ, LANG and what the manifest lists.
//   - Host and plugin speak gRPC on a Unix socket in a folder of mode 0700, with
//     mutual TLS and certificates made for this one run (hashicorp/go-plugin).
//   - It leads a process group, which is killed as a whole when it ends. When the
//     gateway dies, even of SIGKILL, the plugin sees its standard input end and goes;
//     the kernel sends SIGTERM to one that does not look.
//   - What it prints goes to the log, cut and counted beyond a bound.
//
// A plugin is not a sandbox: it runs as the gateway's user. Pin what you trust.
package plugins
