// Package sdk makes a Gatehouse plugin of ordinary drivers and functions: a program of
// its own, which the gateway starts from a manifest, watches, and starts again when it
// crashes. It is all that an author links.
//
// An author implements [drivers.Driver] as if it were part of the gateway and hands
// it to [Serve] in main:
//
//	func main() {
//		sdk.Serve(sdk.Plugin{
//			Name:    "thermostat",
//			Version: "1.0.0",
//			Drivers: map[string]drivers.Driver{"thermostat": thermostat.Driver{}},
//		})
//	}
//
// A function is what rules can call by its name, in expressions and in scripts:
//
//	Funcs: []sdk.Func{{Name: "dew_point", Doc: "dew_point(°C, %): in °C", Call: dewPoint}},
//
//	func dewPoint(_ context.Context, args sdk.Args) (any, error) {
//		var t, rh float64
//		if err := args.Decode(&t, &rh); err != nil {
//			return nil, err
//		}
//		...
//	}
//
// What the author may rely on:
//
//   - A device's methods are called one at a time, as in the gateway, even when the
//     gateway gave up a call and makes the next.
//   - Values, device files and errors cross the process unchanged. [drivers.ErrLost]
//     and [drivers.ConfigError] mean what they mean in the gateway.
//   - [slog] and the log package write to the gateway's log. So does what the
//     program prints, line by line.
//   - A panic in a driver's method is logged with its stack and loses the device,
//     not the process; one in a function is that call's error. A panic in a goroutine of
//     the driver's own ends the process; the gateway starts it again, and the device
//     with it.
//   - When the gateway stops, or is killed, every device is closed and the process
//     ends. Children that the plugin started are killed with it, as long as they
//     stay in its process group.
//
// The environment holds PATH, TZ, LANG and what the manifest lists, nothing else.
// The standard input belongs to this package.
package sdk
