// Package discovery publishes the devices of a gateway in the words of others, so that
// they find them by themselves: Home Assistant (MQTT discovery, a device a message),
// Sparkplug B 3.0 (the gateway is an edge node) and Homie 5.
//
// A [Publisher] hears what devices publish on their topics, asks a device host which
// devices there are, and publishes them again by the conventions that are switched on,
// for each device or for all. What others write by a convention becomes a command on the
// control topic of the point, with the origin of who wrote it; the device host alone
// judges and answers it.
//
//	p, err := discovery.New(discovery.Options{Devices: host.Described, All: []string{discovery.HomeAssistant}})
//	err = p.Run(ctx, bus)
//
// A point is told once its kind is known, which is with its first value. Points that
// want to be confirmed (drivers.Point.Confirm) are told as read-only: none of the
// conventions can ask back.
package discovery
